"""Which version of the data set the annotation or the latents of a shard were made of.

It lies beside them as `{shard}.data.json`: `{"data_md5": ...}`, null for data that no `data.dvc` names.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from fourdnex.io.files import read_json, write_json


def write_data_version(folder: str | os.PathLike[str], shard: str, md5: str | None) -> None:
    """Note what the shard in `folder` was made of; a note that says so already is left as it is."""
    path, told = _file(folder, shard), {"data_md5": md5}
    if not path.is_file() or read_json(path) != told:
        write_json(path, told)


def copy_data_version(made_of: str | os.PathLike[str], folder: str | os.PathLike[str], shard: str) -> None:
    """Note that the shard in `folder` is of the data that the one in `made_of`, which it was made of, is of."""
    source = _file(made_of, shard)
    if source.is_file():
        write_data_version(folder, shard, read_json(source)["data_md5"])
    else:
        _file(folder, shard).unlink(missing_ok=True)


def data_version(folder: str | os.PathLike[str], shards: Iterable[str], *, default: str | None) -> str | None:
    """The md5 of the data that all `shards` in `folder` are of; None for several versions, or data without one.

    `default` is the answer where no shard tells: folders of an earlier version of this package.

    Raises:
        ValueError: a file is not JSON.
    """
    files = [_file(folder, shard) for shard in shards]
    told = [read_json(path)["data_md5"] if path.is_file() else None for path in files]
    if not any(path.is_file() for path in files):
        return default
    return told[0] if len(set(told)) == 1 else None


def _file(folder: str | os.PathLike[str], shard: str) -> Path:
    return Path(folder) / f"{shard}.data.json"
