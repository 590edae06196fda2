"""Annotation of one shard, clip by clip: finished clips are cached, and failed clips are listed with the reason."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fourdnex.annotation.base import AnnotationError, Annotator
from fourdnex.annotation.exact import ExactAnnotator
from fourdnex.annotation.sfm import SfmAnnotator
from fourdnex.clip import Clip
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
from fourdnex.progress import progress_bar


def default_annotator(subset: str) -> Annotator:
    """The exact annotator for procedural worlds, structure from motion for all other clips."""
    return ExactAnnotator() if subset == "worlds" else SfmAnnotator()


def annotate_shard(
    data_dir: str | os.PathLike[str],
    shard: str,
    out_dir: str | os.PathLike[str],
    *,
    annotator: Annotator | None = None,
    max_pixels: int | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> ShardReport:
    """Annotate the clips of one source shard into `{out_dir}/{shard}.safetensors` and `.parquet`.

    The clips of one video are annotated together, so that they can share a camera. A clip is annotated again only if
    its video, the version of the annotator or `max_pixels` has changed; caption, tags and license are always updated
    from the manifest. After an interruption, the clips in `{out_dir}/.{shard}.parts` are reused.
    `{out_dir}/{shard}.data.json` records the version of the data set, see `fourdnex.datasets.versions`.

    Args:
        data_dir: the data set.
        shard: name of the shard.
        out_dir: folder of the annotated shards.
        annotator: for all clips. Default: `default_annotator` of the subset of each clip.
        max_pixels: max height times width of an annotated clip, to which larger clips are scaled down. None: no limit.
        progress: called with one line per annotated or failed clip.

    Raises:
        FileNotFoundError: the data set or the shard does not exist.
        ValueError: the manifest is damaged or has no such shard, `max_pixels` is not positive, or `out_dir` holds a
            shard of this name that has no clip in common with it: that of another data set, which is not replaced.
        OSError: the files cannot be written.
    """
    if max_pixels is not None and max_pixels < 1:
        raise ValueError(f"max_pixels: expected at least 1, got {max_pixels}")
    started = time.monotonic()
    source = SourceShard(data_dir, shard)
    version = data_md5_of(data_dir)  # read first: `data.dvc` may change during the annotation
    out, parts = Path(out_dir), Path(out_dir) / f".{shard}.parts"
    previous = _previous_rows(out, shard)
    if previous and not set(previous) & set(source.names):
        raise ValueError(
            f"{out}: expected no {shard} or an annotation of the same data set, got that of {next(iter(previous))} and "
            f"others: choose another output folder or workspace, or remove {shard}.* from this one"
        )
    found: dict[str, dict[str, Any]] = {}
    arrays: dict[str, Path] = {}
    annotators = {name: annotator or default_annotator(str(source.rows.loc[name, "subset"])) for name in source.names}
    for name, chosen in annotators.items():
        row, file = previous.get(name), out / f"{shard}.safetensors"
        if row is None or not _is_current(row, source, chosen, max_pixels):
            row, file = _read_part(parts, name), parts / f"{name}.safetensors"
        if row is not None and _is_current(row, source, chosen, max_pixels):
            found[name] = row | _manifest_row(source, name) | {side: row[side] for side in ("height", "width")}
            arrays[name] = file
    cached = sum(not row["reason"] for row in found.values())
    done = 0
    with progress_bar(len(source.names) - len(found), desc=shard, unit="clip") as advance:
        for names in _videos(source):
            missing = [name for name in names if name not in found]
            if not missing:
                continue
            chosen = annotators[names[0]]
            clips = _SourceClips(source, names)
            before = time.monotonic()
            for name, outcome in chosen.annotate_video(clips, missing, max_pixels=max_pixels):
                arrays[name] = parts / f"{name}.safetensors"
                row = _annotated_row(source, name, chosen, outcome, arrays[name], max_pixels)
                row["seconds"] = round(time.monotonic() - before, 3)
                write_json(parts / f"{name}.json", row)
                found[name] = row
                done += not row["reason"]
                progress(f"{name}: {row['reason'] or 'annotated'}")
                advance(1)
                before = time.monotonic()
    rows = [found[name] for name in source.names]
    arrays = {name: arrays[name] for name in source.names if not found[name]["reason"]}
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


@dataclass(frozen=True)
class _SourceClips:
    """The clips of one video, see `VideoClips`."""

    source: SourceShard
    names: Sequence[str]

    def read(self, name: str) -> Clip:
        """One clip of the shard."""
        return self.source.read(name)


def _videos(source: SourceShard) -> list[list[str]]:
    """Names of the clips of each video in temporal order; a clip without a video is a video of its own."""
    videos: dict[tuple[str, str], list[str]] = {}
    for name in source.names:
        video = str(source.rows.loc[name, "video"])
        videos.setdefault((video, "" if video else name), []).append(name)
    return [sorted(names, key=lambda name: float(source.rows.loc[name, "start"])) for names in videos.values()]


def _annotated_row(
    source: SourceShard,
    name: str,
    annotator: Annotator,
    outcome: Clip | ValueError,
    file: Path,
    max_pixels: int | None,
) -> dict[str, Any]:
    """Row of the table of one clip; the arrays of an annotated clip are written to `file`."""
    row = _manifest_row(source, name) | {
        "annotator": annotator.name,
        "annotator_version": annotator.version,
        "annotator_license": annotator.license,
        "max_pixels": max_pixels or 0,
        "reason": "",
    }
    if isinstance(outcome, AnnotationError):
        return row | {"reason": str(outcome)}
    try:
        if isinstance(outcome, ValueError):
            raise outcome
        save_arrays(file, name, clip_arrays(outcome))
    except ValueError as error:
        # The data set contradicts its manifest, or the clip is invalid. Without a digest, the next run tries again.
        return row | {"reason": str(error), "sha256": ""}
    return row | {"height": outcome.height, "width": outcome.width}


def _manifest_row(source: SourceShard, name: str) -> dict[str, Any]:
    """Metadata of a clip from the manifest."""
    row = {column: source.rows.loc[name, column] for column in COLUMNS if column in source.rows}
    row = {column: value.item() if isinstance(value, np.generic) else value for column, value in row.items()}
    return row | {"tags": list(row["tags"])}


def _is_current(row: dict[str, Any], source: SourceShard, annotator: Annotator, max_pixels: int | None) -> bool:
    """Whether a row belongs to the current video, version of the annotator, and size."""
    expected = (source.sha256(row["name"]), annotator.name, annotator.version, max_pixels or 0)
    return (row["sha256"], row["annotator"], row["annotator_version"], row["max_pixels"]) == expected


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
