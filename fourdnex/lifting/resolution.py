"""The resolution that a scene is lifted to."""

from __future__ import annotations

import logging
import os
from typing import Literal

Resolution = Literal["model", "photo"] | int
"""The model's resolution, the photograph's resolution, or the longer side in pixels."""

_LOG = logging.getLogger(__name__)
_STORED_BYTES = 12  # per pixel and frame: color, depth, confidence, origin
_WORKING_BYTES = 160  # per pixel and frame that is processed concurrently
_MEMORY_FRACTION = 0.5  # of the available memory
_MIN_GAIN = 2  # minimum ratio of the number of pixels to that of the model's frames


def parse_resolution(resolution: str | int, *, default: int) -> Resolution:
    """Parse a resolution: "auto" (`default`), "model", "photo", or the longer side in pixels.

    Raises:
        ValueError: another value, or fewer than 16 pixels.
    """
    if resolution == "auto":
        return default
    if resolution == "model":
        return "model"
    if resolution == "photo":
        return "photo"
    try:
        side = int(resolution)
    except ValueError:
        side = 0
    if side < 16:
        raise ValueError(
            f"resolution: expected auto, model, photo, or a longer side of at least 16 pixels, got {resolution!r}"
        )
    return side


def lifted_size(
    photograph: tuple[float, float], frame: tuple[int, int], resolution: Resolution
) -> tuple[int, int] | None:
    """Even height and width with the photograph's aspect ratio; None if lifting would add too few pixels.

    Args:
        photograph: height and width in pixels of the region of the photograph that the scene shows.
        frame: height and width of the model's frames.
    """
    if resolution == "model":
        return None
    longer = max(photograph)
    scale = 1.0 if resolution == "photo" else min(1.0, resolution / longer)
    height, width = (max(2, round(side * scale / 2) * 2) for side in photograph)
    if height * width < _MIN_GAIN * frame[0] * frame[1]:  # a small photograph adds no detail
        return None
    return height, width


def resolution_identity(resolution: Resolution) -> dict[str, str | int]:
    """Provenance entry of a resolution; empty for the model's resolution."""
    return {} if resolution == "model" else {"resolution": resolution}


def affordable_size(size: tuple[int, int], *, num_frames: int, threads: int, name: str) -> tuple[int, int]:
    """The size, or with a warning the largest size of its aspect ratio that fits into half of the available memory."""
    available = _available_memory()
    bytes_per_pixel = _STORED_BYTES * num_frames + _WORKING_BYTES * threads
    required = size[0] * size[1] * bytes_per_pixel
    if available is None or required <= _MEMORY_FRACTION * available:
        return size
    scale = (_MEMORY_FRACTION * available / required) ** 0.5
    smaller = tuple(max(2, int(side * scale / 2) * 2) for side in size)
    _LOG.warning(
        "%s: %d x %d pixels require %.1f GB of memory, but %.1f GB are available; using %d x %d",
        name,
        *size,
        required / 1e9,
        available / 1e9,
        *smaller,
    )
    return smaller[0], smaller[1]


def _available_memory() -> int | None:
    """Available memory in bytes, without swapping; None if the system does not report it."""
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        try:
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, AttributeError):
            return None
