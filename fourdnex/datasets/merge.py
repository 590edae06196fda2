"""Data sets added to another: shards are copied, and renumbered where their names are taken."""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fourdnex.datasets.manifest import DataError, list_shards, read_manifest, write_manifest
from fourdnex.datasets.shards import SHARDS, SourceShard, add_member
from fourdnex.io.files import atomic_dir, atomic_path, check_empty, read_text

NOTICES = "LICENSES.md"
_NUMBERED = re.compile(r"(.+)-(\d{4,})")


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """What was added."""

    clips: int
    shards: tuple[str, ...]
    """Names of the new shards."""
    renamed: tuple[tuple[str, str], ...]
    """(name in its data set, new name) of renumbered shards."""
    duplicates: tuple[str, ...]
    """Clips that were left out, because a clip with the same video is there."""


def merge_data(sources: Sequence[str | os.PathLike[str]], out_dir: str | os.PathLike[str]) -> MergeReport:
    """Merge data sets into a new one at `out_dir`, which appears only when it is complete; see `add_data`.

    Raises:
        FileExistsError: `out_dir` is not empty.
        FileNotFoundError, ValueError, OSError: as in `add_data`.
    """
    check_empty(out_dir)
    with atomic_dir(out_dir) as temporary:
        write_manifest(temporary, [])
        return add_data(temporary, sources)


def add_data(data_dir: str | os.PathLike[str], sources: Sequence[str | os.PathLike[str]]) -> MergeReport:
    """Add the clips of other data sets to the one at `data_dir`.

    Its own shards stay as they are. A clip whose video is there already is left out. The manifest is replaced last;
    after an error, nothing has changed, and what an interrupted call has left behind is replaced. Notices in
    `LICENSES.md` are added too.

    Raises:
        FileNotFoundError: one of the data sets does not exist.
        DataError: a data set is damaged, or two different clips have one name.
        OSError: the disk is full or not writable.
    """
    target = Path(data_dir)
    notices = _merged_notices(target, [Path(source) for source in sources])
    rows = _rows(target)
    names = {row["name"]: str(target) for row in rows}
    digests = {row["sha256"] for row in rows}
    shards = {row["shard"] for row in rows}
    written: list[Path] = []
    renamed: list[tuple[str, str]] = []
    duplicates: list[dict[str, Any]] = []
    before = len(rows)
    try:
        for source in map(Path, sources):
            own: list[dict[str, Any]] = []
            for row in _rows(source):
                (duplicates if row["sha256"] in digests else own).append(row)
                digests.add(row["sha256"])
            for row in own:
                if (other := names.setdefault(row["name"], str(source))) != str(source):
                    raise DataError(f"{source}: {row['name']}: expected another name: a clip in {other} has it")
            for shard in list_shards(source):
                chosen = [row for row in own if row["shard"] == shard]
                if not chosen:
                    continue
                name = _free_name(shard, shards)
                shards.add(name)
                renamed += [(shard, name)] if name != shard else []
                path = target / SHARDS / f"{name}.tar"
                written.append(path)
                rows += _copy_shard(source, shard, path, chosen)
        write_manifest(target, rows)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    if notices is not None:
        with atomic_path(target / NOTICES) as temporary:
            temporary.write_text(notices, encoding="utf-8")
    return MergeReport(
        clips=len(rows) - before,
        shards=tuple(path.stem for path in written),
        renamed=tuple(renamed),
        duplicates=tuple(row["name"] for row in duplicates),
    )


def migrate_data(data_dir: str | os.PathLike[str]) -> None:
    """Write the manifest of an earlier version again, at the current version. Shards stay as they are.

    Raises:
        FileNotFoundError: there is no data set at `data_dir`.
        DataError: the manifest is invalid or of a later version.
    """
    write_manifest(data_dir, _rows(Path(data_dir)))


def _rows(data_dir: Path) -> list[dict[str, Any]]:
    """Rows of a manifest, as `write_manifest` takes them."""
    rows = [{str(key): value for key, value in row.items()} for row in read_manifest(data_dir).to_dict("records")]
    return [row | {"tags": list(row["tags"])} for row in rows]


def _free_name(shard: str, taken: Collection[str]) -> str:
    """The name of a shard, or the next free number after it."""
    if shard not in taken:
        return shard
    match = _NUMBERED.fullmatch(shard)
    stem = match[1] if match else shard
    numbers = [int(other[2]) for each in taken if (other := _NUMBERED.fullmatch(each)) and other[1] == stem]
    return f"{stem}-{max(numbers, default=0) + 1:04d}"


def _copy_shard(source: Path, shard: str, target: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Copy the clips of `rows` into a new shard, which verifies their digests; returns their new rows."""
    clips = SourceShard(source, shard)
    target.parent.mkdir(parents=True, exist_ok=True)
    rows = [row | {"shard": target.stem} for row in rows]
    is_whole = target.stem == shard and len(rows) == len(clips.names)
    with atomic_path(target) as temporary:
        if is_whole:
            for row in rows:
                clips.read_bytes(row["name"])
            shutil.copyfile(clips.path, temporary)
            return rows
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for row in rows:
                add_member(tar, f"{row['name']}.mkv", clips.read_bytes(row["name"]))
                add_member(tar, f"{row['name']}.json", _json(row))
    return rows


def _json(row: dict[str, Any]) -> bytes:
    """The JSON member of a clip."""
    return (json.dumps(row, indent=2, ensure_ascii=False) + "\n").encode()


def _merged_notices(target: Path, sources: Sequence[Path]) -> str | None:
    """The license notices of the target and the lines of those of `sources` that it lacks; None if it lacks none."""
    lines = read_text(target / NOTICES).splitlines() if (target / NOTICES).is_file() else []
    found = list(lines)
    for source in sources:
        if (source / NOTICES).is_file():
            new = read_text(source / NOTICES).splitlines()
            found += [line for line in new if line not in found or (not line and found and found[-1])]
    return None if found == lines else "\n".join(found) + "\n"
