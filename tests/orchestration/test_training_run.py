import json
import runpy

import dagster as dg
import pandas as pd
import pytest
import torch

from fourdnex.datasets.versions import write_data_version
from fourdnex.io.files import write_json
from fourdnex.latents.shards import LatentEncoding, write_latent_shard
from fourdnex.workspace import Workspace
from orchestration.defs.training import assets
from orchestration.project import DEPTH_NETWORK_VARIABLE
from orchestration.training_run import (
    MODEL_VARIABLE,
    OPTIONS_VARIABLE,
    TrainingOptions,
    adapter_folder,
    code_version,
    default_training_options,
    depth_network_options,
    encoding_options,
    train_arguments,
)


@pytest.fixture(autouse=True)
def _large_base(monkeypatch):
    """The large base has no depth network, which would add an option."""
    monkeypatch.setenv(MODEL_VARIABLE, "wan2.1-i2v-14b-480p")
    for name in (OPTIONS_VARIABLE, DEPTH_NETWORK_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    workspace = Workspace(tmp_path)
    workspace.latents.mkdir()
    workspace.latent_statistics.write_text("{}")
    write_latent_shard(workspace.latents, "worlds-0000", {"x": torch.ones(1)}, pd.DataFrame(), "f", LatentEncoding())
    return workspace


def test_equal_settings_and_latents_have_one_folder(workspace):
    plain = adapter_folder(workspace, model="tiny", options={})
    assert plain.parent == workspace.adapters
    assert adapter_folder(workspace, model="tiny", options={"steps": 480}) == plain, "an explicit default"
    assert adapter_folder(workspace, model="tiny", options={"steps": 30}) != plain
    workspace.latent_statistics.write_text('{"scale": 2}')
    assert adapter_folder(workspace, model="tiny", options={}) != plain


@pytest.mark.parametrize("encoded_from", ["before.dir", None, "unknown"])
def test_an_adapter_records_the_data_version_of_its_latents(project, workspace, load_defs, instance, encoded_from):
    """Not the version that `data.dvc` names or the graph observed later, which would then never be trained on."""
    if encoded_from != "unknown":
        write_data_version(workspace.latents, "worlds-0000", encoded_from)
    project = project.model_copy(update={"workspace_dir": str(workspace.root)})
    folder = adapter_folder(workspace, model=project.model, options={"xyz_init": "pointmap"})
    summary = {"adapter_digest": "aaaa", "mlflow_run_id": None, "steps": 1, "num_clips": 1, "loss": 1.0}
    write_json(folder / "training" / "summary.json", summary | {"adapter_norm": 1.0, "seconds": 1.0})
    write_json(folder / "adapter.json", {"base_digest": "b", "identity": {}})
    instance.report_runless_asset_event(dg.AssetObservation("source_clips", metadata={"data_md5": "observed.dir"}))
    job = load_defs(project).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("adapter")])
    (event,) = result.get_asset_materialization_events()
    recorded = event.step_materialization_data.materialization.metadata.get("data_md5")
    assert (recorded and recorded.value) == ("observed.dir" if encoded_from == "unknown" else encoded_from)


def test_options_become_arguments(workspace):
    options = {"steps": 30, "track": False, "gradient_checkpointing": True, "targets": ["to_q", "to_k"]}
    given = train_arguments(workspace.latents, workspace.adapters, model="tiny", options=options)
    assert (
        given[given.index("--steps") :] == "--steps 30 --no-track --gradient-checkpointing --targets to_q to_k".split()
    )


