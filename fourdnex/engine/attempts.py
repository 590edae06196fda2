"""The attempt at one item, and its failure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

CRASHED = "its worker process ended unexpectedly twice: killed, or out of memory"
R = TypeVar("R")


@dataclass(frozen=True)
class Failure:
    """Why an item has no result."""

    reason: str


def attempt(work: Callable[[str], R], item: str) -> R | Failure:
    """The result for one item; expected errors (invalid input, I/O, memory) become a `Failure`."""
    try:
        return work(item)
    except (ValueError, OSError, MemoryError) as error:
        return Failure(str(error) or type(error).__name__)
