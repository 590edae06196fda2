"""Resources, configured by environment variables."""

import os

import dagster as dg

from fourdnex.identity import repository_root
from orchestration.project import DEPTH_NETWORK_VARIABLE, Project
from orchestration.training_run import MODEL_VARIABLE, default_training_options


@dg.definitions
def resources() -> dg.Definitions:
    """The resource `project`, configured by the variables that docs/graph.md lists."""
    root = repository_root()
    return dg.Definitions(
        resources={
            "project": Project(
                root=str(root),
                workspace_dir=os.environ.get("FOURDNEX_WORKSPACE") or str(root / "workspace"),
                model=os.path.expanduser(os.environ.get(MODEL_VARIABLE) or "tiny"),
                training_options=default_training_options(),
                depth_network=os.path.expanduser(os.environ.get(DEPTH_NETWORK_VARIABLE) or "") or None,
                evaluation_worlds=int(os.environ.get("FOURDNEX_EVALUATION_WORLDS") or 64),
                viewer_url=os.environ.get("FOURDNEX_VIEWER_URL") or "http://127.0.0.1:8080",
            )
        }
    )
