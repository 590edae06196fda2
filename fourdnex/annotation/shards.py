"""Annotation of one shard, clip by clip: finished clips are cached, and failed clips are listed with the reason."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fourdnex.annotation.base import AnnotationError, Annotator
from fourdnex.annotation.exact import ExactAnnotator
from fourdnex.annotation.sfm import SfmAnnotator
from fourdnex.datasets.annotated import (
    COLUMNS,
    clip_arrays,
    read_annotated_table,
    save_arrays,
    write_annotated,
)
from fourdnex.datasets.reports import ShardReport
from fourdnex.datasets.shards import SourceShard
from fourdnex.datasets.versions import write_data_version
from fourdnex.identity import data_md5_of
from fourdnex.io.files import read_json, write_json
from fourdnex.progress import track


def default_annotator(subset: str) -> Annotator:
    """The exact annotator for procedural worlds, structure from motion for all other clips."""
    return ExactAnnotator() if subset == "worlds" else SfmAnnotator()


def annotate_shard(
    data_dir: str | os.PathLike[str],
    shard: str,
    out_dir: str | os.PathLike[str],
    *,
    annotator: Annotator | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> ShardReport:
    """Annotate the clips of one source shard into `{out_dir}/{shard}.safetensors` and `.parquet`.

    A clip is annotated again only if its video or the version of the annotator has changed; caption, tags and license
    are always updated from the manifest. After an interruption, the clips in `{out_dir}/.{shard}.parts` are reused.
    `{out_dir}/{shard}.data.json` records the version of the data set, see `fourdnex.datasets.versions`.

    Args:
        data_dir: the data set.
        shard: name of the shard.
        out_dir: folder of the annotated shards.
        annotator: for all clips. Default: `default_annotator` of the subset of each clip.
        progress: called with one line per annotated or failed clip.

    Raises:
        FileNotFoundError: the data set or the shard does not exist.
        ValueError: the manifest is damaged or has no such shard.
        OSError: the files cannot be written.
    """
    started = time.monotonic()
    source = SourceShard(data_dir, shard)
    version = data_md5_of(data_dir)  # read first: `data.dvc` may change during the annotation
    out, parts = Path(out_dir), Path(out_dir) / f".{shard}.parts"
    previous = _previous_rows(out, shard)
    rows: list[dict[str, Any]] = []
    arrays: dict[str, Path] = {}
    done = cached = 0
    for name in track(source.names, desc=shard, unit="clip"):
        chosen = annotator or default_annotator(str(source.rows.loc[name, "subset"]))
        row, file = previous.get(name), out / f"{shard}.safetensors"
        if row is None or not _is_current(row, source, chosen):
            row, file = _read_part(parts, name), parts / f"{name}.safetensors"
        if row is not None and _is_current(row, source, chosen):
            row = row | _manifest_row(source, name)
            cached += not row["reason"]
        else:
            row = _annotate_clip(source, name, chosen, file)
            write_json(parts / f"{name}.json", row)
            done += not row["reason"]
            progress(f"{name}: {row['reason'] or 'annotated'}")
        rows.append(row)
        if not row["reason"]:
            arrays[name] = file
    if rows != list(previous.values()):
        write_annotated(out, shard, rows, arrays)
    write_data_version(out, shard, version)
    shutil.rmtree(parts, ignore_errors=True)
    return ShardReport(
        shard=shard,
        requested=len(rows),
        done=done,
        cached=cached,
        failed=tuple((row["name"], row["reason"]) for row in rows if row["reason"]),
        seconds=time.monotonic() - started,
    )


def _annotate_clip(source: SourceShard, name: str, annotator: Annotator, file: Path) -> dict[str, Any]:
    """Annotate one clip: write its arrays to `file`, and return its row of the table."""
    started = time.monotonic()
    row = _manifest_row(source, name) | {
        "annotator": annotator.name,
        "annotator_version": annotator.version,
        "annotator_license": annotator.license,
        "reason": "",
    }
    try:
        save_arrays(file, name, clip_arrays(annotator.annotate(source.read(name))))
    except AnnotationError as error:
        row["reason"] = str(error)
    except ValueError as error:
        # The data set contradicts its manifest, or the clip is invalid. Without a digest, the next run tries again.
        row |= {"reason": str(error), "sha256": ""}
    row["seconds"] = round(time.monotonic() - started, 3)
    return row


def _manifest_row(source: SourceShard, name: str) -> dict[str, Any]:
    """Metadata of a clip from the manifest."""
    row = {column: source.rows.loc[name, column] for column in COLUMNS if column in source.rows}
    row = {column: value.item() if isinstance(value, np.generic) else value for column, value in row.items()}
    return row | {"tags": list(row["tags"])}


def _is_current(row: dict[str, Any], source: SourceShard, annotator: Annotator) -> bool:
    """Whether a row belongs to the current video and version of the annotator."""
    expected = (source.sha256(row["name"]), annotator.name, annotator.version)
    return (row["sha256"], row["annotator"], row["annotator_version"]) == expected


def _previous_rows(out: Path, shard: str) -> dict[str, dict[str, Any]]:
    """Rows of an earlier, completed annotation; empty if its files are missing."""
    if not ((out / f"{shard}.parquet").is_file() and (out / f"{shard}.safetensors").is_file()):
        return {}
    rows = read_annotated_table(out, shard).to_dict("records")
    return {row["name"]: {**row, "tags": list(row["tags"])} for row in rows}


def _read_part(parts: Path, name: str) -> dict[str, Any] | None:
    """Row of a clip that was finished before an interruption; None without one."""
    path = parts / f"{name}.json"
    return read_json(path) if path.is_file() else None
