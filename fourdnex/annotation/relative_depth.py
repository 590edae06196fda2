"""Depth from the inverse depth of networks that leave its scale and shift open, such as MiDaS and Depth Anything.

Such a network gives a / depth + b with unknown a and b. A prior settles both: what is far in an image is as many times
farther than what is near as in the median procedural world, and the middle of the image is as far away as there.
"""

from __future__ import annotations

import numpy as np

LOW_PERCENTILE, HIGH_PERCENTILE = 2.0, 98.0
"""Of an image's pixels: what counts as far and as near, so that a few pixels do not decide."""
FAR_TO_NEAR = 4.0
"""Far depth over near depth: the median of the training families; four fifths of the worlds have 2.2 to 11. With it,
true inverse depth of these worlds comes back with a depth AbsRel of 0.12."""
MEDIAN_DEPTH = 4.0
"""Meters, the median of the same worlds; scenes are put back by it alone."""
_FARTHEST = 3.0
"""No pixel is farther than so many times what counts as far: the shift must not make the sky endless."""


def depth_of_inverse(inverse: np.ndarray) -> np.ndarray:
    """Depth [H, W] float32 in meters of relative inverse depth [H, W], larger where things are nearer.

    Pixels that are not finite are NaN; an image without any difference is a wall at `MEDIAN_DEPTH`.
    """
    known = np.isfinite(inverse)
    if not known.any():
        return np.full(inverse.shape, np.nan, np.float32)
    far, near = np.percentile(inverse[known], [LOW_PERCENTILE, HIGH_PERCENTILE])
    if not near > far:
        return np.where(known, MEDIAN_DEPTH, np.nan).astype(np.float32)
    share = (inverse.astype(np.float64) - far) / (near - far)  # 0 where it is far, 1 where it is near
    depth = 1 / np.maximum(1 + share * (FAR_TO_NEAR - 1), 1 / _FARTHEST)
    return (depth * (MEDIAN_DEPTH / np.median(depth[known]))).astype(np.float32)
