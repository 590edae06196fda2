"""Which clips of a curated table are encoded."""

import os
from pathlib import Path

import pandas as pd
import pytest

from fourdnex.latents.selection import training_clips


def write(path: Path, **columns: list) -> Path:
    pd.DataFrame(columns).to_parquet(path)
    return path


def test_accepted_clips_of_the_training_split_are_selected_by_shard(tmp_path):
    path = write(
        tmp_path / "curated.parquet",
        name=["b", "a", "c", "d", "e"],
        shard=["s1", "s1", "s2", "s2", "s3"],
        accepted=[True, True, True, False, True],
        split=["train", "", "train", "", "test"],
    )
    assert training_clips(path) == {"s1": ("a", "b"), "s2": ("c",)}


def test_tables_without_splits_and_with_the_former_column_are_read(tmp_path):
    path = write(tmp_path / "curated.parquet", name=["a", "b"], shard=["s", "s"], kept=[True, False])
    assert training_clips(path) == {"s": ("a",)}


def test_a_changed_table_is_read_again_and_an_unchanged_one_is_not(tmp_path):
    path = write(tmp_path / "curated.parquet", name=["a"], shard=["s"], accepted=[True])
    first = training_clips(path)
    assert training_clips(path) is first
    write(path, name=["a", "b"], shard=["s", "s"], accepted=[True, True])
    os.utime(path, ns=(1, 1))
    assert training_clips(path) == {"s": ("a", "b")}


def test_a_missing_damaged_or_foreign_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        training_clips(tmp_path / "absent.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(ValueError, match=r"bad\.parquet: expected a table of curated clips"):
        training_clips(tmp_path / "bad.parquet")
    with pytest.raises(ValueError, match="missing: accepted"):
        training_clips(write(tmp_path / "other.parquet", name=["a"], shard=["s"]))
