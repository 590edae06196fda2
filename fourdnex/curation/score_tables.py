"""Score tables, `{shard}.parquet`: the scores of every annotated clip of a shard, computed once per stage."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fourdnex.curation.scores import FINGERPRINT, SCORES, STAGES, Stage
from fourdnex.datasets.annotated import iter_annotated, read_annotated_table
from fourdnex.datasets.reports import ShardReport
from fourdnex.extras import require
from fourdnex.io.files import atomic_path
from fourdnex.progress import track

if TYPE_CHECKING:
    import pyarrow as pa

KEY = ("name", "sha256", "annotator", "annotator_version")
"""Columns that identify what was scored."""
VERSIONS = tuple(stage.version_column for stage in STAGES)
COLUMNS = (*KEY, *VERSIONS, *SCORES, FINGERPRINT, "failure")


def score_shard(annotated_dir: str | os.PathLike[str], shard: str, scores_dir: str | os.PathLike[str]) -> ShardReport:
    """Score the annotated clips of one shard and write `{scores_dir}/{shard}.parquet`; existing scores are reused.

    A stage is computed again if its version or the annotation of the clip has changed. A clip that fails keeps the
    scores of the stages that worked, and is tried again in the next run.

    Raises:
        FileNotFoundError: the shard is not annotated yet.
        ValueError: the files of the shard are corrupt.
        OSError: the disk is full or not writable.
    """
    require("pyarrow", feature="a data set")
    import pyarrow.compute as pc

    started = time.monotonic()
    annotated = read_annotated_tables(annotated_dir, [shard], (*KEY, "reason"))
    annotated = annotated.filter(pc.equal(annotated.column("reason"), "")).select(KEY)
    path = Path(scores_dir) / f"{shard}.parquet"
    if _is_current(path, annotated):
        count, seconds = len(annotated), time.monotonic() - started
        return ShardReport(shard=shard, requested=count, done=0, cached=count, seconds=seconds)
    keys = annotated.to_pylist()
    cached = {row["name"]: row for row in _read_score_rows(path)}
    rows: dict[str, dict[str, Any]] = {}
    todo: dict[str, list[Stage]] = {}
    for key in keys:
        old = cached.get(key["name"])
        if old is None or any(old[column] != key[column] for column in KEY):
            old = key | dict.fromkeys(VERSIONS, "") | {FINGERPRINT: None, "failure": ""}
        rows[key["name"]] = old
        if stages := [stage for stage in STAGES if stage.is_available and old[stage.version_column] != stage.version]:
            todo[key["name"]] = stages
    failed: list[tuple[str, str]] = []
    clips = iter_annotated(annotated_dir, shard, todo.keys()) if todo else iter(())
    for clip in track(clips, desc=shard, unit="clip", total=len(todo)):
        row = rows[clip.name] = dict(rows[clip.name], failure="")
        try:
            for stage in todo[clip.name]:
                row |= dict.fromkeys((score for score in stage.fields if score != FINGERPRINT), float("nan"))
                row[stage.version_column] = ""
                row |= dataclasses.asdict(stage.compute(clip)) | {stage.version_column: stage.version}
        except ValueError as error:
            row["failure"] = str(error)
            failed.append((clip.name, str(error)))
    if list(rows.values()) != list(cached.values()) or not path.is_file():
        _write_scores(path, list(rows.values()))
    return ShardReport(
        shard=shard,
        requested=len(rows),
        done=len(todo) - len(failed),
        cached=len(rows) - len(todo),
        failed=tuple(failed),
        seconds=time.monotonic() - started,
    )


def read_score_tables(scores_dir: str | os.PathLike[str], shards: Sequence[str]) -> pa.Table:
    """The score tables of many shards as one, with the column `shard`. A table of an earlier version has no rows.

    Raises:
        FileNotFoundError: a shard has no scores.
        ValueError: a table is corrupt.
    """
    import pyarrow as pa

    tables = []
    for shard in shards:
        path = Path(scores_dir) / f"{shard}.parquet"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: {shard} is not scored yet: run `fourdnex curate`")
        table = _read_table(path)
        if table.schema.names != list(COLUMNS):
            continue
        tables.append(table.append_column("shard", pa.repeat(pa.scalar(shard, pa.string()), len(table))))
    empty = score_table_schema().append(pa.field("shard", pa.string())).empty_table()
    return pa.concat_tables([empty, *tables])


def read_annotated_tables(
    annotated_dir: str | os.PathLike[str], shards: Sequence[str], columns: Sequence[str]
) -> pa.Table:
    """Columns of the tables of many annotated shards as one table, including failed clips.

    Raises:
        FileNotFoundError: a shard is not annotated.
        ValueError: a table is corrupt, or columns are missing.
    """
    require("pyarrow", feature="a data set")
    import pyarrow as pa

    tables = []
    for shard in shards:
        path = Path(annotated_dir) / f"{shard}.parquet"
        table = _read_table(path, columns) if path.is_file() else None
        if table is None or len(table.schema.names) != len(columns):  # absent, or written by an earlier version
            frame = read_annotated_table(annotated_dir, shard)
            frame["tags"] = [list(tags) for tags in frame["tags"]]
            table = pa.Table.from_pandas(frame[list(columns)], preserve_index=False)
        tables.append(table.select(list(columns)).replace_schema_metadata(None))
    return pa.concat_tables(tables, promote_options="permissive")


def _is_current(path: Path, annotated: pa.Table) -> bool:
    """Whether a score table has the current scores of exactly the clips of `annotated`, a table of `KEY`."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if not path.is_file():
        return False
    table = _read_table(path, (*KEY, *VERSIONS))
    if pq.read_schema(path).names != list(COLUMNS) or not table.select(KEY).cast(annotated.schema).equals(annotated):
        return False
    stages = [stage for stage in STAGES if stage.is_available]
    return all(
        pc.all(pc.equal(table.column(stage.version_column), stage.version)).as_py() is not False for stage in stages
    )


def _read_score_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a score table, NaN for absent scores; empty if the file is absent or has other columns."""
    if not path.is_file():
        return []
    table = _read_table(path)
    if table.schema.names != list(COLUMNS):
        return []  # written by another version: score again
    rows = table.to_pylist()
    for row in rows:  # absent scores as absent keys, so that rows compare equal: NaN does not
        for score in SCORES:
            if row[score] is None:
                del row[score]
    return rows


def _write_scores(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a score table. NaN is stored as null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = [{key: None if _is_nan(value) else value for key, value in row.items()} for row in rows]
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(plain, schema=score_table_schema()), temporary)


def _is_nan(value: object) -> bool:
    """Whether a value is NaN."""
    return isinstance(value, float) and bool(np.isnan(value))


def score_table_schema() -> pa.Schema:
    """Arrow schema of a score table."""
    import pyarrow as pa

    kinds = dict.fromkeys(SCORES, pa.float64()) | {FINGERPRINT: pa.binary()}
    return pa.schema([(column, kinds.get(column, pa.string())) for column in COLUMNS])


def _read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a small Parquet file; columns that it lacks are left out.

    Raises:
        ValueError: the file is not readable as Parquet.
    """
    require("pyarrow", feature="a data set")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            present = None if columns is None else [name for name in columns if name in names]
            return file.read(columns=present, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        remedy = "remove it and run the command that wrote it again"
        raise ValueError(f"{path}: cannot be read as Parquet: {error}: {remedy}") from error
