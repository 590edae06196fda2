"""Progress bars on stderr for long loops, with rate and time left.

Library code wraps its loops in `track` or `progress_bar`. They display nothing until a command turns them on with
`show_progress`, so that callers of the Python API get no output that they did not request.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

_SECONDS = {True: (0.5, 0.1), False: (15.0, 15.0)}
"""stderr is a terminal -> seconds before a bar appears, and between two updates. A file keeps every update."""

_enabled = False


@contextmanager
def show_progress() -> Iterator[None]:
    """Display progress bars within this context."""
    global _enabled
    before, _enabled = _enabled, True
    try:
        yield
    finally:
        _enabled = before


@contextmanager
def progress_bar(total: float | None, *, desc: str, unit: str) -> Iterator[Callable[[float], object]]:
    """A bar of `total` units, as the function that advances it by a number of units.

    Args:
        total: None if it is unknown. For a float, such as minutes, the bar shows the share instead of a count.
        desc: name of the loop.
        unit: singular name of the unit.
    """
    if not _enabled:
        yield lambda _units: None
        return
    from tqdm import tqdm

    delay, interval = _SECONDS[sys.stderr.isatty()]
    display = {"file": sys.stderr, "delay": delay, "mininterval": interval}
    if isinstance(total, float):
        display["bar_format"] = "{l_bar}{bar}| [{elapsed}<{remaining}]"
    with tqdm(total=total, desc=desc, unit=f" {unit}", **display) as bar:
        yield bar.update


def track(items: Iterable[T], *, desc: str, unit: str, total: int | None = None) -> Iterator[T]:
    """The items, with a bar that advances after each. `total` defaults to `len(items)` where there is one."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress_bar(total, desc=desc, unit=unit) as advance:
        for item in items:
            yield item
            advance(1)


def write_line(line: str) -> None:
    """Write a line to stderr, above the bar if one is displayed."""
    tqdm = getattr(sys.modules.get("tqdm"), "tqdm", None)
    if tqdm is not None and sys.stderr.isatty():
        tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr)
