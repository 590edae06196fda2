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
    """What of a frame tells its bars; percentiles, since noise does not make a row bright."""

    rows: np.ndarray  # [2, H], 95th and 50th percentile of each row's brightness
    columns: np.ndarray  # [2, W]
    brightness: float


def bar_profile(rgb: np.ndarray) -> Profile:
    """The profile of a frame [H, W, 3] uint8."""
    gray = rgb.max(axis=-1)
    return Profile(
        np.percentile(gray, (95, 50), axis=1),
        np.percentile(gray, (95, 50), axis=0),
        float(np.percentile(gray[::4, ::4], 90)),
    )


def find_bars(profiles: Sequence[Profile]) -> Crop | None:
    """The crop that removes black bars which all bright enough frames share; None without bars."""
    if len({(profile.rows.shape, profile.columns.shape) for profile in profiles}) != 1:
        return None
    bright = [profile for profile in profiles if profile.brightness >= MIN_BRIGHTNESS]
    if len(bright) < max(1, len(profiles) // 3):
        return None
    rows = np.max([profile.rows for profile in bright], axis=0)
    columns = np.max([profile.columns for profile in bright], axis=0)
    height, width = rows.shape[1], columns.shape[1]
    top, bottom = _bar(rows), _bar(rows[:, ::-1])
    left, right = _bar(columns), _bar(columns[:, ::-1])
    if (top, bottom, left, right) == (0, 0, 0, 0):
        return None
    return Crop(top, height - bottom, left, width - right)


def _bar(levels: np.ndarray) -> int:
    """Thickness of the bar at the beginning of a side with the given percentiles [2, N]; 0 without a bar.

    A bar ends at a straight edge, where most pixels of a row become bright. A dark background does not.
    """
    dark = levels[0] <= MAX_LEVEL
    if dark.all():
        return 0
    thickness = int(np.argmin(dark))
    if not MIN_SHARE * len(dark) <= thickness <= MAX_SHARE * len(dark):
        return 0
    return thickness if levels[1, thickness : thickness + 3].max() > MAX_LEVEL else 0
