"""The size that a scene is lifted to."""

from __future__ import annotations

import logging
import os
from typing import Literal

Resolution = Literal["model", "photo"] | int
"""The model's own frames, the photograph's pixels, or pixels of the longer side."""

_LOG = logging.getLogger(__name__)
_STORED = 12  # bytes a pixel and frame: color, depth, confidence, origin
_WORKING = 160  # bytes a pixel of every frame in work
_SHARE = 0.5  # of the free memory
_WORTHWHILE = 2  # times the pixels of the model's frames


def parse_resolution(resolution: str | int, *, default: int) -> Resolution:
    """A resolution as it may be asked for: "auto" (`default`), "model", "photo", or pixels of the longer side.

    Raises:
        ValueError: anything else, or fewer than 16 pixels.
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
            f"resolution: expected auto, model, photo, or at least 16 pixels of the longer side, got {resolution!r}"
        )
    return side


def lifted_size(
    photograph: tuple[float, float], frame: tuple[int, int], resolution: Resolution
) -> tuple[int, int] | None:
    """Height and width, even, in the photograph's ratio; None where the model's frames have as many pixels already.

    Args:
        photograph: height and width in pixels of the part of the photograph that the scene shows.
        frame: height and width of the model's frames.
    """
    if resolution == "model":
        return None
    longer = max(photograph)
    scale = 1.0 if resolution == "photo" else min(1.0, resolution / longer)
    height, width = (max(2, round(side * scale / 2) * 2) for side in photograph)
    if height * width < _WORTHWHILE * frame[0] * frame[1]:  # a small photograph has nothing to give
        return None
    return height, width


def resolution_identity(resolution: Resolution) -> dict[str, str | int]:
    """What scenes depend on; nothing for the model's own frames."""
    return {} if resolution == "model" else {"resolution": resolution}


def affordable_size(size: tuple[int, int], *, num_frames: int, threads: int, name: str) -> tuple[int, int]:
    """The size, or the largest of its ratio that half of the free memory holds; then a warning says so."""
    free = _free_memory()
    a_pixel = _STORED * num_frames + _WORKING * threads
    needed = size[0] * size[1] * a_pixel
    if free is None or needed <= _SHARE * free:
        return size
    scale = (_SHARE * free / needed) ** 0.5
    smaller = tuple(max(2, int(side * scale / 2) * 2) for side in size)
    _LOG.warning(
        "%s: %d x %d pixels would need %.1f GB, of which %.1f GB are free; %d x %d instead",
        name,
        *size,
        needed / 1e9,
        free / 1e9,
        *smaller,
    )
    return smaller[0], smaller[1]


def _free_memory() -> int | None:
    """Bytes that can be had without swapping, where the system tells."""
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        try:
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, AttributeError):
            return None
