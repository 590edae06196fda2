"""Bodies: moving points that belong together, and the motion that they share from one frame to the next."""

import numpy as np

from fourdnex.geometry.alignment import umeyama
from fourdnex.rendering.motion import nearest_depth

_ITERATIONS = 8
_FEW = 8
"""Fewer points give no rotation."""
_JUMP = 0.05  # of depth, between parts


def rigid_motion(before: np.ndarray, after: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The rotation [3, 3] and translation [3] that most of the pairs of points [N, 3] follow; N >= 1.

    Least squares, iteratively reweighted (Cauchy); a few points give a translation alone.

    Args:
        scale: distance from which on a pair counts for less.
    """
    shift = np.median(after - before, axis=0)
    rotation = np.eye(3)
    for _ in range(_ITERATIONS):
        distance = np.linalg.norm(before @ rotation.T + shift - after, axis=-1)
        weight = 1 / (1 + np.square(distance / max(scale, 1e-12)))
        if len(before) < _FEW:
            shift = weight @ (after - before) / weight.sum()
        else:
            _, rotation, shift = umeyama(before, after, with_scale=False, weights=weight)
    return rotation, shift


def body_parts(region: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Parts [H, W] of the moving pixels of a frame, from 1 on, cut where depth jumps; 0 where nothing moves."""
    from scipy.ndimage import label

    with np.errstate(invalid="ignore"):
        is_behind = depth > nearest_depth(depth) * (1 + _JUMP)
    parts, _ = label(region & ~is_behind, np.ones((3, 3)))
    rest, _ = label(region & is_behind, np.ones((3, 3)))
    return np.asarray(np.where(rest > 0, _nearest(parts, rest, region), parts))


def _nearest(parts: np.ndarray, rest: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The part nearest to each pixel; where there is none at all, the rest's own number."""
    from scipy.ndimage import distance_transform_edt

    if not (parts > 0).any():
        return rest
    rows, columns = distance_transform_edt(parts == 0, return_distances=False, return_indices=True)
    return np.asarray(parts[rows, columns])
