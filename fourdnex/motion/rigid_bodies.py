"""Assignment of moving points to bodies."""

import numpy as np

from fourdnex.motion.segmentation import min_depth_3x3

_DEPTH_EDGE = 0.05  # relative depth difference between parts


def segment_bodies(region: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Label [H, W] connected parts of the moving pixels of a frame, split at depth edges; 0 is static."""
    from scipy.ndimage import distance_transform_edt, label

    neighborhood = np.ones((3, 3))
    with np.errstate(invalid="ignore"):
        is_behind_edge = region & (depth > min_depth_3x3(depth) * (1 + _DEPTH_EDGE))
    parts, count = label(region & ~is_behind_edge, neighborhood)
    if not count:
        return np.asarray(label(region, neighborhood)[0])
    rows, columns = distance_transform_edt(parts == 0, return_distances=False, return_indices=True)
    return np.where(is_behind_edge, parts[rows, columns], parts)


def assign_bodies(parts: np.ndarray, pixels: np.ndarray, body_map: np.ndarray, next_body: int) -> np.ndarray:
    """Body ids [N] of new points at pixels [N] (y * width + x): the nearest body in the same part, or a new one.

    Args:
        parts: [H, W], see `segment_bodies`.
        body_map: [H, W], body id of the visible track at each pixel, -1 without a track.
        next_body: id of the first new body.
    """
    from scipy.ndimage import distance_transform_edt

    part = parts.reshape(-1)[pixels]
    bodies = next_body + part
    if (body_map >= 0).any():
        rows, columns = distance_transform_edt(body_map < 0, return_distances=False, return_indices=True)
        rows, columns = rows.reshape(-1)[pixels], columns.reshape(-1)[pixels]
        bodies = np.where(parts[rows, columns] == part, body_map[rows, columns], bodies)
    return np.asarray(bodies)
