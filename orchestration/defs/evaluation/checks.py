"""Checks that an evaluation must pass before its adapter is registered."""

import math
from collections.abc import Iterator
from typing import Any

import dagster as dg

from fourdnex.io.files import read_json
from orchestration import display
from orchestration.history import metadata_of_run
from orchestration.project import Project

_COMPARED_METRICS = ("abs_rel", "chamfer")


@dg.asset_check(
    asset="evaluation_report",
    blocking=True,
    description="The adapter's depth and point errors are lower than those of every baseline.",
)
def beats_baselines(context: dg.AssetCheckExecutionContext, project: Project) -> dg.AssetCheckResult:
    """Compare the adapter to every baseline."""
    report = read_json(project.report_file(metadata_of_run(context, "evaluation_report")))
    rows = [
        {"baseline": name, "metric": metric, "adapter": report["adapter"][metric], "error": numbers[metric]}
        for name, numbers in report["baselines"].items()
        for metric in _COMPARED_METRICS
    ]
    losses = [f"{row['metric']} of {row['baseline']}" for row in rows if not row["adapter"] < row["error"]]
    return dg.AssetCheckResult(
        passed=bool(rows) and not losses,
        description=f"not better than: {', '.join(losses)}" if losses else f"better in all {len(rows)}",
        metadata={"comparisons": display.table(rows)},
    )


@dg.asset_check(
    asset="evaluation_report",
    blocking=True,
    description="The report covers at least one world and every number in it is finite.",
)
def report_is_finite(context: dg.AssetCheckExecutionContext, project: Project) -> dg.AssetCheckResult:
    """Look for missing and non-finite numbers."""
    report = read_json(project.report_file(metadata_of_run(context, "evaluation_report")))
    numbers = dict(_numbers({key: report[key] for key in ("adapter", "baselines", "gain")}))
    bad = sorted(name for name, value in numbers.items() if value is None or not math.isfinite(value))
    return dg.AssetCheckResult(
        passed=report["num_worlds"] > 0 and bool(numbers) and not bad,
        description=f"not finite: {', '.join(bad)}" if bad else f"{len(numbers)} numbers are finite",
        metadata={"held_out_worlds": report["num_worlds"], "finite_share": 1 - len(bad) / max(1, len(numbers))},
    )


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float | None]]:
    """The numbers in nested dictionaries, with their dotted names."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _numbers(part, f"{name}.{key}" if name else key)
    elif value is None or isinstance(value, (int, float)):
        yield name, value
