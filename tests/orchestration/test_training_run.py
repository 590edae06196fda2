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
    command_line,
    depth_network_option,
    encoding_options,
    options_of_every_run,
)


@pytest.fixture(autouse=True)
def _of_the_large_base(monkeypatch):
    """With the tiny one comes a depth network, and with it an option."""
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


def test_one_folder_for_equal_settings_and_latents(workspace):
    plain = adapter_folder(workspace, model="tiny", options={})
    assert plain.parent == workspace.adapters
    assert adapter_folder(workspace, model="tiny", options={"steps": 480}) == plain, "the default, said aloud"
    assert adapter_folder(workspace, model="tiny", options={"steps": 30}) != plain
    workspace.latent_statistics.write_text('{"scale": 2}')
    assert adapter_folder(workspace, model="tiny", options={}) != plain


@pytest.mark.parametrize("made_of", ["before.dir", None, "untold"])
def test_an_adapter_is_of_the_data_of_its_latents(project, workspace, load_defs, instance, made_of):
    """Not of those that `data.dvc` names meanwhile, or the graph saw meanwhile: they would never be trained on."""
    if made_of != "untold":
        write_data_version(workspace.latents, "worlds-0000", made_of)
    project = project.model_copy(update={"workspace_dir": str(workspace.root)})
    folder = adapter_folder(workspace, model=project.model, options={"xyz_init": "pointmap"})
    summary = {"adapter_digest": "aaaa", "mlflow_run_id": None, "steps": 1, "num_clips": 1, "loss": 1.0}
    write_json(folder / "training" / "summary.json", summary | {"adapter_norm": 1.0, "seconds": 1.0})
    write_json(folder / "adapter.json", {"base_digest": "b", "identity": {}})
    instance.report_runless_asset_event(dg.AssetObservation("source_clips", metadata={"data_md5": "seen.dir"}))
    job = load_defs(project).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("adapter")])
    (event,) = result.get_asset_materialization_events()
    told = event.step_materialization_data.materialization.metadata.get("data_md5")
    assert (told and told.value) == ("seen.dir" if made_of == "untold" else made_of)


def test_options_become_arguments(workspace):
    options = {"steps": 30, "track": False, "gradient_checkpointing": True, "targets": ["to_q", "to_k"]}
    given = command_line(workspace.latents, workspace.adapters, model="tiny", options=options)
    assert (
        given[given.index("--steps") :] == "--steps 30 --no-track --gradient-checkpointing --targets to_q to_k".split()
    )


@pytest.mark.parametrize("options", [{"step": 30}, {"output": "elsewhere"}, {"steps": 0}])
def test_options_that_cannot_be_are_refused_before_anything_runs(workspace, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        adapter_folder(workspace, model="tiny", options=options)


def test_other_options_of_the_environment_are_another_version_of_the_asset(monkeypatch):
    """Else a run that was refused would be called up to date when it is started again with more steps."""
    assert code_version("1", options_of_every_run()) == "1"
    monkeypatch.setenv(OPTIONS_VARIABLE, "{}")
    assert code_version("1", options_of_every_run()) == "1"
    monkeypatch.setenv(OPTIONS_VARIABLE, '{"steps": 30, "rank": 8}')
    short = code_version("1", options_of_every_run())
    assert short != "1"
    assert code_version("2", encoding_options(options_of_every_run())) == "2", "the latents stay what they are"
    monkeypatch.setenv(OPTIONS_VARIABLE, '{"rank":8, "steps":30}')
    assert code_version("1", options_of_every_run()) == short


@pytest.mark.parametrize("options", [{}, {"normalization": "frame", "steps": 30}])
def test_options_that_concern_the_encoding_are_another_version_of_the_latents(monkeypatch, options):
    monkeypatch.setenv(OPTIONS_VARIABLE, json.dumps(options))
    latents = runpy.run_path(assets.__file__)["training_latents"]
    assert latents.code_versions_by_key[latents.key] == ('2 {"normalization": "frame"}' if options else "2")


@pytest.mark.parametrize("given", ["{steps: 30}", "[1]"])
def test_options_that_are_no_json_object_are_refused_by_the_name_of_the_variable(monkeypatch, given):
    monkeypatch.setenv(OPTIONS_VARIABLE, given)
    with pytest.raises(ValueError, match=f"{OPTIONS_VARIABLE}: expected a JSON object, got"):
        options_of_every_run()


def test_a_run_cannot_ask_for_other_latents_than_there_are():
    assert TrainingOptions(options={"seed": 1}).options == {"seed": 1}
    with pytest.raises(ValueError, match=f"got {{'normalization': 'frame'}}: set it in {OPTIONS_VARIABLE}"):
        TrainingOptions(options={"seed": 1, "normalization": "frame"})


def test_adapters_that_the_graph_cannot_generate_with_are_refused(monkeypatch):
    monkeypatch.setenv(OPTIONS_VARIABLE, '{"xyz_init": "plane"}')
    assert options_of_every_run() == {"xyz_init": "plane"}
    monkeypatch.setenv(OPTIONS_VARIABLE, '{"xyz_init": "pointmap"}')
    with pytest.raises(ValueError, match=f"{OPTIONS_VARIABLE}: xyz_init: .* nothing finds first point maps"):
        options_of_every_run()
    with pytest.raises(ValueError, match=r"options: xyz_init: .* set FOURDNEX_DEPTH_NETWORK to a depth network"):
        TrainingOptions(options={"xyz_init": "pointmap"})
    monkeypatch.setenv(DEPTH_NETWORK_VARIABLE, "tiny")
    assert options_of_every_run() == {"xyz_init": "pointmap"}


def test_where_a_depth_network_comes_with_the_base_adapters_begin_with_what_it_finds(monkeypatch):
    assert options_of_every_run() == {}
    monkeypatch.setenv(MODEL_VARIABLE, "tiny")
    assert options_of_every_run() == {"xyz_init": "pointmap"}
    monkeypatch.setenv(OPTIONS_VARIABLE, '{"steps": 30}')
    assert options_of_every_run() == {"xyz_init": "pointmap", "steps": 30}
    monkeypatch.setenv(OPTIONS_VARIABLE, '{"xyz_init": "plane"}')
    assert options_of_every_run() == {"xyz_init": "plane"}
    assert TrainingOptions(options={"seed": 1}).options == {"seed": 1}
    monkeypatch.setenv(MODEL_VARIABLE, "/no/base")
    monkeypatch.delenv(OPTIONS_VARIABLE)
    assert options_of_every_run() == {}


def test_another_depth_network_makes_what_it_is_asked_for_stale(monkeypatch):
    versions = [code_version("1", depth_network_option())]
    for network in ("tiny", "/models/depth.onnx"):
        monkeypatch.setenv(DEPTH_NETWORK_VARIABLE, network)
        versions.append(code_version("1", depth_network_option()))
    assert versions[0] == "1" and len(set(versions)) == 3
