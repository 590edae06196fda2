import sys
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget

from fourdnex.workspace import Workspace
from orchestration.home import open_instance

LOCATION = Path(__file__).with_name("terminated_run.py")


def wait_until(condition, seconds: float = 180.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.2)
    return condition()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_terminating_a_dagster_run_ends_the_training_process_and_its_children(tmp_path, monkeypatch, is_alive):
    """A run that is launched and canceled as by the UI: code server, run worker, step process."""
    noted = tmp_path / "pids"
    monkeypatch.setenv("FOURDNEX_TEST_PIDS", str(noted))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))  # restored after the test: opening an instance sets it
    target = PythonFileTarget(
        python_file=str(LOCATION), attribute=None, working_directory=str(LOCATION.parents[2]), location_name="train"
    )
    workspace_dir = Workspace(tmp_path / "workspace")
    with open_instance(workspace_dir) as instance, WorkspaceProcessContext(instance, target) as process:
        workspace = process.create_request_context()
        (repository,) = workspace.get_code_location("train").get_repositories().values()
        job = repository.get_full_job("train")
        run = instance.create_run_for_job(
            job_def=_job(),
            remote_job_origin=job.get_remote_origin(),
            job_code_origin=job.get_python_origin(),
        )
        instance.launch_run(run.run_id, workspace)
        assert wait_until(noted.exists)
        pids = [int(word) for word in noted.read_text().split()]
        assert len(pids) == 2 and all(map(is_alive, pids))
        assert instance.run_launcher.terminate(run.run_id)
        assert wait_until(lambda: not any(map(is_alive, pids)))
        assert wait_until(lambda: instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.CANCELED)


def _job() -> dg.JobDefinition:
    import importlib.util

    spec = importlib.util.spec_from_file_location("terminated_run", LOCATION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.defs.resolve_job_def("train")
