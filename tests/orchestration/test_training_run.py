import pandas as pd
import pytest
import torch

from fourdnex.training.latent_shards import LatentEncoding, write_latent_shard
from fourdnex.workspace import Workspace
from orchestration.training_run import OPTIONS_VARIABLE, adapter_folder, code_version, command_line


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
    monkeypatch.delenv(OPTIONS_VARIABLE, raising=False)
    plain = code_version()
    monkeypatch.setenv(OPTIONS_VARIABLE, "{}")
    assert code_version() == plain
    monkeypatch.setenv(OPTIONS_VARIABLE, '{"steps": 30, "rank": 8}')
    assert code_version() != plain
    short = code_version()
    monkeypatch.setenv(OPTIONS_VARIABLE, '{"rank":8, "steps":30}')
    assert code_version() == short
