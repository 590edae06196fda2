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
    least, most = _bounds("FOURDNEX_ACCEPTANCE_BOUNDS")
    return dg.Definitions(
        resources={
            "project": Project(
                root=str(root),
                workspace_dir=os.environ.get("FOURDNEX_WORKSPACE") or str(root / "workspace"),
                model=os.path.expanduser(os.environ.get(MODEL_VARIABLE) or "tiny"),
                training_options=default_training_options(),
                depth_network=_path(DEPTH_NETWORK_VARIABLE),
                curation_rules_file=_path("FOURDNEX_CURATION_RULES"),
                min_acceptance=least,
                max_acceptance=most,
                held_out_clips=_path("FOURDNEX_HELD_OUT_CLIPS"),
                evaluation_worlds=int(os.environ.get("FOURDNEX_EVALUATION_WORLDS") or 64),
                viewer_url=os.environ.get("FOURDNEX_VIEWER_URL") or "http://127.0.0.1:8080",
            )
        }
    )


def _path(variable: str) -> str | None:
    """The path in an environment variable, with the home folder expanded; None without one."""
    return os.path.expanduser(os.environ.get(variable) or "") or None


def _bounds(variable: str) -> tuple[float, float]:
    """Two shares in an environment variable, such as "0.05 1"."""
    text = os.environ.get(variable) or "0.05 1"
    try:
        least, most = map(float, text.split())
    except ValueError as error:
        raise ValueError(f"{variable}: expected two shares such as '0.05 1', got {text!r}") from error
    if not 0 <= least <= most <= 1:
        raise ValueError(f"{variable}: expected 0 <= least <= most <= 1, got {text!r}")
    return least, most
