"""Checks that curated clips must pass before they are encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from orchestration.project import Project

if TYPE_CHECKING:
    import pandas as pd

    from fourdnex.curation.set_checks import SetCheck


@dg.asset_check(
    asset="curated_manifest", blocking=True, description="The share of accepted clips is within the bounds."
)
def acceptance_rate(project: Project) -> dg.AssetCheckResult:
    """Compare the share of accepted clips with FOURDNEX_ACCEPTANCE_BOUNDS."""
    from fourdnex.curation.set_checks import check_acceptance_rate

    return _result(check_acceptance_rate(_table(project), project.min_acceptance, project.max_acceptance))


@dg.asset_check(
    asset="curated_manifest", blocking=True, description="Every scenario tag that has a quota has accepted clips."
)
def tags_have_clips(project: Project) -> dg.AssetCheckResult:
    """Look for tags without clips."""
    from fourdnex.curation.set_checks import check_tags

    return _result(check_tags(_table(project), project.curation_rules()[1].quotas))


@dg.asset_check(
    asset="curated_manifest",
    blocking=True,
    description="No training clip is a held-out world, or is of the video of a held-out clip.",
)
def no_held_out_clip(project: Project) -> dg.AssetCheckResult:
    """Compare the training clips with the held-out ones."""
    from fourdnex.curation.set_checks import check_held_out

    return _result(check_held_out(_table(project), project.held_out_clips))


@dg.asset_check(asset="curated_manifest", blocking=True, description="No video, source file or clip is in two splits.")
def splits_are_disjoint(project: Project) -> dg.AssetCheckResult:
    """Look for sources in several splits."""
    from fourdnex.curation.set_checks import check_splits

    return _result(check_splits(_table(project)))


def _table(project: Project) -> pd.DataFrame:
    """The curated clips."""
    from fourdnex.io.tables import read_parquet

    return read_parquet(project.workspace.curated, columns=("name", "accepted", "subset", "tags"))


def _result(check: SetCheck) -> dg.AssetCheckResult:
    """The outcome of a check for Dagster."""
    return dg.AssetCheckResult(passed=check.passed, description=check.message)
