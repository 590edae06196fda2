import importlib.util
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from fourdnex import tracking
from fourdnex.tracking.client import open_client
from fourdnex.training.loop import TrainingInterrupted
from fourdnex.workspace import Workspace

REPOSITORY = Path(__file__).parents[1]
MD5 = "0123456789abcdef0123456789abcdef.dir"
MODEL_CODE = """
import mlflow

class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        names = [context.artifacts["adapter"] + "|" + context.model_config["base_model"]] * len(model_input)
        return model_input.assign(scene=names)

mlflow.models.set_model(Echo())
"""


@pytest.fixture(scope="module")
def migrated(tmp_path_factory) -> Path:
    """A database with all tables: creating one takes seconds, copying it does not."""
    workspace = Workspace(tmp_path_factory.mktemp("migrated"))
    with tracking.TrackingRun.start("first", workspace=workspace):
        return workspace.mlflow_database


@pytest.fixture
def workspace(tmp_path, migrated, monkeypatch) -> Workspace:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace = Workspace(tmp_path / "workspace")
    workspace.mlflow_database.parent.mkdir(parents=True)
    shutil.copyfile(migrated, workspace.mlflow_database)
    return workspace


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[str]:
    """Address of an `mlflow server` that proxies artifacts, as it does by default."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    address = f"http://127.0.0.1:{port}"
    with open(tmp_path / "server.log", "w") as log:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=log,
            process_group=0,
        )
    try:
        while not _answers(address):
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            time.sleep(0.2)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _answers(address: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{address}/health") as answer:
        return answer.status == 200
    return False


def write_report(path: Path, digest: str, **differing) -> None:
    report = {"settings": {"adapter_digest": digest}, "num_worlds": 2, "adapter": {"abs_rel": 0.1}, "seconds": 1.5}
    path.write_text(json.dumps(report | differing))


def adapter_files(folder: Path, digest: str, *, content: str = "weights") -> dict:
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "pytorch_lora_weights.safetensors").write_text(content)
    write_report(folder / "report.json", digest)
    (folder / "model.py").write_text(MODEL_CODE)
    return {
        "adapter_dir": folder / "weights",
        "report": folder / "report.json",
        "model_code": folder / "model.py",
        "config": {"base_model": "tiny"},
        "adapter_identity": {"adapter_digest": digest},
    }


def test_installed_mlflow_is_imported_from_the_repository_root():
    """The configuration folder mlflow/ is there too."""
    assert (REPOSITORY / "mlflow").is_dir()
    assert not list((REPOSITORY / "mlflow").rglob("*.py"))
    code = "import importlib.util as u; print(u.find_spec('mlflow').origin)"
    found = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == importlib.util.find_spec("mlflow").origin
    assert Path(found.stdout.strip()).is_relative_to(sys.prefix)


def test_image_is_added_to_a_finished_run(workspace):
    with tracking.TrackingRun.start(workspace=workspace) as run:
        pass
    before = tracking.find_run(run.run_id, workspace=workspace)
    tracking.add_image(run.run_id, np.zeros((4, 6, 3), np.uint8), "scenes/kitchen.png", workspace=workspace)
    assert tracking.find_run(run.run_id, workspace=workspace) == before
    assert len(list(workspace.mlflow_artifacts.rglob("scenes/kitchen.png"))) == 1
    with pytest.raises(ValueError, match="run_id: expected a run"):
        tracking.add_image("none", np.zeros((4, 6, 3), np.uint8), "a.png", workspace=workspace)


def test_run_logs_parameters_metrics_images_and_data_set(workspace, tmp_path):
    image = np.full((4, 6, 3), 200, np.uint8)
    (tmp_path / "notes.txt").write_text("hello")
    with tracking.TrackingRun.start(
        params={"steps": 2},
        dataset=("clips", MD5, "data.dvc"),
        tags={"git_commit": "c", "none": None},
        workspace=workspace,
    ) as run:
        for step, loss in enumerate([3.0, 1.0]):
            run.log_metrics({"loss": loss}, step)
        run.log_image(image, "samples/first.png")
        run.log_artifact(tmp_path / "notes.txt", "text")
    client = open_client(workspace)
    kept = client.get_run(run.run_id)
    assert kept.info.status == "FINISHED"
    assert kept.data.params == {"steps": "2"}
    assert kept.data.tags["git_commit"] == "c" and "none" not in kept.data.tags
    assert [metric.value for metric in client.get_metric_history(run.run_id, "loss")] == [3.0, 1.0]
    (given,) = kept.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("clips", MD5)
    artifacts = Path(kept.info.artifact_uri.removeprefix("file://"))
    assert artifacts.is_relative_to(workspace.mlflow_artifacts)
    assert (artifacts / "text" / "notes.txt").read_text() == "hello"
    assert (artifacts / "samples" / "first.png").stat().st_size > 0


def test_run_sets_its_status_and_can_be_resumed(workspace):
    with pytest.raises(ValueError, match="boom"), tracking.TrackingRun.start(workspace=workspace) as run:
        raise ValueError("boom")
    client = open_client(workspace)
    assert client.get_run(run.run_id).info.status == "FAILED"
    with pytest.raises(KeyboardInterrupt), tracking.TrackingRun.start(run_id=run.run_id, workspace=workspace) as again:
        again.log_metrics({"loss": 2.0}, 7)
        raise KeyboardInterrupt
    assert again.run_id == run.run_id
    assert client.get_run(run.run_id).info.status == "KILLED"
    assert [metric.step for metric in client.get_metric_history(run.run_id, "loss")] == [7]


def test_nested_run_resumes_after_interrupt_or_kill(workspace):
    """Finished runs, and runs with another name or parent, are not resumed."""
    with (
        tracking.TrackingRun.start(workspace=workspace) as parent,
        tracking.TrackingRun.start(workspace=workspace) as other,
    ):
        below = {"workspace": workspace, "parent": parent.run_id}
        killed = tracking.TrackingRun.start(name="a cell's", **below)  # never ended
        assert tracking.TrackingRun.start(name="another", **below).run_id != killed.run_id
        elsewhere = tracking.TrackingRun.start(name="a cell's", workspace=workspace, parent=other.run_id)
        assert elsewhere.run_id != killed.run_id
        with pytest.raises(TrainingInterrupted), tracking.TrackingRun.start(name="a cell's", **below) as again:
            assert again.run_id == killed.run_id
            raise TrainingInterrupted
        assert open_client(workspace).get_run(killed.run_id).info.status == "KILLED"
        with tracking.TrackingRun.start(name="a cell's", **below) as again:
            assert again.run_id == killed.run_id
        assert tracking.TrackingRun.start(name="a cell's", **below).run_id != killed.run_id


def test_missing_run_starts_a_new_one(workspace, caplog):
    with tracking.TrackingRun.start(workspace=workspace) as deleted:
        pass
    open_client(workspace).delete_run(deleted.run_id)
    for gone in ("0" * 32, deleted.run_id):
        caplog.clear()
        with tracking.TrackingRun.start(run_id=gone, params={"steps": 2}, workspace=workspace) as run:
            assert run.run_id != gone
        assert open_client(workspace).get_run(run.run_id).data.params == {"steps": "2"}
        (warning,) = [record for record in caplog.records if record.name.startswith("fourdnex")]
        assert f"run {gone} no longer exists, starting a new one" in warning.getMessage()


def test_digest_too_long_for_mlflow_raises(workspace):
    with pytest.raises(ValueError, match="36 characters"):
        tracking.TrackingRun.start(dataset=("clips", "x" * 37, "data.dvc"), workspace=workspace)


def test_challenger_becomes_champion_and_is_replaced(workspace, tmp_path):
    with tracking.TrackingRun.start(workspace=workspace) as run:
        pass
    first = tracking.register_challenger(
        **adapter_files(tmp_path / "1", "aaaa") | {"adapter_identity": {"adapter_digest": "aaaa", "data_md5": MD5}},
        run_id=run.run_id,
        workspace=workspace,
    )
    assert (first.version, first.run_id, first.data_md5, first.adapter_digest) == ("1", run.run_id, MD5, "aaaa")
    assert first.report["adapter"]["abs_rel"] == 0.1
    assert (first.adapter_dir / "pytorch_lora_weights.safetensors").read_text() == "weights"
    assert not list(first.adapter_dir.parents[1].rglob("*.pkl"))
    assert tracking.resolve(workspace=workspace) is None
    assert tracking.promote(first.version, workspace=workspace).version == "1"

    files = adapter_files(tmp_path / "2", "bbbb", content="others")
    second = tracking.register_challenger(**files, workspace=workspace)
    again = tracking.register_challenger(**files, workspace=workspace)
    assert second.version == again.version == "2"
    assert tracking.resolve(tracking.CHAMPION, workspace=workspace).version == "1"
    assert tracking.resolve(tracking.CHALLENGER, workspace=workspace).version == "2"
    tracking.promote("2", workspace=workspace)
    assert tracking.resolve(tracking.CHAMPION, workspace=workspace).version == "2"
    assert tracking.resolve(tracking.FORMER_CHAMPION, workspace=workspace).version == "1"

    import pandas as pd

    served = tracking.load_served(second, workspace=workspace)
    (answer,) = served.predict(pd.DataFrame({"image": ["a.jpg"]}))["scene"]
    assert answer.endswith("artifacts/weights|tiny")

    (second.adapter_dir / "pytorch_lora_weights.safetensors").write_text("tampered")
    with pytest.raises(ValueError, match="expected the registered files of version 2"):
        tracking.resolve(tracking.CHAMPION, workspace=workspace)


def test_resolving_creates_no_store(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking.resolve(workspace=Workspace(tmp_path / "workspace")) is None
    assert not (tmp_path / "workspace").exists()


@pytest.mark.parametrize("name", ["my scenes", "100%", "a%20b", "a#b", "what?", "Zürich 東京", "a+b&c=d", "it's"])
def test_workspace_may_have_any_name(tmp_path, migrated, monkeypatch, name):
    """SQLAlchemy and MLflow parse some of these characters as parts of a URL."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace = Workspace(tmp_path / name)
    workspace.mlflow_database.parent.mkdir(parents=True)
    shutil.copyfile(migrated, workspace.mlflow_database)
    with tracking.TrackingRun.start(name="named", workspace=workspace) as run:
        run.log_artifact(__file__, "notes")
    assert tracking.find_run(run.run_id, workspace=workspace).name == "named"
    with sqlite3.connect(workspace.mlflow_database) as database:
        assert ("named",) in database.execute("SELECT name FROM runs").fetchall()
    assert len(list(workspace.mlflow_artifacts.rglob(Path(__file__).name))) == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("answers", [False, True], ids=["nobody listens", "it never answers"])
