"""Resources, from the environment."""

import os

import dagster as dg

from fourdnex.identity import repository_root
from orchestration.project import Project
from orchestration.training_run import options_of_every_run


@dg.definitions
def resources() -> dg.Definitions:
    """FOURDNEX_WORKSPACE, _MODEL, _EVALUATION_WORLDS, _VIEWER_URL and _TRAINING_OPTIONS (JSON); see `Project`."""
    root = repository_root()
    return dg.Definitions(
        resources={
            "project": Project(
                root=str(root),
                workspace_dir=os.environ.get("FOURDNEX_WORKSPACE") or str(root / "workspace"),
                model=os.environ.get("FOURDNEX_MODEL") or "tiny",
                training_options=options_of_every_run(),
                evaluation_worlds=int(os.environ.get("FOURDNEX_EVALUATION_WORLDS") or 64),
                viewer_url=os.environ.get("FOURDNEX_VIEWER_URL") or "http://127.0.0.1:8080",
            )
        }
    )
