"""Data set version from which the annotation or the latents of a shard were computed.

It is stored next to them in `{shard}.data.json` as `{"data_md5": ...}`; null for data without a `data.dvc`.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from fourdnex.io.files import read_json, write_json


def write_data_version(folder: str | os.PathLike[str], shard: str, md5: str | None) -> None:
    """Record the data version of the shard in `folder`; an identical record is not rewritten."""
    path, version = _version_file(folder, shard), {"data_md5": md5}
    if not path.is_file() or read_json(path) != version:
        write_json(path, version)


def copy_data_version(source: str | os.PathLike[str], folder: str | os.PathLike[str], shard: str) -> None:
    """Copy the recorded data version of a shard from `source` to `folder`, or remove the record if there is none."""
    recorded = _version_file(source, shard)
    if recorded.is_file():
        write_data_version(folder, shard, read_json(recorded)["data_md5"])
    else:
        _version_file(folder, shard).unlink(missing_ok=True)


def data_version(folder: str | os.PathLike[str], shards: Iterable[str], *, default: str | None) -> str | None:
    """The md5 of the data version that all `shards` in `folder` share.

    None if the versions differ or the data has no version. `default` is returned if no shard has a record, as in
    directories written by earlier versions of this package.

    Raises:
        ValueError: a record is not valid JSON.
    """
    files = [_version_file(folder, shard) for shard in shards]
    versions = [read_json(path)["data_md5"] if path.is_file() else None for path in files]
    if not any(path.is_file() for path in files):
        return default
    return versions[0] if len(set(versions)) == 1 else None


def _version_file(folder: str | os.PathLike[str], shard: str) -> Path:
    """Path of the record of one shard."""
    return Path(folder) / f"{shard}.data.json"
