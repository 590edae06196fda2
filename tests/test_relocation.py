"""Relocation: the store of a moved or copied workspace points to its own files."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fourdnex import tracking
from fourdnex.tracking.relocation import relocate
from fourdnex.workspace import Workspace
from tests.test_tracking import adapter_files


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A workspace with a run and a registered champion, in a folder whose name needs quoting."""
    root = tmp_path_factory.mktemp("made")
    workspace = Workspace(root / "my work?space")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with tracking.TrackingRun.start(name="lora", workspace=workspace) as run:
            run.log_artifact(__file__, "notes")
        files = adapter_files(root / "adapter", "abc")
        version = tracking.register_challenger(**files, run_id=run.run_id, workspace=workspace).version
        tracking.promote(version, workspace=workspace)
    return workspace.root


@pytest.fixture(params=["copied", "moved"])
def placed(request, made, tmp_path, monkeypatch) -> tuple[Workspace, Path]:
    """The workspace at its new location, and its former location."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    former = shutil.copytree(made, tmp_path / "former" / made.name)
    relocate(Workspace(former).mlflow_database)
    present = tmp_path / "100% present" / "workspace"
    present.parent.mkdir()
    (shutil.copytree if request.param == "copied" else shutil.move)(former, present)
    return Workspace(present), former


def test_champion_files_are_at_the_new_location(placed):
    workspace, former = placed
    if former.is_dir():  # a copy must not look at what it was copied from
        for path in former.rglob("*.safetensors"):
            path.write_text("other weights")
    champion = tracking.resolve(workspace=workspace)
    assert champion is not None and champion.adapter_dir.is_relative_to(workspace.root)
    assert (champion.adapter_dir / "pytorch_lora_weights.safetensors").read_text() == "weights"
    served = tracking.load_served(champion, workspace=workspace)
    assert Path(served.unwrap_python_model().__class__.__name__).name == "Echo"


def test_new_artifacts_are_written_to_the_new_location(placed):
    workspace, former = placed
    before = sorted(former.rglob("*"))
    with tracking.TrackingRun.start(name="again", workspace=workspace) as run:
        run.log_artifact(__file__, "notes")
    assert len(list(workspace.mlflow_artifacts.rglob(Path(__file__).name))) == 2
    assert sorted(former.rglob("*")) == before


def test_only_paths_below_the_former_location_change(placed):
    workspace, former = placed
    with closing(sqlite3.connect(workspace.mlflow_database)) as connection, connection:
        elsewhere = "INSERT INTO experiments (name, artifact_location, lifecycle_stage) VALUES (?, ?, 'active')"
        connection.execute(elsewhere, ("bucket", "s3://bucket/artifacts/bucket"))
        connection.execute(elsewhere, ("other", f"{former.as_uri()}-2/mlflow/other"))
    assert relocate(workspace.mlflow_database) > 0
    assert relocate(workspace.mlflow_database) == 0
    with closing(sqlite3.connect(workspace.mlflow_database)) as connection:
        places = dict(connection.execute("SELECT name, artifact_location FROM experiments"))
    assert places["bucket"] == "s3://bucket/artifacts/bucket"
    assert places["other"] == f"{former.as_uri()}-2/mlflow/other"
    assert places["fourdnex-lora"] == (workspace.mlflow_artifacts / "fourdnex-lora").as_uri()


def test_other_databases_are_not_changed(tmp_path):
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("CREATE TABLE notes (text)")
    assert relocate(tmp_path / "mlflow.db") == 0
