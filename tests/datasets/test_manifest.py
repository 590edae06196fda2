"""The manifest: versions, rows of one shard, missing values."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fourdnex.datasets.manifest import (
    ADDED_COLUMNS,
    FILE,
    VERSION_KEY,
    DataError,
    list_shards,
    manifest_version,
    read_manifest,
    write_manifest,
)

NUM_SHARDS, SIZE = 5, 600


@pytest.fixture(scope="module")
def rows():
    return [
        {
            "name": f"clip-{number:05d}", "shard": f"s-{number // SIZE:04d}", "subset": "x", "num_frames": 17,
            "height": 64, "width": 96, "fps": 24.0, "caption": "", "tags": ["indoor"], "source": "", "license": "",
            "sha256": f"{number:064x}", "video": "v", "shot": 1, "start": 0.5, "source_sha256": "",
        }
        for number in range(NUM_SHARDS * SIZE)
    ]  # fmt: skip


def rewrite(folder, change) -> None:
    """Write the manifest again after `change` of its table."""
    change(pd.read_parquet(folder / FILE)).to_parquet(folder / FILE)


def test_row_groups_hold_whole_shards(tmp_path, rows):
    write_manifest(tmp_path, rows)
    groups = [
        pq.ParquetFile(tmp_path / FILE).read_row_group(k)["shard"].unique().to_pylist()
        for k in range(pq.ParquetFile(tmp_path / FILE).num_row_groups)
    ]
    assert groups == [["s-0000", "s-0001"], ["s-0002", "s-0003"], ["s-0004"]]
    assert list_shards(tmp_path) == [f"s-{k:04d}" for k in range(NUM_SHARDS)]
    whole, part = read_manifest(tmp_path), read_manifest(tmp_path, shard="s-0003")
    pd.testing.assert_frame_equal(part, whole[whole["shard"] == "s-0003"].reset_index(drop=True))
    assert read_manifest(tmp_path, shard="other").empty


def test_an_empty_manifest_has_its_columns(tmp_path):
    write_manifest(tmp_path, [])
    assert read_manifest(tmp_path).empty and list_shards(tmp_path) == []


def test_version_1_gets_the_added_columns_and_later_versions_are_refused(tmp_path, rows):
    write_manifest(tmp_path, rows[:2])
    assert manifest_version(tmp_path) == 2
    rewrite(tmp_path, lambda table: table.drop(columns=list(ADDED_COLUMNS)))
    assert manifest_version(tmp_path) == 1
    assert read_manifest(tmp_path)[list(ADDED_COLUMNS)].iloc[0].to_dict() == ADDED_COLUMNS
    table = pq.read_table(tmp_path / FILE)
    pq.write_table(table.replace_schema_metadata({VERSION_KEY: b"9"}), tmp_path / FILE)
    with pytest.raises(DataError, match="expected version 2 or earlier, got 9: update fourdnex"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("column", ["caption", "fps", "tags", "sha256"])
def test_missing_values_name_column_and_clip(tmp_path, rows, column):
    write_manifest(tmp_path, rows[:3])
    rewrite(tmp_path, lambda table: table.assign(**{column: [table[column][0], None, table[column][2]]}))
    with pytest.raises(DataError, match=f"column {column}: expected a value, got none for 1 clips: clip-00001"):
        read_manifest(tmp_path, shard="s-0000")


def test_unreadable_bytes_are_refused(tmp_path):
    (tmp_path / FILE).write_bytes(b"PAR1")
    for read in (manifest_version, list_shards, read_manifest):
        with pytest.raises(DataError, match="cannot be read as Parquet"):
            read(tmp_path)
    pq.write_table(pa.table({"name": ["a"]}), tmp_path / FILE)
    with pytest.raises(DataError, match=r"shard"):
        list_shards(tmp_path)
