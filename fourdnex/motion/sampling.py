"""Sampling of frames at subpixel positions."""

import numpy as np

from fourdnex.geometry.cameras import transform_points
from fourdnex.scene import Scene4D

_CHUNK = 30_000  # cv2.remap supports at most 32,766 columns
_MIN_WEIGHT = 0.25  # minimum total weight of valid neighbors


def depth_at(depth: np.ndarray, pixels: np.ndarray, expected: np.ndarray, tolerance: float) -> np.ndarray:
    """Depth [N] at subpixel positions [N, 2] (x, y) of the surface near the `expected` depth [N]; NaN without one.

    Bilinear interpolation of inverse depth, which is exact on planes, over those of the four neighbors whose relative
    difference from the expected depth is below `tolerance`.
    """
    height, width = depth.shape
    corner = np.floor(pixels)
    fraction = pixels - corner
    x, y = corner.astype(int).T
    total, weights = np.zeros((2, len(pixels)))
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        rows, columns = np.clip(y + i, 0, height - 1), np.clip(x + j, 0, width - 1)
        value = depth[rows, columns].astype(np.float64)
        weight = np.abs(1 - i - fraction[:, 1]) * np.abs(1 - j - fraction[:, 0])
        with np.errstate(invalid="ignore"):
            valid = np.abs(value - expected) < tolerance * expected
        total[valid] += weight[valid] / value[valid]
        weights[valid] += weight[valid]
    return np.where(weights > _MIN_WEIGHT, weights / np.where(total > 0, total, 1), np.nan)


def points_at(scene: Scene4D, t: int, pixels: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Unproject subpixel positions [N, 2] (x, y) with depths [N] of frame `t` to world points [N, 3] float32."""
    homogeneous = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1)
    rays = homogeneous @ np.linalg.inv(scene.intrinsics.astype(np.float64)).T
    return transform_points((rays * depth[:, None]).astype(np.float32), scene.camera_to_world[t])


def bilinear(values: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Bilinear samples [N, C] of values [H, W, C] float32 at `pixels` [N, 2] (x, y), with border replication."""
    import cv2

    x, y = np.ascontiguousarray(pixels.astype(np.float32).T)
    samples = [np.empty((0, values.shape[-1]), values.dtype)]
    for k in range(0, len(pixels), _CHUNK):
        maps = x[None, k : k + _CHUNK], y[None, k : k + _CHUNK]
        samples.append(cv2.remap(values, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0])
    return np.concatenate(samples)
