"""Values of a frame between its pixels."""

import numpy as np

from fourdnex.geometry.cameras import transform_points
from fourdnex.scene import Scene4D

_CHUNK = 30_000  # cv2.remap takes no more than 32,766 columns
_ENOUGH = 0.25  # of the weight of the four pixels around


def depth_at(depth: np.ndarray, places: np.ndarray, expected: np.ndarray, tolerance: float) -> np.ndarray:
    """Depth [N] of the surface at `places` [N, 2] (x, y) whose depth is near `expected` [N]; NaN where none is.

    Interpolated in 1 / depth, which is exact on planes, among those of the four pixels around that differ by less than
    `tolerance` (a share) from what is expected.
    """
    height, width = depth.shape
    corner = np.floor(places)
    part = places - corner
    x, y = corner.astype(int).T
    total, weights = np.zeros((2, len(places)))
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        rows, columns = np.clip(y + i, 0, height - 1), np.clip(x + j, 0, width - 1)
        found = depth[rows, columns].astype(np.float64)
        weight = np.abs(1 - i - part[:, 1]) * np.abs(1 - j - part[:, 0])
        with np.errstate(invalid="ignore"):
            good = np.abs(found - expected) < tolerance * expected
        total[good] += weight[good] / found[good]
        weights[good] += weight[good]
    return np.where(weights > _ENOUGH, weights / np.where(total > 0, total, 1), np.nan)


def points_at(scene: Scene4D, t: int, places: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """World points [N, 3] float32 at places [N, 2] (x, y; between pixels too) and depths [N] of frame `t`."""
    homogeneous = np.concatenate([places, np.ones((len(places), 1))], axis=1)
    rays = homogeneous @ np.linalg.inv(scene.intrinsics.astype(np.float64)).T
    return transform_points((rays * depth[:, None]).astype(np.float32), scene.camera_to_world[t])


def bilinear(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values [H, W, C] float32 at `places` [N, 2] (x, y), the border's outside of the image: [N, C]."""
    import cv2

    x, y = np.ascontiguousarray(places.astype(np.float32).T)
    parts = [np.empty((0, values.shape[-1]), values.dtype)]
    for k in range(0, len(places), _CHUNK):
        at = x[None, k : k + _CHUNK], y[None, k : k + _CHUNK]
        parts.append(cv2.remap(values, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0])
    return np.concatenate(parts)
