"""The clips of each shard that are encoded for training, read once from the table of curated clips."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pyarrow.parquet as pq
from pyarrow import ArrowException

from fourdnex.io.renamed import COLUMNS, renamed_columns

TRAINING_SPLITS = ("", "train")
"""Values of the column `split` of clips that are trained on; a table without this column has no other splits."""


def training_clips(curated_path: Path) -> dict[str, tuple[str, ...]]:
    """Shard -> sorted names of its accepted clips in the training split. The table is read once until it changes.

    Raises:
        FileNotFoundError: the table is missing.
        ValueError: the table cannot be read, or lacks a column.
    """
    path = Path(curated_path).resolve()
    status = path.stat()
    return _read(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=2)
def _read(path: Path, modified: int, size: int) -> dict[str, tuple[str, ...]]:
    """The selection of the file with this time of modification and size."""
    former = {name: old for old, name in COLUMNS.items()}
    wanted = ("name", "shard", "accepted", "split")
    try:
        present = pq.read_schema(path).names
        columns = [name for name in (*wanted, *(former[name] for name in wanted if name in former)) if name in present]
        table = renamed_columns(pq.read_table(path, columns=columns).to_pandas(), source=path)
    except (OSError, ArrowException) as error:
        raise ValueError(f"{path}: expected a table of curated clips, got {error}; run `fourdnex curate`") from error
    missing = [name for name in wanted[:3] if name not in table]
    if missing:
        raise ValueError(f"{path}: expected the columns name, shard and accepted; missing: {', '.join(missing)}")
    chosen = table["accepted"].fillna(False).astype(bool)
    if "split" in table:
        chosen &= table["split"].fillna("").isin(TRAINING_SPLITS)
    groups = table[chosen].groupby("shard")["name"]
    return {str(shard): tuple(sorted(names)) for shard, names in groups}
