"""Depth from relative inverse depth, as predicted by MiDaS and Depth Anything.

Such networks predict a / depth + b with unknown a and b. A prior determines both: the ratio of far to near depth and
the median depth are those of the median procedural world.
"""

from __future__ import annotations

import numpy as np

LOW_PERCENTILE, HIGH_PERCENTILE = 2.0, 98.0
"""Percentiles of an image's inverse depth that count as far and near, robust to outliers."""
FAR_TO_NEAR = 4.0
"""Ratio of far to near depth: the median over the training worlds, 80 % of which have 2.2 to 11. With this ratio, the
true inverse depth of these worlds gives depth with an AbsRel of 0.12."""
MEDIAN_DEPTH = 4.0
"""Median depth of the same worlds in meters; it only sets the scale of a scene."""
_MAX_TO_FAR = 3.0
"""Max ratio of the depth of a pixel to far depth, so that the shift does not move the sky to infinity."""


def depth_from_inverse(inverse: np.ndarray) -> np.ndarray:
    """Depth [H, W] float32 in meters from relative inverse depth [H, W], which is larger for nearer points.

    Non-finite pixels become NaN; a constant image becomes a plane at `MEDIAN_DEPTH`.
    """
    valid = np.isfinite(inverse)
    if not valid.any():
        return np.full(inverse.shape, np.nan, np.float32)
    far, near = np.percentile(inverse[valid], [LOW_PERCENTILE, HIGH_PERCENTILE])
    if not near > far:
        return np.where(valid, MEDIAN_DEPTH, np.nan).astype(np.float32)
    nearness = (inverse.astype(np.float64) - far) / (near - far)  # 0 for far, 1 for near
    depth = 1 / np.maximum(1 + nearness * (FAR_TO_NEAR - 1), 1 / _MAX_TO_FAR)
    return (depth * (MEDIAN_DEPTH / np.median(depth[valid]))).astype(np.float32)
