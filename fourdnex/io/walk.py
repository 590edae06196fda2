"""Recursive file listing that reports unreadable files, folders and broken links instead of skipping them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path


def walk(
    root: str | os.PathLike[str],
    *,
    recursive: bool = True,
    include: Callable[[str], bool] = lambda name: not name.startswith("."),
    exclude: Path | None = None,
) -> Iterator[Path]:
    """Everything in a folder that is not a folder itself, sorted by path.

    Links to folders are followed; each folder is visited once. A subfolder that cannot be read is yielded itself, so
    that the caller can report the reason (see `unreadable_reason`).

    Args:
        root: the folder.
        recursive: also list subfolders.
        include: whether a file or folder of this name is listed. Default: names that do not start with a dot.
        exclude: a folder that is not visited.

    Raises:
        OSError: `root` cannot be read.
    """
    visited = {os.path.realpath(root)} | ({os.path.realpath(exclude)} if exclude is not None else set())
    yield from _walk(Path(root), recursive, include, visited)


def _walk(folder: Path, recursive: bool, include: Callable[[str], bool], visited: set[str]) -> Iterator[Path]:
    """Entries of one folder; `visited` holds the real paths of all folders that are not visited again."""
    for name in sorted(name for name in os.listdir(folder) if include(name)):
        path = folder / name
        if not os.path.isdir(path):
            yield path
        elif recursive and (real := os.path.realpath(path)) not in visited:
            visited.add(real)
            if os.access(path, os.R_OK | os.X_OK):
                yield from _walk(path, recursive, include, visited)
            else:
                yield path


def unreadable_reason(path: Path) -> str | None:
    """Why `path` cannot be read as a file; None for a readable regular file."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if path.is_symlink():
            return f"broken link to {os.readlink(path)}"
        return f"cannot be read: {error.strerror}"
    if stat.S_ISDIR(mode):
        return "folder cannot be read"
    if not stat.S_ISREG(mode):
        return "expected a regular file, got a pipe, socket or device"
    return None if os.access(path, os.R_OK) else "cannot be read: Permission denied"
