"""Digests of annotated shards, computed once per version of a file: a shard may have gigabytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fourdnex.io.files import read_json, sha256_file, write_json


def input_digests(files: Sequence[Path], folder: Path, shard: str) -> list[str]:
    """Sha256 of each file. Digests are recorded in `{folder}/.{shard}.inputs.json` with size and time of modification.

    A file with the recorded size and time of modification (nanoseconds) is not read again. A record that is damaged is
    ignored and replaced.

    Raises:
        FileNotFoundError: a file is missing.
    """
    record = folder / f".{shard}.inputs.json"
    known = _read(record)
    digests: dict[str, list[int | str]] = {}
    for file in files:
        status = file.stat()
        entry = known.get(file.name)
        if entry is None or entry[:2] != [status.st_size, status.st_mtime_ns]:
            entry = [status.st_size, status.st_mtime_ns, sha256_file(file)]
        digests[file.name] = entry
    if digests != known:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(record, digests)
    return [str(digests[file.name][2]) for file in files]


def _read(record: Path) -> dict[str, list[int | str]]:
    """The valid entries of a record: file name -> size, time of modification, digest."""
    try:
        data = read_json(record)
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(data, dict):
        return {}
    return {name: entry for name, entry in data.items() if _is_entry(entry)}


def _is_entry(entry: object) -> bool:
    """Whether a value of a record has the right form."""
    return isinstance(entry, list) and len(entry) == 3 and isinstance(entry[2], str) and len(entry[2]) == 64
