"""Points that stand still: where they are, from all frames that see them, and which frames those are."""

import numpy as np

from fourdnex.geometry.cameras import grid_points, project, transform_points
from fourdnex.rendering.motion import SAME_COLOUR, look_up, nearest_depth
from fourdnex.scene import Scene4D
from fourdnex.tracks.lookup import depth_at


class StillPoints:
    """Fuses still points of a scene, and tests which frames see them.

    Args:
        tolerance: difference of depth, as a share of it, up to which two frames see the same surface.
    """

    def __init__(self, scene: Scene4D, tolerance: float) -> None:
        self._scene, self._tolerance = scene, tolerance
        self._farthest = np.stack([-nearest_depth(-depth) for depth in scene.depth])  # [T, H, W]

    def settle(self, pixels: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions [N, 3] float32, world, and visibility [N, T] of pixels [N] (y * width + x) of frame `start`.

        A position is the mean of the points that later frames have there, where depth and color agree with the first.
        """
        scene = self._scene
        first = grid_points(scene.depth[start], scene.intrinsics, scene.camera_to_world[start], pixels)
        rgb = scene.rgb[start].reshape(-1, 3)[pixels].astype(np.int16)
        total, count = first.astype(np.float64), np.ones(len(first))
        for t in range(start + 1, scene.num_frames):
            numbers, points = self._observed(first, rgb, t)
            total[numbers] += points
            count[numbers] += 1
        fused = (total / count[:, None]).astype(np.float32)
        visible = np.zeros((len(first), scene.num_frames), bool)
        visible[:, start] = True
        for t in range(start + 1, scene.num_frames):
            visible[:, t] = self.sees(fused, t)
        return fused, visible

    def sees(self, points: np.ndarray, t: int) -> np.ndarray:
        """Which world points [N, 3] lie inside the picture of frame `t` with nothing in front of them."""
        scene = self._scene
        pixels, depth = project(points[None], scene.intrinsics, scene.camera_to_world[t][None])
        inside, rows, columns = look_up(pixels[0], depth[0], scene.height, scene.width)
        seen = inside.copy()
        with np.errstate(invalid="ignore"):
            seen[inside] = depth[0][inside] < self._farthest[t, rows, columns] * (1 + self._tolerance)
        return seen

    def _observed(self, points: np.ndarray, rgb: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Which of the points frame `t` has as well, and the points that it has in their place."""
        scene = self._scene
        places, z = project(points[None], scene.intrinsics, scene.camera_to_world[t][None])
        inside, rows, columns = look_up(places[0], z[0], scene.height, scene.width)
        numbers = np.flatnonzero(inside)
        found = depth_at(scene.depth[t], places[0][numbers], z[0][numbers], self._tolerance)
        difference = np.abs(rgb[numbers] - scene.rgb[t][rows, columns]).mean(axis=-1)
        agrees = np.isfinite(found) & (difference < SAME_COLOUR)
        numbers, found = numbers[agrees], found[agrees]
        return numbers, points_at(scene, t, places[0][numbers], found)


def points_at(scene: Scene4D, t: int, places: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """World points [N, 3] float32 at pixels [N, 2] (x, y; between pixels too) and depths [N] of frame `t`."""
    homogeneous = np.concatenate([places, np.ones((len(places), 1))], axis=1)
    rays = homogeneous @ np.linalg.inv(scene.intrinsics.astype(np.float64)).T
    return transform_points((rays * depth[:, None]).astype(np.float32), scene.camera_to_world[t])
