"""Visibility of points in the frames of a scene."""

import numpy as np

from fourdnex.geometry.cameras import project
from fourdnex.motion.segmentation import min_depth_3x3
from fourdnex.scene import Scene4D

_OCCLUSION_FACTOR = 6.0
"""A surface occludes a point if it is nearer by more than this multiple of the depth tolerance."""
_SAME_COLOR = 25  # of 255, mean over the channels: a surface of the point's color
_MAX_NOISE = 0.3  # that is nearer by at most this relative depth is the point itself


class Visibility:
    """Visibility tests of points in the frames of a scene.

    Args:
        tolerance: relative depth tolerance, see `depth_tolerance`.
    """

    def __init__(self, scene: Scene4D, tolerance: float) -> None:
        self._scene, self._tolerance = scene, tolerance
        self._nearest = np.stack([min_depth_3x3(depth) for depth in scene.depth])  # [T, H, W]
        self._farthest = np.stack([-min_depth_3x3(-depth) for depth in scene.depth])

    def test(self, xyz: np.ndarray, rgb: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Which points [N, 3] with colors [N, 3] are visible in frame `t` [N], and are also on a surface of it [N].

        A point inside of the image is visible unless all depths around its pixel are smaller by more than the
        tolerance, which is larger for surfaces of the point's color.
        """
        scene = self._scene
        pixels, z = project(xyz[None], scene.intrinsics, scene.camera_to_world[t][None])
        inside, rows, columns, _ = nearest_pixels(pixels[0], z[0], scene.height, scene.width)
        nearest, farthest = self._nearest[t, rows, columns], self._farthest[t, rows, columns]
        difference = np.abs(scene.rgb[t, rows, columns].astype(np.int16) - rgb).mean(axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            distance_behind = z[0] / farthest - 1  # NaN where the frame has no depth
            limit = _OCCLUSION_FACTOR * self._tolerance
            limits = np.where(difference < _SAME_COLOR, max(_MAX_NOISE, limit), limit)
            visible = inside & (distance_behind < limits)
            on_surface = visible & (z[0] > nearest * (1 - _MAX_NOISE / 3))
        return visible, on_surface


def nearest_pixels(
    pixels: np.ndarray, depth: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Nearest pixels of subpixel positions [N, 2] (x, y) at depths [N].

    Returns:
        inside [N] bool, whether a position is in the image and in front of the camera; rows [N] and columns [N]; and
        the positions [N, 2]. The last three are those of pixel (0, 0) where a position is not inside.
    """
    with np.errstate(invalid="ignore"):
        inside = ((pixels > -0.5) & (pixels < (width - 0.5, height - 0.5))).all(axis=-1) & (depth > 0)
    safe = np.where(inside[:, None], pixels, 0)
    x, y = np.rint(safe).astype(int).T
    return inside, y.clip(0, height - 1), x.clip(0, width - 1), safe
