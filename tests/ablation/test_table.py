"""Ablation table: medians and ranges over seeds, changes against the baseline."""

import pandas as pd
import pytest

from fourdnex.ablation.table import SHOWN, markdown, summarize


def cells() -> pd.DataFrame:
    rows = [("a", 0, 0.4), ("a", 1, 0.2), ("a", 2, 0.9), ("b", 0, 0.1)]
    others = {metric: 1.0 for metric in SHOWN if metric != "abs_rel"}
    return pd.DataFrame([{"variant": v, "seed": s, "abs_rel": value, **others} for v, s, value in rows])


def test_median_and_range_over_seeds_in_the_order_of_variants():
    summary = summarize(cells(), ["b", "a", "c"])
    assert list(summary["variant"]) == ["b", "a"]
    a = summary.set_index("variant").loc["a"]
    assert (a["seeds"], a["abs_rel"], a["abs_rel_low"], a["abs_rel_high"]) == (3, 0.4, 0.2, 0.9)


def test_errors_are_compared_with_the_baseline():
    header, _, first, second = markdown(summarize(cells(), ["a", "b"]), "a").splitlines()
    assert header.split(" | ")[2] == "depth AbsRel"
    assert "| 0.4 (0.2 to 0.9) |" in first
    assert "| 0.1, -75% |" in second  # 0.1 / 0.4 - 1
    assert "| 1, +0% |" in second


def test_no_changes_without_the_baseline():
    assert "%" not in markdown(summarize(cells(), ["c", "a", "b"]), "c")


def test_no_cells_give_no_rows():
    empty = summarize(pd.DataFrame(columns=["variant", "seed", *SHOWN]), ["a"])
    assert len(empty) == 0
    assert len(markdown(empty, "a").splitlines()) == 2


@pytest.mark.parametrize("missing", ["length_ratio"])
def test_metric_without_values_is_nan(missing):
    table = cells().assign(**{missing: float("nan")})
    assert "nan" in markdown(summarize(table, ["a"]), "a")
