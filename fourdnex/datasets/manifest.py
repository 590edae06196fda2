"""The manifest of a data set, `manifest.parquet`: one row per clip."""

from __future__ import annotations

import os
from collections.abc import Sequence
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
COLUMNS = {
    "name": "string", "shard": "string", "subset": "string", "num_frames": "int", "height": "int", "width": "int",
    "fps": "float", "caption": "string", "tags": "list", "source": "string", "license": "string", "sha256": "string",
    "video": "string", "shot": "int", "start": "float", "source_sha256": "string",
}  # fmt: skip
"""Column -> type; `sha256` is the digest of the clip's video file, and the last four are those of `Clip`."""
ADDED_COLUMNS = {"video": "", "shot": 0, "start": 0.0, "source_sha256": ""}
"""Columns that earlier versions did not write -> their value there."""


class DataError(ValueError):
    """The data set on disk does not match its manifest, or the manifest is invalid."""


def read_manifest(data_dir: str | os.PathLike[str]) -> pd.DataFrame:
    """Read the manifest of a data set, in file order, with `tags` as tuples.

    Raises:
        FileNotFoundError: there is no data set at `data_dir`.
        DataError: the file is not a valid manifest: not readable as Parquet, missing columns or wrong column types,
            duplicate names, or names and shards that are not valid file names.
    """
    require("pandas", feature="a data set")
    import pandas as pd

    path = Path(data_dir) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{data_dir}: there is no data set here ({FILE} is missing): run `dvc pull`")
    try:
        table = renamed_columns(read_parquet(path), source=path)
    except ValueError as error:
        raise DataError(f"{error}: run `dvc checkout --force`") from error
    table = table.assign(**{column: value for column, value in ADDED_COLUMNS.items() if column not in table})
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise DataError(f"{path}: expected the columns {', '.join(COLUMNS)}; missing: {', '.join(missing)}")
    for column, kind in COLUMNS.items():
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
    table["tags"] = [tuple(tags) for tags in table["tags"]]
    return table


def write_manifest(data_dir: str | os.PathLike[str], rows: Sequence[dict[str, object]]) -> None:
    """Write the manifest atomically and deterministically.

    Args:
        data_dir: directory of the data set.
        rows: one row per clip, with the keys `COLUMNS`.
    """
    require("pyarrow", feature="a data set")
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"string": pa.string(), "int": pa.int64(), "float": pa.float64(), "list": pa.list_(pa.string())}
    schema = pa.schema([(column, kinds[kind]) for column, kind in COLUMNS.items()])
    with atomic_path(Path(data_dir) / FILE) as temporary:
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema), temporary)


def _is_file_name(name: object) -> bool:
    """Whether `name` is a file name without a directory."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")


def shards_of(manifest: pd.DataFrame) -> list[str]:
    """Shard names in manifest order."""
    return list(dict.fromkeys(manifest["shard"]))
