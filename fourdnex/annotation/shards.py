"""Annotation of one shard: clip by clip, what is finished is kept, what fails is set aside with its reason."""

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
    """Worlds are annotated exactly, everything else by structure from motion."""
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

    A clip is annotated again only when its video or the annotator's version has changed; what the manifest says of it
    (caption, tags, license) is taken anew. Clips finished before an interruption are kept in `{out_dir}/.{shard}.parts`
    and not redone. `{out_dir}/{shard}.data.json` tells the version of the data set, see `fourdnex.datasets.versions`.

    Args:
        annotator: for all clips; by default `default_annotator` each clip's subset.
        progress: called with one line for every clip.

    Raises:
        FileNotFoundError: the data set or the shard is not there.
        ValueError: the manifest is damaged or knows no such shard.
        OSError: no room, no permission.
    """
    started = time.monotonic()
    source = SourceShard(data_dir, shard)
    version = data_md5_of(data_dir)  # now: `data.dvc` may name another one at the end
    out, parts = Path(out_dir), Path(out_dir) / f".{shard}.parts"
    before = _rows_before(out, shard)
    rows: list[dict[str, Any]] = []
    arrays: dict[str, Path] = {}
    done = cached = 0
    for name in track(source.names, desc=shard, unit="clip"):
        chosen = annotator or default_annotator(str(source.rows.loc[name, "subset"]))
        row, place = before.get(name), out / f"{shard}.safetensors"
        if row is None or not _is_of(row, source, chosen):
            row, place = _part_row(parts, name), parts / f"{name}.safetensors"
        if row is not None and _is_of(row, source, chosen):
            row = row | _manifest_row(source, name)
            cached += not row["reason"]
        else:
            row = _annotate_one(source, name, chosen, place)
            write_json(parts / f"{name}.json", row)
            done += not row["reason"]
            progress(f"{name}: {row['reason'] or 'annotated'}")
        rows.append(row)
        if not row["reason"]:
            arrays[name] = place
    if rows != list(before.values()):
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


def _annotate_one(source: SourceShard, name: str, annotator: Annotator, place: Path) -> dict[str, Any]:
    """Write the arrays of one clip to `place` and return its row."""
    started = time.monotonic()
    row = _manifest_row(source, name) | {
        "annotator": annotator.name,
        "annotator_version": annotator.version,
        "annotator_license": annotator.license,
        "reason": "",
    }
    try:
        save_arrays(place, name, clip_arrays(annotator.annotate(source.read(name))))
    except AnnotationError as error:
        row["reason"] = str(error)
    except ValueError as error:
        # The data set is not what its manifest says, or that makes no clip: without a digest it is tried again.
        row |= {"reason": str(error), "sha256": ""}
    row["seconds"] = round(time.monotonic() - started, 3)
    return row


def _manifest_row(source: SourceShard, name: str) -> dict[str, Any]:
    """What the manifest says of a clip."""
    row = {column: source.rows.loc[name, column] for column in COLUMNS if column in source.rows}
    row = {column: value.item() if isinstance(value, np.generic) else value for column, value in row.items()}
    return row | {"tags": list(row["tags"])}


def _is_of(row: dict[str, Any], source: SourceShard, annotator: Annotator) -> bool:
    """Whether a row is of this very video and annotator."""
    asked = (source.sha256(row["name"]), annotator.name, annotator.version)
    return (row["sha256"], row["annotator"], row["annotator_version"]) == asked


def _rows_before(out: Path, shard: str) -> dict[str, dict[str, Any]]:
    """Rows of an earlier pass that came to its end; none when its files are missing."""
    if not ((out / f"{shard}.parquet").is_file() and (out / f"{shard}.safetensors").is_file()):
        return {}
    rows = read_annotated_table(out, shard).to_dict("records")
    return {row["name"]: {**row, "tags": list(row["tags"])} for row in rows}


def _part_row(parts: Path, name: str) -> dict[str, Any] | None:
    path = parts / f"{name}.json"
    return read_json(path) if path.is_file() else None
