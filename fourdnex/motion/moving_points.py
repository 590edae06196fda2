"""Points that move, followed from frame to frame as bodies by optical flow, color and depth."""

import numpy as np

from fourdnex.geometry.cameras import grid_points, project
from fourdnex.motion.registration import fit_rigid_motion, refine_translation
from fourdnex.motion.rigid_bodies import assign_bodies, segment_bodies
from fourdnex.motion.sampling import bilinear, depth_at, points_at
from fourdnex.motion.visibility import Visibility, nearest_pixels
from fourdnex.optical_flow import luminance, optical_flow
from fourdnex.scene import Scene4D

_ROUND_TRIP = 1.0
"""Pixels that flow there and back may be off, and a tenth of its length more."""
_SAME_DEPTH = 0.15  # of the depth, from one frame to the next
_SAME_COLOR = 60  # of 255, mean difference over the channels from the first frame
_OFF = 1.0  # pixels from which on a pair counts for less
_ENOUGH = 0.05  # of a body's points; fewer do not tell its motion
_FEWEST = 3
_FADES = 0.8  # what a body that is not seen keeps of its velocity each frame


class MovingPoints:
    """All moving tracks that have begun, in the order in which they did, at one frame after another.

    A body moves rigidly from one frame to the next: as flow there and back says where color and depth agree, then
    shifted to where its first colors and its depth fit the frame best. One that is hidden goes on as it last moved,
    slower with each frame.

    Args:
        region: [T, H, W] bool, the pixels that move.
    """

    def __init__(self, scene: Scene4D, region: np.ndarray, visibility: Visibility) -> None:
        self._scene, self._region, self._visibility = scene, region, visibility
        self._gray = luminance(scene.rgb)
        self.xyz = np.empty((0, 3), np.float32)
        self.visible = np.empty(0, bool)
        self._there = np.empty(0, bool)  # visible, and the frame has a surface at the point
        self._place = np.empty((0, 2), np.float32)  # (x, y) in the present frame, NaN behind its camera
        self._rgb = np.empty((0, 3), np.int16)
        self._body = np.empty(0, int)
        self._velocity: dict[int, np.ndarray] = {}

    def start(self, pixels: np.ndarray, t: int) -> None:
        """Begin a track at each of the pixels [N] (y * width + x) of the present frame `t`."""
        scene = self._scene
        if not len(pixels):
            return
        known = np.full((scene.height, scene.width), -1)
        inside, rows, columns, _ = nearest_pixels(self._place, np.ones(len(self._place)), scene.height, scene.width)
        shown = inside & self._there
        known[rows[shown], columns[shown]] = self._body[shown]
        parts = segment_bodies(self._region[t], scene.depth[t])
        bodies = assign_bodies(parts, pixels, known, int(self._body.max(initial=-1)) + 1)
        place = np.stack([pixels % scene.width, pixels // scene.width], axis=1).astype(np.float32)
        xyz = grid_points(scene.depth[t], scene.intrinsics, scene.camera_to_world[t], pixels)
        self._body = np.concatenate([self._body, bodies])
        self.xyz = np.concatenate([self.xyz, xyz])
        self.visible = np.concatenate([self.visible, np.ones(len(pixels), bool)])
        self._there = np.concatenate([self._there, np.ones(len(pixels), bool)])
        self._place = np.concatenate([self._place, place])
        self._rgb = np.concatenate([self._rgb, scene.rgb[t].reshape(-1, 3)[pixels].astype(np.int16)])

    def advance(self, t: int) -> None:
        """Go on from frame `t` - 1 to frame `t`."""
        if not len(self.xyz):
            return
        measured, found = self._measure(t)
        xyz = np.empty_like(self.xyz)
        for body in np.unique(self._body).tolist():
            own = np.flatnonzero(self._body == body)
            xyz[own] = self._moved(body, own, measured, own[found[own]], t)
        self.xyz = xyz
        self._place = self._project(xyz, t)[0]
        self.visible, self._there = self._visibility.sees(xyz, self._rgb, t)

    def _moved(self, body: int, own: np.ndarray, measured: np.ndarray, pairs: np.ndarray, t: int) -> np.ndarray:
        """New positions of the points `own` of a body, by those of them that are measured, `pairs`."""
        before = self.xyz[own]
        if len(pairs) >= max(_FEWEST, _ENOUGH * len(own)):
            distance = np.linalg.norm(self.xyz[pairs] - self._scene.camera_to_world[t][:3, 3], axis=-1)
            unit = float(np.median(distance)) / float(self._scene.intrinsics[0, 0])
            rotation, shift = fit_rigid_motion(self.xyz[pairs], measured[pairs], _OFF * unit)
            after = (before @ rotation.T + shift).astype(np.float32)
        else:
            after = before + np.float32(_FADES) * self._velocity.get(body, np.zeros(3, np.float32))
        shown = self._there[own]
        if shown.sum() >= max(_FEWEST, _ENOUGH * len(own)):
            after += refine_translation(self._scene, t, after[shown], self._rgb[own][shown])
        self._velocity[body] = (after - before).mean(axis=0)
        return after

    def _measure(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """The points [N, 3] of frame `t` that flow leads to from the present places, and which [N] can be trusted."""
        scene = self._scene
        forward = optical_flow(self._gray[t - 1], self._gray[t], "accurate")
        backward = optical_flow(self._gray[t], self._gray[t - 1], "accurate")
        present = np.nan_to_num(self._place, nan=-1)
        step = bilinear(forward, present)
        off = np.linalg.norm(step + bilinear(backward, present + step), axis=-1)
        _, expected = self._project(self.xyz, t)
        inside, rows, columns, place = nearest_pixels(present + step, expected, scene.height, scene.width)
        depth = depth_at(scene.depth[t], place, expected, _SAME_DEPTH)
        alike = np.abs(scene.rgb[t, rows, columns] - self._rgb).mean(axis=-1) < _SAME_COLOR
        returns = off < _ROUND_TRIP + 0.1 * np.linalg.norm(step, axis=-1)
        found = self._there & inside & returns & alike & np.isfinite(depth)
        return points_at(scene, t, place, np.where(found, depth, 1)), found

    def _project(self, points: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        places, depth = project(points[None], self._scene.intrinsics, self._scene.camera_to_world[t][None])
        return places[0], depth[0]
