"""The files below a folder, none passed over in silence: also links that lead nowhere, and what is no regular file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path


def walk(
    root: str | os.PathLike[str],
    *,
    recursive: bool = True,
    keep: Callable[[str], bool] = lambda name: not name.startswith("."),
    without: Path | None = None,
) -> Iterator[Path]:
    """Everything in a folder that is no folder, and, if `recursive`, in the folders within it, in the order of paths.

    Links to folders are followed, each folder once. A folder within it that cannot be read comes itself: whoever reads
    what comes here finds the reason (see `unreadable`).

    Args:
        keep: whether a file or a folder of this name counts.
        without: a folder that is left out.

    Raises:
        OSError: `root` cannot be read.
    """
    seen = {os.path.realpath(root)} | ({os.path.realpath(without)} if without is not None else set())
    yield from _walk(Path(root), recursive, keep, seen)


def _walk(folder: Path, recursive: bool, keep: Callable[[str], bool], seen: set[str]) -> Iterator[Path]:
    for name in sorted(name for name in os.listdir(folder) if keep(name)):
        path = folder / name
        if not os.path.isdir(path):
            yield path
        elif recursive and (real := os.path.realpath(path)) not in seen:
            seen.add(real)
            if os.access(path, os.R_OK | os.X_OK):
                yield from _walk(path, recursive, keep, seen)
            else:
                yield path


def unreadable(path: Path) -> str | None:
    """Why nothing can be read of what lies at `path`; None for a regular file that may be read."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if path.is_symlink():
            return f"a broken link, to {os.readlink(path)}"
        return f"cannot be read: {error.strerror}"
    if stat.S_ISDIR(mode):
        return "a folder that cannot be read"
    if not stat.S_ISREG(mode):
        return "expected a file, got something else"
    return None if os.access(path, os.R_OK) else "cannot be read: Permission denied"
