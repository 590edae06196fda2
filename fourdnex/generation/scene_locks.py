"""Locks that let several processes of one machine work on the same collection: each scene is locked by one of them.

A lock is held on a hidden file beside the scene. The operating system releases it when the
process ends, even if it is killed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_POLL_SECONDS = 0.2


class SceneLocks:
    """The locks of this process in a folder of scenes; as a context manager it releases all of them at the end."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._held: dict[str, FileLock] = {}

    def __enter__(self) -> SceneLocks:
        return self

    def __exit__(self, *error: object) -> None:
        for scene in list(self._held):
            self.release(scene)

    def acquire(self, scene: str, *, wait: bool = False) -> bool:
        """Lock a scene. False if another process holds the lock; with `wait`, wait until it is released."""
        lock = FileLock(self._file(scene))
        try:
            lock.acquire(timeout=-1 if wait else 0, poll_interval=_POLL_SECONDS)
        except Timeout:
            return False
        self._held[scene] = lock
        return True

    def release(self, scene: str) -> None:
        """Release a scene once its result is written: other processes check for it when they hold the lock."""
        _remove(self._held.pop(scene))

    @contextmanager
    def records(self) -> Iterator[None]:
        """Hold the lock of the records of the whole collection."""
        lock = FileLock(self._folder / ".records.lock")
        with lock.acquire(poll_interval=_POLL_SECONDS):
            try:
                yield
            finally:
                _remove(lock)

    def _file(self, scene: str) -> Path:
        """The lock file of a scene."""
        return self._folder / f".{scene}.lock"


def _remove(lock: FileLock) -> None:
    """Remove the file while it is locked: a process that waits for it notices, and creates a new one."""
    with suppress(PermissionError):  # Windows keeps open files
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
