"""Bodies: which moving points belong together."""

import numpy as np

from fourdnex.motion.segmentation import min_depth_3x3

_JUMP = 0.05  # of depth, between parts


def segment_bodies(region: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Parts [H, W] of the moving pixels of a frame, from 1 on, cut where depth jumps; 0 where nothing moves."""
    from scipy.ndimage import distance_transform_edt, label

    around = np.ones((3, 3))
    with np.errstate(invalid="ignore"):
        is_behind = region & (depth > min_depth_3x3(depth) * (1 + _JUMP))
    parts, count = label(region & ~is_behind, around)
    if not count:
        return np.asarray(label(region, around)[0])
    rows, columns = distance_transform_edt(parts == 0, return_distances=False, return_indices=True)
    return np.where(is_behind, parts[rows, columns], parts)


def assign_bodies(parts: np.ndarray, pixels: np.ndarray, known: np.ndarray, following: int) -> np.ndarray:
    """The bodies [N] of new points at pixels [N] (y * width + x): the nearest one of the same part, or a new one.

    Args:
        parts: [H, W], see `segment_bodies`.
        known: [H, W], the body of the visible track at each pixel, -1 where there is none.
        following: the number of the first new body.
    """
    from scipy.ndimage import distance_transform_edt

    own = parts.reshape(-1)[pixels]
    bodies = following + own
    if (known >= 0).any():
        rows, columns = distance_transform_edt(known < 0, return_distances=False, return_indices=True)
        rows, columns = rows.reshape(-1)[pixels], columns.reshape(-1)[pixels]
        bodies = np.where(parts[rows, columns] == own, known[rows, columns], bodies)
    return np.asarray(bodies)