@pytest.mark.parametrize("options", [{"step": 30}, {"output": "elsewhere"}, {"steps": 0}])
def test_invalid_options_are_rejected_before_anything_runs(workspace, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        adapter_folder(workspace, model="tiny", options=options)


def test_options_of_the_environment_change_the_code_version(monkeypatch):
    """Otherwise a refused adapter would count as up to date when it is trained again with more steps."""
    assert code_version("1", default_training_options()) == "1"
    monkeypatch.setenv(OPTIONS_VARIABLE, "{}")
    assert code_version("1", default_training_options()) == "1"
    monkeypatch.setenv(OPTIONS_VARIABLE, '{"steps": 30, "rank": 8}')
    short = code_version("1", default_training_options())
    assert short != "1"
    assert code_version("2", encoding_options(default_training_options())) == "2", "the latents do not change"
    monkeypatch.setenv(OPTIONS_VARIABLE, '{"rank":8, "steps":30}')
    assert code_version("1", default_training_options()) == short


@pytest.mark.parametrize("options", [{}, {"normalization": "frame", "steps": 30}])
def test_options_of_the_encoding_change_the_code_version_of_the_latents(monkeypatch, options):
    monkeypatch.setenv(OPTIONS_VARIABLE, json.dumps(options))
    latents = runpy.run_path(assets.__file__)["training_latents"]
    assert latents.code_versions_by_key[latents.key] == ('2 {"normalization": "frame"}' if options else "2")


@pytest.mark.parametrize("given", ["{steps: 30}", "[1]"])
def test_the_error_for_options_that_are_not_a_json_object_names_the_variable(monkeypatch, given):
    monkeypatch.setenv(OPTIONS_VARIABLE, given)
    with pytest.raises(ValueError, match=f"{OPTIONS_VARIABLE}: expected a JSON object, got"):
        default_training_options()


def test_a_run_cannot_set_options_of_the_encoding():
    assert TrainingOptions(options={"seed": 1}).options == {"seed": 1}
    with pytest.raises(ValueError, match=f"got {{'normalization': 'frame'}}: set it in {OPTIONS_VARIABLE}"):
        TrainingOptions(options={"seed": 1, "normalization": "frame"})


def test_adapters_that_need_a_missing_depth_network_are_rejected(monkeypatch):
    monkeypatch.setenv(OPTIONS_VARIABLE, '{"xyz_init": "plane"}')
    assert default_training_options() == {"xyz_init": "plane"}
    monkeypatch.setenv(OPTIONS_VARIABLE, '{"xyz_init": "pointmap"}')
    with pytest.raises(ValueError, match=f"{OPTIONS_VARIABLE}: xyz_init: .* needs a depth network"):
        default_training_options()
    with pytest.raises(ValueError, match=r"options: xyz_init: .* set FOURDNEX_DEPTH_NETWORK"):
        TrainingOptions(options={"xyz_init": "pointmap"})
    monkeypatch.setenv(DEPTH_NETWORK_VARIABLE, "tiny")
    assert default_training_options() == {"xyz_init": "pointmap"}


def test_a_base_with_a_depth_network_defaults_to_first_frame_point_maps(monkeypatch):
    assert default_training_options() == {}
    monkeypatch.setenv(MODEL_VARIABLE, "tiny")
    assert default_training_options() == {"xyz_init": "pointmap"}
    monkeypatch.setenv(OPTIONS_VARIABLE, '{"steps": 30}')
    assert default_training_options() == {"xyz_init": "pointmap", "steps": 30}
    monkeypatch.setenv(OPTIONS_VARIABLE, '{"xyz_init": "plane"}')
    assert default_training_options() == {"xyz_init": "plane"}
    assert TrainingOptions(options={"seed": 1}).options == {"seed": 1}
    monkeypatch.setenv(MODEL_VARIABLE, "/no/base")
    monkeypatch.delenv(OPTIONS_VARIABLE)
    assert default_training_options() == {}


def test_another_depth_network_changes_the_code_version(monkeypatch):
    versions = [code_version("1", depth_network_options())]
    for network in ("tiny", "/models/depth.onnx"):
        monkeypatch.setenv(DEPTH_NETWORK_VARIABLE, network)
        versions.append(code_version("1", depth_network_options()))
    assert versions[0] == "1" and len(set(versions)) == 3


def test_former_names_of_options_are_accepted_with_a_warning(monkeypatch):
    monkeypatch.setenv(OPTIONS_VARIABLE, '{"pure_noise": 0.1, "normalisation": "frame", "statistics_from": "public"}')
    current = {"sigma_one_prob": 0.1, "normalization": "frame", "statistics_from": "reference"}
    with pytest.warns(FutureWarning, match=rf"{OPTIONS_VARIABLE}: deprecated names: pure_noise"):
        assert default_training_options() == current
    with pytest.warns(FutureWarning, match=r"options: deprecated names: pure_noise \(now sigma_one_prob\)"):
        assert TrainingOptions(options={"pure_noise": 0.1}).options == {"sigma_one_prob": 0.1}
