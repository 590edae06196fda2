"""Point maps: one 3D point a pixel, all frames of a clip in one frame of reference."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

LOW_PERCENTILE, HIGH_PERCENTILE = 2.0, 98.0


@dataclass(frozen=True, eq=False)
class Normalization:
    """What `normalize_pointmaps` took away: points = normalized * scale + center."""

    center: np.ndarray
    """(3,) for the clip, or (T, 3) one for each frame; float32, in the units of the points."""
    scale: float
    """One isotropic scale, in the units of the points."""


def normalize_pointmaps(
    pointmaps: np.ndarray, per: Literal["clip", "frame"] = "clip", mask: np.ndarray | None = None
) -> tuple[np.ndarray, Normalization]:
    """Bring point maps to about [-1, 1], keeping angles: one isotropic scale.

    `per="clip"`: one center, the midpoint of the 2nd to 98th percentile of every coordinate over the clip, and the
    largest half extent of these ranges as scale. Nothing is clipped, so it inverts exactly: the frame shared by all
    frames, and camera motion with it, survives.

    `per="frame"` serves the public 4DNeX weights: every frame is clipped to its own percentiles and centered on their
    midpoint; the scale is the largest half extent over frames and coordinates. Camera motion does not survive this.

    Args:
        pointmaps: [T, H, W, 3]; pixels with a coordinate that is not finite are invalid and stay so.
        mask: [T, H, W] bool, pixels that count in the percentiles (all valid ones when None).

    Returns:
        The normalized point maps [T, H, W, 3] float32 and the `Normalization` that `denormalize_pointmaps` takes.

    Raises:
        ValueError: wrong shape, unknown `per`, no valid pixel (in one frame, per "frame"), or no extent at all.
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
        raise ValueError("pointmaps: expected points with some extent, got the same point everywhere")
    normalized = ((pointmaps - center) / scale).astype(np.float32)
    return normalized, Normalization(center=center.reshape(-1, 3) if per == "frame" else center, scale=scale)


def denormalize_pointmaps(normalized: np.ndarray, normalization: Normalization) -> np.ndarray:
    """Inverse of `normalize_pointmaps` (up to its clipping, per "frame"): [T, H, W, 3] to [T, H, W, 3] float32."""
    center = np.asarray(normalization.center, np.float32)
    if center.ndim == 2:
        center = center[:, None, None, :]
    return (normalized * np.float32(normalization.scale) + center).astype(np.float32)


def sloped_plane(height: int, width: int) -> np.ndarray:
    """XYZ initialization of 4DNeX, [H, W, 3] float32 in [-1, 1]: x grows to the right, y down, z is far at the top."""
    x = np.linspace(-1, 1, width)
    y = np.linspace(-1, 1, height)
    plane = np.empty((height, width, 3), np.float32)
    plane[..., 0], plane[..., 1], plane[..., 2] = x[None, :], y[:, None], -y[:, None]
    return plane


def _percentiles(points: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(low, high), each (3,), of points [N, 3]."""
    if len(points) == 0:
        raise ValueError(f"{name}: expected at least one valid pixel, got none")
    low, high = np.percentile(points, [LOW_PERCENTILE, HIGH_PERCENTILE], axis=0)
    return low, high
