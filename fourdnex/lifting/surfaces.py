"""Color bleeding at depth edges."""

from __future__ import annotations

import numpy as np

_DEPTH_EDGE = 1.06
"""Depth ratio of neighboring pixels above which they belong to different surfaces."""


def remove_color_bleeding(image: np.ndarray, depth: np.ndarray, *, width: int) -> np.ndarray:
    """The image [H, W, 3] uint8 without foreground colors on background surfaces at depth edges.

    At a depth edge the image blends both surfaces, and depth [H, W] is aligned with it to a pixel or two. Where the
    foreground moves away, its color would remain as an outline. A rim of `width` pixels along the background side
    therefore takes the color of the nearest background pixel beyond the rim.
    """
    import cv2

    rim = far_rim(depth, width=width)
    if not rim.any() or rim.all():
        return image
    # Pixels near the edge on the foreground side are no color source either.
    excluded = rim | near_rim(depth, width=2 * width)
    if excluded.all():
        return image
    _, labels = cv2.distanceTransformWithLabels(
        excluded.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    rows, columns = np.nonzero(~excluded)
    row_of, column_of = np.zeros((2, labels.max() + 1), np.int64)
    row_of[labels[rows, columns]], column_of[labels[rows, columns]] = rows, columns
    source = labels[rim]
    out = image.copy()
    with np.errstate(invalid="ignore"):
        is_background = depth[row_of[source], column_of[source]] > depth[rim] / _DEPTH_EDGE
    target = tuple(axis[is_background] for axis in np.nonzero(rim))
    out[target] = image[row_of[source[is_background]], column_of[source[is_background]]]
    return out


def far_rim(depth: np.ndarray, *, width: int) -> np.ndarray:
    """Pixels [H, W] within `width` pixels of a nearer surface."""
    import cv2

    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    nearest = cv2.erode(np.nan_to_num(depth, nan=float("inf")), kernel)
    with np.errstate(invalid="ignore", over="ignore"):
        slope = cv2.erode(cv2.dilate(np.nan_to_num(depth, nan=0.0), kernel), kernel)
        return (depth > _DEPTH_EDGE * nearest) & (depth > 0.5 * (slope + nearest))


def near_rim(depth: np.ndarray, *, width: int) -> np.ndarray:
    """Pixels [H, W] within `width` pixels of a farther surface."""
    import cv2

    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    farthest = cv2.dilate(np.nan_to_num(depth, nan=0.0), kernel)
    with np.errstate(invalid="ignore"):
        return depth * _DEPTH_EDGE < farthest
