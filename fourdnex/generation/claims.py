"""Several passes over one collection at once: each image is claimed by one of them, on one machine.

A claim is a lock on a hidden file beside the scene. The system lets go of it when its process ends, however it does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_POLL_SECONDS = 0.2


class Claims:
    """What this process has claimed in a folder of scenes; as a context it lets go of everything at the end."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._held: dict[str, FileLock] = {}

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *error: object) -> None:
        for scene in list(self._held):
            self.release(scene)

    def take(self, scene: str, *, wait: bool = False) -> bool:
        """Claim a scene; False where another process has it, or with `wait` when that one has let go of it."""
        lock = FileLock(self._file(scene))
        try:
            lock.acquire(timeout=-1 if wait else 0, poll_interval=_POLL_SECONDS)
        except Timeout:
            return False
        self._held[scene] = lock
        return True

    def release(self, scene: str) -> None:
        """Let go of a scene, whose state is written by now: others look at it once they have the claim."""
        _remove(self._held.pop(scene))

    @contextmanager
    def records(self) -> Iterator[None]:
        """The only process that reads or writes the records of the whole collection."""
        lock = FileLock(self._folder / ".records.lock")
        with lock.acquire(poll_interval=_POLL_SECONDS):
            try:
                yield
            finally:
                _remove(lock)

    def _file(self, scene: str) -> Path:
        return self._folder / f".{scene}.lock"


def _remove(lock: FileLock) -> None:
    """Remove the file while it is locked: whoever waits for it finds that it is gone, and makes another one."""
    with suppress(PermissionError):  # Windows keeps open files
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
