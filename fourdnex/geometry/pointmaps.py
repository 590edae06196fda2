"""Point maps: one 3D point per pixel, all frames of a clip in one frame of reference."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

LOW_PERCENTILE, HIGH_PERCENTILE = 2.0, 98.0
"""Range of a coordinate: percentiles over the valid pixels, robust to outliers."""


@dataclass(frozen=True, eq=False)
class Normalization:
    """Parameters of `normalize_pointmaps`: points = normalized * scale + center."""

    center: np.ndarray
    """(3,) for the clip, or (T, 3) with one per frame; float32, in the units of the points."""
    scale: float
    """One isotropic scale, in the units of the points."""


def normalize_pointmaps(
    pointmaps: np.ndarray, per: Literal["clip", "frame"] = "clip", mask: np.ndarray | None = None
) -> tuple[np.ndarray, Normalization]:
    """Normalize point maps to about [-1, 1] with one isotropic scale, which preserves angles.

    `per="clip"`: the center is the midpoint of the 2nd and 98th percentile of every coordinate over the clip, and the
    scale is the largest half extent of these ranges. Nothing is clipped, so the normalization is invertible: the common
    frame of reference, and with it the camera motion, is preserved.

    `per="frame"` is for the reference weights of 4DNeX: every frame is clipped to its own percentiles and centered at
    their midpoint; the scale is the largest half extent over frames and coordinates. Camera motion is lost.

    Args:
        pointmaps: [T, H, W, 3]; pixels with a non-finite coordinate are invalid and remain so.
        per: "clip" or "frame".
        mask: [T, H, W] bool, pixels that are used for the percentiles. Default: all valid pixels.

    Returns:
        The normalized point maps [T, H, W, 3] float32, and the `Normalization` for `denormalize_pointmaps`.

    Raises:
        ValueError: the shape is wrong, `per` is unknown, there are no valid pixels (in a frame, for "frame"), or all
            points are equal.
    """
    if pointmaps.ndim != 4 or pointmaps.shape[-1] != 3:
        raise ValueError(f"pointmaps: expected [T, H, W, 3], got {pointmaps.shape}")
    valid = np.isfinite(pointmaps).all(axis=-1)
    if mask is not None:
        if mask.shape != valid.shape:
            raise ValueError(f"mask: expected {valid.shape}, got {mask.shape}")
        valid &= mask.astype(bool)

    if per == "clip":
        low, high = _percentiles(pointmaps[valid], "pointmaps")
    elif per == "frame":
        ranges = [
            _percentiles(p[v], f"pointmaps frame {t}") for t, (p, v) in enumerate(zip(pointmaps, valid, strict=True))
        ]
        low, high = (np.stack(side)[:, None, None, :] for side in zip(*ranges, strict=True))
        pointmaps = np.clip(pointmaps, low, high)
    else:
        raise ValueError(f"per: expected 'clip' or 'frame', got {per!r}")

    center = ((low + high) / 2).astype(np.float32)
    scale = float(np.float32((high - low).max() / 2))
    if not scale > 0:
        raise ValueError("pointmaps: expected points with some extent, got the same point in all pixels")
    normalized = ((pointmaps - center) / scale).astype(np.float32)
    return normalized, Normalization(center=center.reshape(-1, 3) if per == "frame" else center, scale=scale)


def denormalize_pointmaps(normalized: np.ndarray, normalization: Normalization) -> np.ndarray:
    """Inverse of `normalize_pointmaps`, [T, H, W, 3] float32. The clipping of `per="frame"` cannot be inverted."""
    center = np.asarray(normalization.center, np.float32)
    if center.ndim == 2:
        center = center[:, None, None, :]
    return (normalized * np.float32(normalization.scale) + center).astype(np.float32)


def sloped_plane(height: int, width: int) -> np.ndarray:
    """XYZ initialization of 4DNeX, [H, W, 3] float32 in [-1, 1]: x increases to the right, y downward, z upward."""
    x = np.linspace(-1, 1, width)
    y = np.linspace(-1, 1, height)
    plane = np.empty((height, width, 3), np.float32)
    plane[..., 0], plane[..., 1], plane[..., 2] = x[None, :], y[:, None], -y[:, None]
    return plane


def _percentiles(points: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Low and high percentiles of points [N, 3], each (3,)."""
    if len(points) == 0:
        raise ValueError(f"{name}: expected at least one valid pixel, got none")
    low, high = np.percentile(points, [LOW_PERCENTILE, HIGH_PERCENTILE], axis=0)
    return low, high
