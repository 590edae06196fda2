"""Resources, from the environment."""

import os

import dagster as dg

from fourdnex.identity import repository_root
from orchestration.project import Project


@dg.definitions
def resources() -> dg.Definitions:
    """FOURDNEX_ROOT, FOURDNEX_WORKSPACE, FOURDNEX_MODEL and FOURDNEX_EVALUATION_WORLDS; see `Project`."""
    root = repository_root()
    return dg.Definitions(
        resources={
            "project": Project(
                root=str(root),
                workspace_dir=os.environ.get("FOURDNEX_WORKSPACE") or str(root / "workspace"),
                model=os.environ.get("FOURDNEX_MODEL") or "tiny",
                evaluation_worlds=int(os.environ.get("FOURDNEX_EVALUATION_WORLDS") or 64),
            )
        }
    )
