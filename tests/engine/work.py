"""Work for the tests of engines, in a module that worker processes can import."""

import os
import signal
from functools import lru_cache
from pathlib import Path


@lru_cache
def loaded() -> int:
    """What a worker loads once and keeps: here the number of its process."""
    return os.getpid()


def double(folder: str, item: str) -> tuple[str, int]:
    """The item twice; "bad" is invalid, "killed" ends its process the first time and "deadly" each time."""
    if item == "bad":
        raise ValueError("bad: expected another item")
    mark = Path(folder, item)
    if item == "deadly" or (item == "killed" and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * item, loaded()
