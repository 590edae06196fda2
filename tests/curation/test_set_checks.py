"""Checks of curated clips before training."""

import pandas as pd
import pytest

from fourdnex.curation.set_checks import check_acceptance_rate, check_held_out, check_splits, check_tags
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, world_name


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "name": ["world-000100000", "a-0000", "a-0001", "b-0000"],
            "subset": ["worlds", "videos", "videos", "videos"],
            "accepted": [True, True, True, False],
            "split": ["train", "train", "val", ""],
            "tags": [["indoor"], ["indoor", "close-range"], ["indoor"], ["outdoor"]],
            "sha256": ["1", "2", "3", "4"],
            "source_sha256": ["", "a", "c", "b"],
            "video": ["", "a", "c", "b"],
            "shard": ["w", "v", "v", "v"],
        }
    )


def test_the_acceptance_rate_is_compared_with_its_bounds(table):
    assert check_acceptance_rate(table, 0.05, 1).message == "3 of 4 clips accepted (75.0%)"
    assert not check_acceptance_rate(table, 0.05, 0.5).passed
    assert not check_acceptance_rate(table.assign(accepted=False), 0.05, 1).passed
    assert not check_acceptance_rate(table[:0], 0.05, 1).passed


def test_a_tag_with_a_quota_needs_clips(table):
    assert check_tags(table, {"indoor": 0.5, "human-centric": 0}).passed
    check = check_tags(table, {"indoor": 0.5, "outdoor": 0.5})
    assert not check.passed and "outdoor" in check.message, "its only clip is rejected"


def test_held_out_worlds_and_clips_are_found(table, tmp_path):
    assert check_held_out(table, None).message == "none of 2 training clips is held out"
    held_out = table.assign(name=[world_name(HELD_OUT_SEEDS[0]), *table["name"][1:]])
    assert "1 held-out clips" in check_held_out(held_out, None).message
    others = pd.DataFrame({"name": ["x"], "shard": ["s"], "sha256": ["9"], "source_sha256": ["a"], "video": [""]})
    others.to_parquet(tmp_path / "others.parquet")
    check = check_held_out(table, tmp_path / "others.parquet")
    assert not check.passed and "x of" in check.message and "its source file has training clips" in check.message


@pytest.mark.parametrize("column", ["sha256", "source_sha256", "video"])
def test_a_source_in_two_splits_is_found(table, column):
    assert check_splits(table).passed
    table.loc[2, column] = table.loc[1, column]
    check = check_splits(table)
    assert not check.passed and f"a-0000: its {column} is in train and val" in check.message
    assert check_splits(table.drop(columns="split")).passed