def test_unreachable_server_fails_fast_with_its_address(monkeypatch, answers):
    monkeypatch.setattr("fourdnex.tracking.client._TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        if not answers:
            silent.close()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(tracking.TrackingError, match=f"MLflow, {uri}: no response .* unset it"):
            tracking.resolve()


def test_password_in_an_address_is_used_but_not_shown(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:secret@127.0.0.1:9")
    with pytest.raises(tracking.TrackingError, match=r"MLflow, http://127\.0\.0\.1:9: no response") as raised:
        tracking.resolve()
    assert "secret" not in str(raised.value)


def test_unusable_store_is_named(workspace):
    workspace.mlflow_database.write_bytes(b"no database at all" * 100)
    with pytest.raises(tracking.TrackingError, match=r"mlflow\.db: .*file is not a database"):
        tracking.resolve(workspace=workspace)


@pytest.mark.slow
def test_concurrent_processes_create_one_store(tmp_path):
    """Each waits until all are ready: MLflow's migrations fail if two processes create the same table."""
    program = f"""
import sys, time
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store
from fourdnex import tracking
from fourdnex.workspace import Workspace
Path({str(tmp_path)!r}, "ready" + sys.argv[1]).touch()
while len(list(Path({str(tmp_path)!r}).glob("ready*"))) < 3:
    time.sleep(0.001)
with tracking.TrackingRun.start("same", workspace=Workspace(Path({str(tmp_path)!r}))) as run:
    print(run.run_id)
"""
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    together = [
        subprocess.Popen([sys.executable, "-c", program, str(number)], env=environment, **pipes) for number in range(3)
    ]
    answers = [process.communicate(timeout=300) for process in together]
    assert [process.returncode for process in together] == [0, 0, 0], answers
    client = open_client(Workspace(tmp_path))
    runs = client.search_runs([client.get_experiment_by_name("same").experiment_id])
    assert sorted(run.info.run_id for run in runs) == sorted(out.decode().split()[-1] for out, _ in answers)


@pytest.mark.slow
def test_server_returns_the_registered_files(server, tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    given = tracking.register_challenger(**adapter_files(tmp_path / "1", "aaaa"), workspace=workspace)
    found = tracking.resolve(tracking.CHALLENGER, workspace=workspace)
    assert found == given
    assert found.adapter_dir.is_relative_to(workspace.root)
    assert (found.adapter_dir / "pytorch_lora_weights.safetensors").read_text() == "weights"


def test_reevaluated_adapter_becomes_a_new_version(workspace, tmp_path):
    files = adapter_files(tmp_path / "1", "aaaa")
    tracking.register_challenger(**files, workspace=workspace)
    write_report(files["report"], "aaaa", seconds=9.0)
    assert tracking.register_challenger(**files, workspace=workspace).version == "1"
    write_report(files["report"], "aaaa", num_worlds=64)
    larger = tracking.register_challenger(**files, workspace=workspace)
    assert (larger.version, larger.report["num_worlds"]) == ("2", 64)
    # the requested version if the adapter has it, else the latest
    for version, expected in {"1": "1", "2": "2", "7": "2", None: "2"}.items():
        found = tracking.registered("aaaa", version=version, workspace=workspace)
        assert found is not None and found.version == expected


def test_registered_reports_with_former_baseline_names_are_read(workspace, tmp_path):
    files = adapter_files(tmp_path / "1", "aaaa")
    write_report(files["report"], "aaaa", baselines={"still_sloped_plane": {"abs_rel": 0.5}})
    with pytest.warns(DeprecationWarning, match=r"still_sloped_plane \(now static_sloped_plane\)"):
        found = tracking.register_challenger(**files, workspace=workspace)
    assert found.report["baselines"] == {"static_sloped_plane": {"abs_rel": 0.5}}
    write_report(files["report"], "aaaa", baselines={"static_sloped_plane": {"abs_rel": 0.5}})
    with pytest.warns(DeprecationWarning):
        assert tracking.register_challenger(**files, workspace=workspace).version == "1"


def test_missing_digest_or_report_of_another_adapter_raises(workspace, tmp_path):
    files = adapter_files(tmp_path / "1", "aaaa")
    with pytest.raises(ValueError, match="adapter_identity: expected the adapter's digest"):
        tracking.register_challenger(**files | {"adapter_identity": {}}, workspace=workspace)
    write_report(files["report"], "bbbb")
    with pytest.raises(ValueError, match=r"settings\.adapter_digest: expected aaaa, got bbbb"):
        tracking.register_challenger(**files, workspace=workspace)


def test_mlflow_telemetry_is_disabled():
    """MLflow decides on import, so the variable must be set before the first import."""
    code = "import os; import fourdnex.tracking; print(os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    bare = {name: value for name, value in os.environ.items() if name != "MLFLOW_DISABLE_TELEMETRY"}
    found = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "true"
