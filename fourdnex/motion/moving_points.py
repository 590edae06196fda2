"""Tracking of moving points as rigid bodies from frame to frame, by optical flow, color and depth."""

import numpy as np

from fourdnex.geometry.cameras import grid_points, project
from fourdnex.motion.registration import fit_rigid_motion, refine_translation
from fourdnex.motion.rigid_bodies import assign_bodies, segment_bodies
from fourdnex.motion.sampling import bilinear, depth_at, points_at
from fourdnex.motion.visibility import Visibility, nearest_pixels
from fourdnex.optical_flow import luminance, optical_flow
from fourdnex.scene import Scene4D

_FLOW_TOLERANCE = 1.0
"""Forward-backward consistency: maximum error in pixels, plus a tenth of the flow's length."""
_DEPTH_TOLERANCE = 0.15  # relative depth, from one frame to the next
_SAME_COLOR = 60  # of 255, mean difference over the channels from the first frame
_INLIER_SCALE = 1.0  # pixels, scale of the robust fit
_MIN_FRACTION = 0.05  # of a body's points that must be observed to estimate its motion
_MIN_POINTS = 3
_VELOCITY_DECAY = 0.8  # per frame, while a body is occluded


class MovingPoints:
    """Moving tracks in the order of their start, advanced frame by frame.

    A body moves rigidly from one frame to the next. The motion is fitted to optical flow that passes the
    forward-backward check and agrees in color and depth, then refined by a translation that aligns the body's first
    colors and its depth with the frame. An occluded body continues its last motion with decaying velocity.

    Args:
        region: [T, H, W] bool, moving pixels.
        visibility: visibility tests of the scene.
    """

    def __init__(self, scene: Scene4D, region: np.ndarray, visibility: Visibility) -> None:
        self._scene, self._region, self._visibility = scene, region, visibility
        self._gray = luminance(scene.rgb)
        self.xyz = np.empty((0, 3), np.float32)
        self.visible = np.empty(0, bool)
        self._on_surface = np.empty(0, bool)  # visible, and the frame has a surface at the point
        self._pixels = np.empty((0, 2), np.float32)  # (x, y) in the current frame, NaN behind the camera
        self._rgb = np.empty((0, 3), np.int16)
        self._body = np.empty(0, int)
        self._velocity: dict[int, np.ndarray] = {}

    def start(self, pixels: np.ndarray, t: int) -> None:
        """Start a track at each of the pixels [N] (y * width + x) of the current frame `t`."""
        scene = self._scene
        if not len(pixels):
            return
        body_map = np.full((scene.height, scene.width), -1)
        inside, rows, columns, _ = nearest_pixels(self._pixels, np.ones(len(self._pixels)), scene.height, scene.width)
        visible = inside & self._on_surface
        body_map[rows[visible], columns[visible]] = self._body[visible]
        parts = segment_bodies(self._region[t], scene.depth[t])
        bodies = assign_bodies(parts, pixels, body_map, int(self._body.max(initial=-1)) + 1)
        coordinates = np.stack([pixels % scene.width, pixels // scene.width], axis=1).astype(np.float32)
        xyz = grid_points(scene.depth[t], scene.intrinsics, scene.camera_to_world[t], pixels)
        self._body = np.concatenate([self._body, bodies])
        self.xyz = np.concatenate([self.xyz, xyz])
        self.visible = np.concatenate([self.visible, np.ones(len(pixels), bool)])
        self._on_surface = np.concatenate([self._on_surface, np.ones(len(pixels), bool)])
        self._pixels = np.concatenate([self._pixels, coordinates])
        self._rgb = np.concatenate([self._rgb, scene.rgb[t].reshape(-1, 3)[pixels].astype(np.int16)])

    def advance(self, t: int) -> None:
        """Advance from frame `t` - 1 to frame `t`."""
        if not len(self.xyz):
            return
        measured, is_valid = self._measure(t)
        xyz = np.empty_like(self.xyz)
        for body in np.unique(self._body).tolist():
            members = np.flatnonzero(self._body == body)
            xyz[members] = self._move_body(body, members, measured, members[is_valid[members]], t)
        self.xyz = xyz
        self._pixels = self._project(xyz, t)[0]
        self.visible, self._on_surface = self._visibility.test(xyz, self._rgb, t)

    def _move_body(self, body: int, members: np.ndarray, measured: np.ndarray, pairs: np.ndarray, t: int) -> np.ndarray:
        """Positions in frame `t` of the points `members` of a body, fitted to the measured subset `pairs`."""
        before = self.xyz[members]
        if len(pairs) >= max(_MIN_POINTS, _MIN_FRACTION * len(members)):
            distance = np.linalg.norm(self.xyz[pairs] - self._scene.camera_to_world[t][:3, 3], axis=-1)
            unit = float(np.median(distance)) / float(self._scene.intrinsics[0, 0])
            rotation, shift = fit_rigid_motion(self.xyz[pairs], measured[pairs], _INLIER_SCALE * unit)
            after = (before @ rotation.T + shift).astype(np.float32)
        else:
            after = before + np.float32(_VELOCITY_DECAY) * self._velocity.get(body, np.zeros(3, np.float32))
        visible = self._on_surface[members]
        if visible.sum() >= max(_MIN_POINTS, _MIN_FRACTION * len(members)):
            after += refine_translation(self._scene, t, after[visible], self._rgb[members][visible])
        self._velocity[body] = (after - before).mean(axis=0)
        return after

    def _measure(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """The points [N, 3] of frame `t` at the end of the optical flow, and which of them [N] are valid."""
        scene = self._scene
        forward = optical_flow(self._gray[t - 1], self._gray[t], "accurate")
        backward = optical_flow(self._gray[t], self._gray[t - 1], "accurate")
        pixels = np.nan_to_num(self._pixels, nan=-1)
        flow = bilinear(forward, pixels)
        error = np.linalg.norm(flow + bilinear(backward, pixels + flow), axis=-1)
        _, expected = self._project(self.xyz, t)
        inside, rows, columns, target = nearest_pixels(pixels + flow, expected, scene.height, scene.width)
        depth = depth_at(scene.depth[t], target, expected, _DEPTH_TOLERANCE)
        is_same_color = np.abs(scene.rgb[t, rows, columns] - self._rgb).mean(axis=-1) < _SAME_COLOR
        is_consistent = error < _FLOW_TOLERANCE + 0.1 * np.linalg.norm(flow, axis=-1)
        is_valid = self._on_surface & inside & is_consistent & is_same_color & np.isfinite(depth)
        return points_at(scene, t, target, np.where(is_valid, depth, 1)), is_valid

    def _project(self, points: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels [N, 2] and depth [N] of points [N, 3] in frame `t`."""
        pixels, depth = project(points[None], self._scene.intrinsics, self._scene.camera_to_world[t][None])
        return pixels[0], depth[0]
