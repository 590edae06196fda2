"""Points that move: followed from frame to frame by optical flow, checked against the point maps."""

import numpy as np

from fourdnex.flow import luminance, optical_flow
from fourdnex.geometry.cameras import grid_points, project
from fourdnex.scene import Scene4D
from fourdnex.tracks.lookup import bilinear, depth_at
from fourdnex.tracks.still import points_at

_ROUND_TRIP = 1.0
"""Pixels that flow there and back may be off, and a tenth of its length more."""
_SAME_DEPTH = 0.15  # of the depth, from one frame to the next
_SAME_COLOUR = 60  # of 255, mean difference over the channels from the first frame
_SLOWS = 0.8  # a hidden point keeps so much of its velocity a frame


class MovingPoints:
    """All moving tracks that have begun, in the order in which they did, at one frame after another.

    A point that flow and point maps do not find in a frame is hidden there: it goes on with its last velocity, which
    fades, and is taken up again where the frame has its depth and color at its place.
    """

    def __init__(self, scene: Scene4D) -> None:
        self._scene = scene
        self._grey = luminance(scene.rgb)
        self.xyz = np.empty((0, 3), np.float32)
        self.visible = np.empty(0, bool)
        self._velocity = np.empty((0, 3), np.float32)
        self._place = np.empty((0, 2), np.float32)  # (x, y) in the present frame
        self._rgb = np.empty((0, 3), np.int16)

    def start(self, pixels: np.ndarray, t: int) -> None:
        """Begin a track at each of the pixels [N] (y * width + x) of the present frame `t`."""
        scene = self._scene
        xyz = grid_points(scene.depth[t], scene.intrinsics, scene.camera_to_world[t], pixels)
        place = np.stack([pixels % scene.width, pixels // scene.width], axis=1).astype(np.float32)
        self.xyz = np.concatenate([self.xyz, xyz])
        self.visible = np.concatenate([self.visible, np.ones(len(pixels), bool)])
        self._velocity = np.concatenate([self._velocity, np.zeros_like(xyz)])
        self._place = np.concatenate([self._place, place])
        self._rgb = np.concatenate([self._rgb, scene.rgb[t].reshape(-1, 3)[pixels].astype(np.int16)])

    def advance(self, t: int) -> None:
        """Go on from frame `t` - 1 to frame `t`."""
        if not len(self.xyz):
            return
        guess = self.xyz + self._velocity
        guessed, depth = self._project(guess, t)
        place, returns = self._flow(t)
        place = np.where(self.visible[:, None], place, guessed)
        xyz, found = self._find(place, depth, t)
        found &= returns | ~self.visible
        xyz = np.where(found[:, None], xyz, guess)
        steps = xyz - self.xyz
        was_visible = self.visible
        self._velocity = np.where((found & was_visible)[:, None], steps, _SLOWS * self._velocity)
        self.xyz, self.visible = xyz, found
        self._place = np.where(found[:, None], place, guessed)

    def _project(self, points: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        pixels, depth = project(points[None], self._scene.intrinsics, self._scene.camera_to_world[t][None])
        return pixels[0], depth[0]

    def _flow(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Where flow takes the present places [N, 2], and whether it brings them back."""
        forward = optical_flow(self._grey[t - 1], self._grey[t])
        backward = optical_flow(self._grey[t], self._grey[t - 1])
        step = bilinear(forward, self._place)
        place = self._place + step
        off = np.linalg.norm(step + bilinear(backward, place), axis=-1)
        return place, off < _ROUND_TRIP + 0.1 * np.linalg.norm(step, axis=-1)

    def _find(self, place: np.ndarray, expected: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        """The points [N, 3] that frame `t` has at the places [N, 2], and whether they are what is looked for."""
        scene = self._scene
        limit = (scene.width - 0.5, scene.height - 0.5)
        with np.errstate(invalid="ignore"):
            inside = ((place > -0.5) & (place < limit)).all(axis=-1) & (expected > 0)
        safe = np.where(inside[:, None], place, 0)
        depth = depth_at(scene.depth[t], safe, expected, _SAME_DEPTH)
        x, y = np.round(safe).astype(int).T
        rows, columns = y.clip(0, scene.height - 1), x.clip(0, scene.width - 1)
        difference = np.abs(scene.rgb[t][rows, columns] - self._rgb).mean(axis=-1)
        found = inside & np.isfinite(depth) & (difference < _SAME_COLOUR)
        return points_at(scene, t, safe, np.where(found, depth, 1)), found
