"""Summary table of an ablation: one row per variant, with median and range over its seeds."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

SHOWN = {
    "abs_rel": "depth AbsRel",
    "delta1": "depth delta1",
    "ate": "ATE",
    "rpe_rotation_deg": "RPE rotation",
    "length_ratio": "length ratio",
    "chamfer": "Chamfer",
    "xyz_error": "XYZ error",
    "psnr": "RGB PSNR",
}
"""Metric -> column title."""
_ERRORS = ("abs_rel", "ate", "chamfer", "xyz_error")


def summarize(cells: pd.DataFrame, variants: Sequence[str]) -> pd.DataFrame:
    """Median, minimum and maximum of every metric over the seeds of each variant, in the order of `variants`.

    Args:
        cells: one row per finished cell: `variant`, `seed` and metrics.
        variants: names; variants without a finished cell are omitted.

    Returns:
        Columns `variant`, `seeds` (number of seeds), and `{metric}`, `{metric}_low`, `{metric}_high`.
    """
    rows = []
    for variant in variants:
        part = cells[cells["variant"] == variant] if len(cells) else cells
        if not len(part):
            continue
        row: dict[str, object] = {"variant": variant, "seeds": len(part)}
        for metric in (name for name in cells.columns if name not in ("variant", "seed")):
            values = part[metric].astype(float)
            row |= {metric: values.median(), f"{metric}_low": values.min(), f"{metric}_high": values.max()}
        rows.append(row)
    return pd.DataFrame(rows)


def markdown(summary: pd.DataFrame, baseline: str) -> str:
    """Format the summary in Markdown: median (minimum to maximum), and relative change of errors against `baseline`.

    Changes are omitted if `baseline` has no row.
    """
    header = ["variant", "seeds", *SHOWN.values()]
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join(["---"] * len(header)) + " |"]
    rows = [row for _, row in summary.iterrows()]
    base = next((row for row in rows if row["variant"] == baseline), None)
    for row in rows:
        cells = [str(row["variant"]), str(row["seeds"])]
        for metric in SHOWN:
            text = f"{row[metric]:.4g}"
            if row["seeds"] > 1:
                text += f" ({row[metric + '_low']:.4g} to {row[metric + '_high']:.4g})"
            if base is not None and row is not base and metric in _ERRORS and base[metric] > 0:
                text += f", {row[metric] / base[metric] - 1:+.0%}"
            cells.append(text)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
