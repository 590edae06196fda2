"""Ingestion of 4DNeX-10M: its clips as a data set of shards, in parallel and resumable.

```
out_dir/shards/{subset}-0000.tar ...   the clips; shard k holds the k-th `shard_size` clips of its subset
out_dir/manifest.parquet               one row per clip, written at the end
out_dir/ingest.json                    the report: counts, and the clips that failed, by subset
out_dir/.ingest/                       records of finished shards, until the manifest is written
```
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import count, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from fourdnex.clip import Clip
from fourdnex.datasets.fourdnex10m import SUBSETS, caption_of, read_captions, read_files
from fourdnex.datasets.fourdnex10m_layout import LAYOUTS, ClipFiles, find_data_dir, iter_clip_paths, parse_clip_path
from fourdnex.datasets.manifest import write_manifest
from fourdnex.datasets.shards import SHARDS, write_shard
from fourdnex.io.files import read_json, write_json
from fourdnex.progress import progress_bar

SHARD_SIZE = 256
RECORDS = ".ingest"
REPORT = "ingest.json"


@dataclass(frozen=True, kw_only=True)
class SubsetReport:
    """What became of one subset."""

    subset: str
    clips: int
    frames: int
    without_caption: int
    """Clips whose video has no caption."""
    missing_rgb: tuple[tuple[str, str], ...]
    """(path, reason) of clips whose video or images are missing."""
    broken: tuple[tuple[str, str], ...]
    """(path, reason) of clips that failed for another reason."""
    caption_problems: tuple[str, ...]
    """What of the caption table could not be read."""


@dataclass(frozen=True)
class _Task:
    """One shard: the paths of its clips."""

    data: Path
    out: Path
    subset: str
    number: int
    paths: tuple[Path, ...]

    @property
    def shard(self) -> str:
        """Name of the shard."""
        return f"{self.subset}-{self.number:04d}"

    @property
    def digest(self) -> str:
        """Digest of the paths: the record of a shard of other clips is not used."""
        names = (path.relative_to(self.data).as_posix() for path in self.paths)
        return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def record(self) -> Path:
        """File of the finished shard's record."""
        return self.out / RECORDS / f"{self.shard}.json"


