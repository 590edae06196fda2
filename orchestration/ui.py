"""`python -m orchestration.ui`: serves Dagster (with its daemon), MLflow and the scene viewer on this machine only."""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from fourdnex.identity import repository_root
from fourdnex.tracking import tracking_uri, without_password
from fourdnex.viewer import GalleryServer
from fourdnex.workspace import VARIABLE, Workspace
from orchestration.home import make_home

_HOST = "127.0.0.1"


def main() -> int:
    """Start all servers; stop all when one ends or Ctrl-C is pressed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=3000, help="port of Dagster (default: %(default)s)")
    parser.add_argument("--mlflow-port", type=int, default=5000, help="port of MLflow (default: %(default)s)")
    parser.add_argument("--viewer-port", type=int, default=8080, help="port of the scene viewer (default: %(default)s)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    root = repository_root()
    workspace = Workspace(Path(os.environ.get(VARIABLE) or root / "workspace").expanduser().absolute())
    viewer = GalleryServer(workspace.scenes, host=_HOST, port=arguments.viewer_port)
    threading.Thread(target=viewer.serve_forever, daemon=True).start()
    environment = os.environ | {
        "FOURDNEX_VIEWER_URL": os.environ.get("FOURDNEX_VIEWER_URL") or f"http://{_HOST}:{viewer.port}",
        VARIABLE: str(workspace.root),
        # MLflow's workers for jobs of generative AI, of which nothing here makes use, take 1 GB.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": os.environ.get("MLFLOW_SERVER_ENABLE_JOB_EXECUTION") or "false",
        "DAGSTER_HOME": str(make_home(workspace)),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")])),
        # The suggested replacement, `dg dev`, must run in the project's folder.
        "PYTHONWARNINGS": os.environ.get("PYTHONWARNINGS") or "ignore:Function `dev_command` is superseded",
    }
    commands = [_dagster(arguments.port)]
    print(f"Dagster  http://{_HOST}:{arguments.port}")
    if os.environ.get("MLFLOW_TRACKING_URI"):
        print(f"MLflow   {without_password(os.environ['MLFLOW_TRACKING_URI'])} (MLFLOW_TRACKING_URI)")
    else:
        commands.append(_mlflow(workspace, arguments.mlflow_port))
        print(f"MLflow   http://{_HOST}:{arguments.mlflow_port}")
    print(f"Scenes   http://{_HOST}:{viewer.port}")
    print("Press Ctrl-C to stop all of them.", flush=True)
    return _serve(commands, environment, workspace.root)


def _dagster(port: int) -> list[str]:
    """Arguments of Python for the Dagster UI and daemon."""
    code = ["--workspace", str(Path(__file__).with_name("workspace.yaml"))]
    return ["-m", "dagster", "dev", "--host", _HOST, "--port", str(port), "--log-level", "warning", *code]


def _mlflow(workspace: Workspace, port: int) -> list[str]:
    """Arguments of Python for the MLflow server."""
    uri = tracking_uri(workspace)
    artifacts = workspace.mlflow_artifacts.as_uri()
    store = ["--backend-store-uri", uri, "--artifacts-destination", artifacts]
    return ["-m", "mlflow", "server", "--host", _HOST, "--port", str(port), "--workers", "1", *store]


def _serve(commands: list[list[str]], environment: dict[str, str], folder: Path) -> int:
    """Run the servers until one ends; returns its exit status, or 0 after Ctrl-C."""
    servers = [
        subprocess.Popen([sys.executable, *command], env=environment, cwd=folder, start_new_session=True)
        for command in commands
    ]
    try:
        while all(server.poll() is None for server in servers):
            time.sleep(0.5)
        return next(server.returncode for server in servers if server.returncode is not None)
    except KeyboardInterrupt:
        return 0
    finally:
        for server in servers:
            _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Stop a server and its child processes: SIGINT for a clean shutdown, then SIGKILL."""
    for number, patience in ((signal.SIGINT, 15.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(server.pid, number)
            server.wait(timeout=patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue  # SIGKILL follows


if __name__ == "__main__":
    sys.exit(main())
