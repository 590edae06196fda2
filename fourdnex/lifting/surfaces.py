"""Colors at depth edges."""

from __future__ import annotations

import numpy as np

_JUMP = 1.06
"""Neighboring pixels whose depths differ by more than this factor lie on two surfaces."""


def without_rims(image: np.ndarray, depth: np.ndarray, *, width: int) -> np.ndarray:
    """An image [H, W, 3] uint8 whose far surfaces show no color of what stands before them.

    At a depth edge the image mixes both surfaces, and depth [H, W] fits it to a pixel or two. Where the near surface
    moves away, a line of its color would stay: a rim of `width` pixels along the far side takes the color of the far
    surface's nearest pixel beyond the rim.
    """
    import cv2

    rim = far_rim(depth, width=width)
    if not rim.any() or rim.all():
        return image
    # Not from the other side of the edge: what is near it counts as rim for the search.
    blocked = rim | near_rim(depth, width=2 * width)
    if blocked.all():
        return image
    _, labels = cv2.distanceTransformWithLabels(
        blocked.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    rows, columns = np.nonzero(~blocked)
    row_of, column_of = np.zeros((2, labels.max() + 1), np.int64)
    row_of[labels[rows, columns]], column_of[labels[rows, columns]] = rows, columns
    source = labels[rim]
    out = image.copy()
    with np.errstate(invalid="ignore"):
        same = depth[row_of[source], column_of[source]] > depth[rim] / _JUMP
    place = tuple(axis[same] for axis in np.nonzero(rim))
    out[place] = image[row_of[source[same]], column_of[source[same]]]
    return out


def far_rim(depth: np.ndarray, *, width: int) -> np.ndarray:
    """Pixels [H, W] within `width` of something clearly nearer."""
    import cv2

    size = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    nearest = cv2.erode(np.nan_to_num(depth, nan=float("inf")), size)
    with np.errstate(invalid="ignore", over="ignore"):
        slope = cv2.erode(cv2.dilate(np.nan_to_num(depth, nan=0.0), size), size)
        return (depth > _JUMP * nearest) & (depth > 0.5 * (slope + nearest))


def near_rim(depth: np.ndarray, *, width: int) -> np.ndarray:
    """Pixels [H, W] within `width` of something clearly farther."""
    import cv2

    size = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    farthest = cv2.dilate(np.nan_to_num(depth, nan=0.0), size)
    with np.errstate(invalid="ignore"):
        return depth * _JUMP < farthest