def ingest_4dnex10m(
    root: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    subsets: Sequence[str] = (),
    shard_size: int = SHARD_SIZE,
    workers: int = 1,
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[SubsetReport, ...]:
    """Convert 4DNeX-10M, or some of its subsets, into a data set at `out_dir`.

    An interrupted ingestion is resumed: finished shards are kept. Clips that cannot be read are listed in the report
    with the reason. The result does not depend on the number of workers.

    Args:
        root: directory with `dynamic/`, `static/`, `raw/` and `caption/`, or the parent of one that is named `data`.
        out_dir: directory of the data set; it must be absent, empty, or of an interrupted ingestion.
        subsets: some of `fourdnex10m.SUBSETS`; empty = all that are present.
        shard_size: clips per shard.
        workers: number of processes.
        progress: called with one line per finished shard.

    Raises:
        FileNotFoundError: there is no such data set at `root`, or a requested subset is missing.
        FileExistsError: `out_dir` holds something else.
        ValueError: an invalid argument, or no clip could be read.
        OSError: the disk is full or not writable.
    """
    for argument, value in (("shard_size", shard_size), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{argument}: expected at least 1, got {value}")
    if unknown := sorted(set(subsets) - set(SUBSETS)):
        raise ValueError(f"subsets: expected some of {', '.join(SUBSETS)}, got {', '.join(unknown)}")
    data, out = find_data_dir(Path(root)), Path(out_dir)
    present = [subset for subset in SUBSETS if (data / LAYOUTS[subset].kind / subset).is_dir()]
    chosen = [subset for subset in SUBSETS if subset in (subsets or present)]
    if missing := [subset for subset in chosen if subset not in present]:
        raise FileNotFoundError(f"{data}: expected {', '.join(missing)}, found {', '.join(present) or 'none'}")
    if out.exists() and any(out.iterdir()) and not (out / RECORDS).is_dir():
        raise FileExistsError(f"{out}: expected no such folder, an empty one, or one of an interrupted ingestion")
    (out / RECORDS).mkdir(parents=True, exist_ok=True)
    tasks = [task for subset in chosen for task in _tasks(data, out, subset, shard_size)]
    done = [task for task in tasks if _is_done(task)]
    if done:
        progress(f"{len(done)} of {len(tasks)} shards are finished already")
    with progress_bar(len(tasks) - len(done), desc="ingest", unit="shard") as advance:
        for shard, counts in _run([task for task in tasks if task not in set(done)], workers):
            progress(f"{shard}: {counts}")
            advance(1)
    return _finish(data, out, chosen, tasks)


def _tasks(data: Path, out: Path, subset: str, shard_size: int) -> Iterator[_Task]:
    """The shards of a subset."""
    found = iter(iter_clip_paths(data, subset))
    for number in count():
        if not (paths := tuple(islice(found, shard_size))):
            return
        yield _Task(data, out, subset, number, paths)


def _is_done(task: _Task) -> bool:
    """Whether the shard of exactly these clips is finished."""
    if not task.record.is_file():
        return False
    record = read_json(task.record)
    has_file = (task.out / SHARDS / f"{task.shard}.tar").is_file() or not record["rows"]
    return has_file and record["paths"] == task.digest


def _run(tasks: Sequence[_Task], workers: int) -> Iterator[tuple[str, str]]:
    """Name and counts of each shard as soon as it is finished."""
    if workers == 1 or len(tasks) < 2:
        yield from map(_ingest_shard, tasks)
        return
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_ingest_shard, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _ingest_shard(task: _Task) -> tuple[str, str]:
    """Write one shard and its record."""
    failed: list[dict[str, Any]] = []
    captions, _ = read_captions(task.data, task.subset)
    found = (clip for path in task.paths if (clip := _read(task, path, captions, failed)) is not None)
    first = next(found, None)
    rows: list[dict[str, Any]] = []
    if first is not None:
        rows = write_shard(task.out, task.shard, _chain(first, found))
    write_json(task.record, {"paths": task.digest, "rows": rows, "failed": failed})
    return task.shard, f"{len(rows)} clips, {len(failed)} failed"


def _chain(first: Clip, rest: Iterator[Clip]) -> Iterator[Clip]:
    """The first clip, and the rest, without keeping the first in memory."""
    yield first
    del first
    yield from rest


def _read(task: _Task, path: Path, captions: dict[str, str], failed: list[dict[str, Any]]) -> Clip | None:
    """One clip; None, with an entry in `failed`, if it cannot be read."""
    name = path.relative_to(task.data).as_posix()
    missing_rgb = False
    try:
        files = parse_clip_path(task.data, task.subset, path)
        missing_rgb = not _has_images(files)
        return read_files(files, caption_of(captions, files))
    except (ValueError, OSError, MemoryError) as error:
        reason = str(error) or type(error).__name__
        failed.append({"path": name, "reason": reason, "missing_rgb": missing_rgb})
        return None


def _has_images(files: ClipFiles) -> bool:
    """Whether the video or the images of a clip exist; clips of dynamic_3 hold their images themselves."""
    if files.layout.annotator == "megasam":
        return True
    return files.video.exists() or (files.raw / "images_4").is_dir()


def _finish(data: Path, out: Path, subsets: Sequence[str], tasks: Sequence[_Task]) -> tuple[SubsetReport, ...]:
    """Write manifest and report from the records, and remove these."""
    rows: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    reports = []
    for subset in subsets:
        own: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for task in (task for task in tasks if task.subset == subset):
            record = read_json(task.record)
            failed += record["failed"]
            for row in record["rows"]:
                if (other := names.setdefault(row["name"], row["source"])) != row["source"]:
                    reason = f"expected one annotation of these frames, got a second one beside {other}"
                    failed.append({"path": row["source"], "reason": reason, "missing_rgb": False})
                else:
                    own.append(row)
        rows += own
        reports.append(
            SubsetReport(
                subset=subset,
                clips=len(own),
                frames=sum(row["num_frames"] for row in own),
                without_caption=sum(not row["caption"] for row in own),
                missing_rgb=tuple((each["path"], each["reason"]) for each in failed if each["missing_rgb"]),
                broken=tuple((each["path"], each["reason"]) for each in failed if not each["missing_rgb"]),
                caption_problems=tuple(read_captions(data, subset)[1]),
            )
        )
    write_json(out / REPORT, [asdict(report) for report in reports])
    if not rows:
        raise ValueError(f"{data}: expected at least one readable clip, found none; see {out / REPORT}")
    write_manifest(out, rows)
    shutil.rmtree(out / RECORDS)
    return tuple(reports)
