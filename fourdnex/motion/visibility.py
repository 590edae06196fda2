"""Which points a frame sees."""

import numpy as np

from fourdnex.geometry.cameras import project
from fourdnex.motion.segmentation import min_depth_3x3
from fourdnex.scene import Scene4D

_HIDES = 6.0
"""So many times the tolerance of depth something has to lie in front of a point to hide it."""
_SAME_COLOR = 25  # of 255, mean over the channels: what has the point's color there ...
_NOISE = 0.3  # ... and is not nearer by more than this share of depth is the point itself


class Visibility:
    """Tests points of a scene against its frames.

    Args:
        tolerance: difference of depth, as a share of it, up to which two frames see the same surface.
    """

    def __init__(self, scene: Scene4D, tolerance: float) -> None:
        self._scene, self._tolerance = scene, tolerance
        self._nearest = np.stack([min_depth_3x3(depth) for depth in scene.depth])  # [T, H, W]
        self._farthest = np.stack([-min_depth_3x3(-depth) for depth in scene.depth])

    def sees(self, xyz: np.ndarray, rgb: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Which points [N, 3] with colors [N, 3] frame `t` sees [N], and where it also has a surface there [N].

        It sees what lies inside its image unless it has something nearer around that pixel: by more than noise
        explains, and of another color.
        """
        scene = self._scene
        places, z = project(xyz[None], scene.intrinsics, scene.camera_to_world[t][None])
        inside, rows, columns, _ = nearest_pixels(places[0], z[0], scene.height, scene.width)
        nearest, farthest = self._nearest[t, rows, columns], self._farthest[t, rows, columns]
        difference = np.abs(scene.rgb[t, rows, columns].astype(np.int16) - rgb).mean(axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            behind = z[0] / farthest - 1  # NaN where the frame has no depth
            limit = np.where(difference < _SAME_COLOR, max(_NOISE, _HIDES * self._tolerance), _HIDES * self._tolerance)
            sees = inside & (behind < limit)
            there = sees & (z[0] > nearest * (1 - _NOISE / 3))
        return sees, there


def nearest_pixels(
    places: np.ndarray, depth: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Which places [N, 2] (x, y) at depths [N] lie inside the image, their rows and columns, and places that do.

    Rows, columns and the last places [N, 2] are those of the first pixel where a place lies outside.
    """
    with np.errstate(invalid="ignore"):
        inside = ((places > -0.5) & (places < (width - 0.5, height - 0.5))).all(axis=-1) & (depth > 0)
    safe = np.where(inside[:, None], places, 0)
    x, y = np.rint(safe).astype(int).T
    return inside, y.clip(0, height - 1), x.clip(0, width - 1), safe
