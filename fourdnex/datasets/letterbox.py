"""Black bars around the image of a video: letterbox and pillarbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_LEVEL = 24
"""Max luminance of bars, 0..255; limited-range black with noise."""
MIN_BRIGHTNESS = 30.0
"""Min mean luminance of a frame inside the bars; darker frames tell nothing."""
MIN_SHARE, MAX_SHARE = 0.02, 0.35
"""Bars take at least this share of a side, or they are the image's own dark border, and at most this."""


@dataclass(frozen=True)
class Crop:
    """Rows and columns of the image inside the bars."""

    top: int
    bottom: int
    left: int
    right: int

    def apply(self, rgb: np.ndarray) -> np.ndarray:
        """The image [..., H, W, 3] without the bars."""
        return rgb[..., self.top : self.bottom, self.left : self.right, :]


@dataclass(frozen=True, eq=False)
class Profile:
    """What of a frame tells its bars."""

    rows: np.ndarray  # [H], brightness of each row: the 95th percentile, since noise does not make a row bright
    columns: np.ndarray  # [W]
    brightness: float


def bar_profile(rgb: np.ndarray) -> Profile:
    """The profile of a frame [H, W, 3] uint8."""
    gray = rgb.max(axis=-1)
    return Profile(
        np.percentile(gray, 95, axis=1), np.percentile(gray, 95, axis=0), float(np.percentile(gray[::4, ::4], 90))
    )


def find_bars(profiles: Sequence[Profile]) -> Crop | None:
    """The crop that removes black bars which all bright enough frames share; None without bars."""
    if len({(len(profile.rows), len(profile.columns)) for profile in profiles}) != 1:
        return None
    bright = [profile for profile in profiles if profile.brightness >= MIN_BRIGHTNESS]
    if len(bright) < max(1, len(profiles) // 3):
        return None
    rows = np.max([profile.rows for profile in bright], axis=0) <= MAX_LEVEL
    columns = np.max([profile.columns for profile in bright], axis=0) <= MAX_LEVEL
    top, bottom = _bars(rows)
    left, right = _bars(columns)
    if (top, bottom, left, right) == (0, 0, 0, 0):
        return None
    return Crop(top, len(rows) - bottom, left, len(columns) - right)


def _bars(dark: np.ndarray) -> tuple[int, int]:
    """Thickness of the bars at both ends of a side; 0 where there is none."""
    if dark.all():
        return 0, 0
    first, last = int(np.argmin(dark)), int(np.argmin(dark[::-1]))
    low, high = MIN_SHARE * len(dark), MAX_SHARE * len(dark)
    first, last = (thickness if low <= thickness <= high else 0 for thickness in (first, last))
    return first, last
