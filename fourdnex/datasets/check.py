"""Check of a data set: shards against the manifest, and values against their ranges."""

from __future__ import annotations

import io
import json
import math
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourdnex.datasets.manifest import ADDED_COLUMNS, COLUMNS, FILE, VERSION, list_shards, manifest_version
from fourdnex.datasets.shards import SHARDS, SourceShard
from fourdnex.engine import Engine, Failure, map_items
from fourdnex.io.renamed import COLUMNS as FORMER_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

_SUFFIXES = (".mkv", ".json")


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, or in a note, something that may be."""

    where: str
    """The shard, or the file."""
    clip: str
    """Empty if the problem is not one of a clip."""
    message: str

    def __str__(self) -> str:
        """The problem in one line."""
        return ": ".join(filter(None, (self.where, self.clip, self.message)))


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """Outcome of a check."""

    clips: int
    shards: int
    problems: tuple[Problem, ...]
    """What is broken."""
    notes: tuple[Problem, ...]
    """What works, but may not be intended: clips without a license, equal clips, an earlier version."""


def check_data(
    data_dir: str | os.PathLike[str], *, decode: bool = True, engine: Engine = "local", workers: int = 1
) -> CheckReport:
    """Check every shard, member, digest, video and value of a data set, with one clip per worker in memory.

    Args:
        data_dir: the data set.
        decode: decode every video; without it, digests are compared only.
        engine: see `fourdnex.engine.map_items`.
        workers: number of processes.

    Raises:
        FileNotFoundError: there is no data set at `data_dir`.
        ValueError: the manifest is invalid.
    """
    from fourdnex.datasets.manifest import read_manifest

    folder = Path(data_dir)
    table = read_manifest(folder)
    shards = list_shards(folder)
    problems: list[Problem] = []
    for shard, result in map_items(partial(check_shard, folder, decode=decode), shards, engine=engine, workers=workers):
        problems += [Problem(shard, "", result.reason)] if isinstance(result, Failure) else result
    order = {shard: number for number, shard in enumerate(shards)}
    problems.sort(key=lambda problem: order[problem.where])
    unknown = sorted({path.name for path in (folder / SHARDS).glob("*")} - {f"{shard}.tar" for shard in shards})
    problems += [Problem(f"{SHARDS}/{name}", "", f"expected a shard of {FILE}, got another file") for name in unknown]
    return CheckReport(
        clips=len(table), shards=len(shards), problems=tuple(problems), notes=tuple(_notes(folder, table))
    )


def check_shard(data_dir: str | os.PathLike[str], shard: str, *, decode: bool = True) -> list[Problem]:
    """Check one shard, see `check_data`.

    Raises:
        FileNotFoundError: the shard is missing.
        ValueError: it cannot be read as a tar file.
        OSError: an I/O error.
    """
    source = SourceShard(data_dir, shard)
    problems: list[Problem] = []

    def report(clip: str, message: str) -> None:
        problems.append(Problem(shard, clip, message))

    members, is_complete = _members(source.path)
    if not is_complete:
        report("", "cut off: expected the end of the tar file, found none")
    expected = {f"{name}{suffix}" for name in source.names for suffix in _SUFFIXES}
    for member in members:
        if member not in expected:
            report("", f"{member}: expected a clip of {FILE}, got another member")
        elif members[member] > 1:
            report("", f"{member}: expected it once, found it {members[member]} times")
    for name in source.names:
        row = source.rows.loc[name].to_dict()
        for message in _value_problems(row):
            report(name, message)
        try:
            if decode:
                source.read(name)
            else:
                source.read_bytes(name)
            _compare_member(json.loads(source.read_member(f"{name}.json")), row)
        except (ValueError, MemoryError) as error:
            report(name, str(error).removeprefix(f"{source.path}: {name}: ") or type(error).__name__)
    return problems


def _members(path: Path) -> tuple[dict[str, int], bool]:
    """Member -> how often it occurs, and whether the file has its end."""
    counts: dict[str, int] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                counts[member.name] = counts.get(member.name, 0) + 1
    except (tarfile.TarError, OSError):
        return counts, False
    with open(path, "rb") as file:
        file.seek(-min(1024, path.stat().st_size), io.SEEK_END)
        return counts, not any(file.read())


def _value_problems(row: Mapping[str, Any]) -> Iterator[str]:
    """Values of a row that are out of range."""
    for column, least in (("num_frames", 1), ("height", 1), ("width", 1), ("shot", 0), ("start", 0)):
        if not (math.isfinite(row[column]) and row[column] >= least):
            yield f"{column}: expected at least {least}, got {row[column]}"
    if not (math.isfinite(row["fps"]) and row["fps"] > 0):
        yield f"fps: expected more than 0, got {row['fps']}"
    digest = row["sha256"]
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        yield f"sha256: expected 64 hexadecimal digits, got {digest!r}"


def _compare_member(member: Any, row: Mapping[str, Any]) -> None:
    """Compare the JSON member of a clip with its row.

    Raises:
        ValueError: they differ.
    """
    if not isinstance(member, dict):
        raise ValueError(f".json member: expected an object, got {type(member).__name__}")
    member = ADDED_COLUMNS | {FORMER_COLUMNS.get(key, key): value for key, value in member.items()}
    for column in COLUMNS:
        value = list(row[column]) if column == "tags" else row[column]
        if (found := member.get(column)) != value:
            raise ValueError(f"{column}: expected {value!r} as in {FILE}, got {found!r} in the .json member")


def _notes(folder: Path, table: pd.DataFrame) -> Iterator[Problem]:
    """What may not be intended."""
    if (version := manifest_version(folder)) < VERSION:
        yield Problem(FILE, "", f"version {version}; `fourdnex dataset migrate` writes version {VERSION}")
    if count := int((table["license"] == "").sum()):
        yield Problem(FILE, "", f"{count} clips have no license")
    copies = table[table["sha256"].duplicated(keep="first")]
    first = table.drop_duplicates("sha256").set_index("sha256")["name"]
    for name, shard, digest in zip(copies["name"], copies["shard"], copies["sha256"], strict=True):
        yield Problem(str(shard), str(name), f"has the same video as {first[digest]}")
