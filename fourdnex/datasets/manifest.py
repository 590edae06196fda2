"""The manifest of a data set, `manifest.parquet`: one row per clip, in row groups that end with a shard.

The rows of one shard are read without the others. Version 1 of the file has one row group and lacks `ADDED_COLUMNS`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from fourdnex.clip import is_clip_name
from fourdnex.extras import require
from fourdnex.io.files import atomic_path
from fourdnex.io.renamed import renamed_columns
from fourdnex.io.tables import read_parquet

if TYPE_CHECKING:
    import pandas as pd

FILE = "manifest.parquet"
VERSION = 2
"""Version of the file, stored in its metadata; files without one have version 1."""
VERSION_KEY = b"fourdnex.schema"
_MIN_GROUP = 1024
"""Min rows per row group."""
COLUMNS = {
    "name": "string", "shard": "string", "subset": "string", "num_frames": "int", "height": "int", "width": "int",
    "fps": "float", "caption": "string", "tags": "list", "source": "string", "license": "string", "sha256": "string",
    "video": "string", "shot": "int", "start": "float", "source_sha256": "string",
}  # fmt: skip
"""Column -> type; `sha256` is the digest of the clip's video file, and the last four are those of `Clip`."""
ADDED_COLUMNS: dict[str, object] = {"video": "", "shot": 0, "start": 0.0, "source_sha256": ""}
"""Columns that earlier versions did not write -> their value there."""


class DataError(ValueError):
    """The data set on disk does not match its manifest, or the manifest is invalid."""


def read_manifest(data_dir: str | os.PathLike[str], *, shard: str | None = None) -> pd.DataFrame:
    """Read the manifest of a data set, in file order, with `tags` as tuples.

    Args:
        data_dir: the data set.
        shard: read the rows of this shard only; without such a shard, the table is empty.

    Raises:
        FileNotFoundError: there is no data set at `data_dir`.
        DataError: the file is not a valid manifest: not readable as Parquet, of a later version, missing columns, wrong
            column types, missing values, duplicate names, or names and shards that are not valid file names.
    """
    path = _existing(data_dir)
    if (version := manifest_version(data_dir)) > VERSION:
        raise DataError(f"{path}: expected version {VERSION} or earlier, got {version}: update fourdnex")
    try:
        table = renamed_columns(read_parquet(path, where=None if shard is None else {"shard": shard}), source=path)
    except ValueError as error:
        raise DataError(f"{error}: run `dvc checkout --force`") from error
    table = table.assign(**{column: value for column, value in ADDED_COLUMNS.items() if column not in table})
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise DataError(f"{path}: expected the columns {', '.join(COLUMNS)}; missing: {', '.join(missing)}")
    _check_values(path, table)
    table["tags"] = [tuple(tags) for tags in table["tags"]]
    return table


def _check_values(path: Path, table: pd.DataFrame) -> None:
    """Raise DataError for missing values, wrong types, invalid or duplicate names."""
    import pandas as pd

    for column, kind in COLUMNS.items():
        missing = table["name"][table[column].isna()]
        if len(missing):
            clips = ", ".join(str(name) for name in missing.head(5))
            raise DataError(f"{path}: column {column}: expected a value, got none for {len(missing)} clips: {clips}")
        if kind in ("int", "float") and not pd.api.types.is_numeric_dtype(table[column]):
            raise DataError(f"{path}: column {column}: expected numbers, got {table[column].dtype}")
    for column, fits, expected in (
        ("name", is_clip_name, "letters, digits, '.', '_' or '-'"),
        ("shard", _is_file_name, "a file name without a folder"),
    ):
        for row, value in table[column].drop_duplicates().items():
            if not fits(value):
                raise DataError(f"{path}: row {row}: {column}: expected {expected}, got {value!r}")
    duplicates = table["name"][table["name"].duplicated()]
    if len(duplicates):
        raise DataError(f"{path}: expected unique clip names, found duplicates: {', '.join(duplicates.head(5))}")


def list_shards(data_dir: str | os.PathLike[str]) -> list[str]:
    """Names of the shards of a data set, in manifest order; only this column of the manifest is read.

    Raises:
        FileNotFoundError: there is no data set at `data_dir`.
        DataError: the file is not readable as Parquet, or a name is not a valid file name.
    """
    path = _existing(data_dir)
    try:
        names = list(dict.fromkeys(read_parquet(path, only=["shard"])["shard"]))
    except ValueError as error:
        raise DataError(f"{error}: run `dvc checkout --force`") from error
    for name in names:
        if not _is_file_name(name):
            raise DataError(f"{path}: shard: expected a file name without a folder, got {name!r}")
    return names


def manifest_version(data_dir: str | os.PathLike[str]) -> int:
    """Version of the manifest of a data set.

    Raises:
        FileNotFoundError: there is no data set at `data_dir`.
        DataError: the file is not readable as Parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = _existing(data_dir)
    try:
        return int((pq.read_schema(path).metadata or {}).get(VERSION_KEY, b"1"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}: run `dvc checkout --force`") from error


def write_manifest(data_dir: str | os.PathLike[str], rows: Sequence[dict[str, object]]) -> None:
    """Write the manifest atomically and deterministically.

    Args:
        data_dir: directory of the data set.
        rows: one row per clip, with the keys `COLUMNS`, of which `ADDED_COLUMNS` may be left out; the rows of a shard
            stand together.
    """
    require("pyarrow", feature="a data set")
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"string": pa.string(), "int": pa.int64(), "float": pa.float64(), "list": pa.list_(pa.string())}
    metadata = {VERSION_KEY: str(VERSION).encode()}
    schema = pa.schema([(column, kinds[kind]) for column, kind in COLUMNS.items()], metadata=metadata)
    with atomic_path(Path(data_dir) / FILE) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for group in _row_groups(rows):
            writer.write_table(pa.Table.from_pylist([ADDED_COLUMNS | row for row in group], schema=schema))


def _row_groups(rows: Sequence[dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    """Rows of whole shards, at least `_MIN_GROUP` a group: small enough to read alone, few enough to list quickly."""
    group: list[dict[str, object]] = []
    for _, shard in groupby(rows, lambda row: row["shard"]):
        group += shard
        if len(group) >= _MIN_GROUP:
            yield group
            group = []
    if group or not rows:
        yield group


def _existing(data_dir: str | os.PathLike[str]) -> Path:
    """Path of the manifest, which must exist."""
    require("pandas", feature="a data set")
    path = Path(data_dir) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{data_dir}: there is no data set here ({FILE} is missing): run `dvc pull`")
    return path


def _is_file_name(name: object) -> bool:
    """Whether `name` is a file name without a directory."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")
