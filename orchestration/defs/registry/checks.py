"""Checks that a registered challenger must pass before it may be promoted."""

import tempfile
from pathlib import Path

import dagster as dg

from fourdnex import tracking
from orchestration import display
from orchestration.defs.registry.assets import challenger_of_run
from orchestration.history import metadata_of_run
from orchestration.project import Project
from orchestration.trial import trial_scene

_MIN_FINITE_SHARE = 0.9  # of all pixels: a trained model predicts a depth for nearly every one


@dg.asset_check(asset="challenger", blocking=True, description="Training changed the weights: the norm is positive.")
def adapter_learned(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """Check the norm of the adapter."""
    norm = float(metadata_of_run(context, "challenger")["adapter_norm"])
    return dg.AssetCheckResult(passed=norm > 0, metadata={"adapter_norm": norm})


@dg.asset_check(
    asset="challenger",
    blocking=True,
    pool="gpu",
    description="The registered model loads as in serving, and generates a scene with finite points.",
)
def loads_and_generates(context: dg.AssetCheckExecutionContext, project: Project) -> dg.AssetCheckResult:
    """Generate a scene with the served model."""
    proposed = challenger_of_run(context, project)
    with tempfile.TemporaryDirectory() as folder:
        model = tracking.load_served(proposed, workspace=project.workspace)
        trial = trial_scene(model, Path(folder))
        frames = display.inline_image(trial.image)
    return dg.AssetCheckResult(
        passed=trial.num_points > 0 and trial.finite_share >= _MIN_FINITE_SHARE,
        metadata={
            "version": proposed.version,
            "points": trial.num_points,
            "finite_share": trial.finite_share,
            "first_and_last_frame": frames,
        },
    )
