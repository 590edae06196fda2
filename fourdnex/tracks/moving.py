"""Points that move: followed from frame to frame by optical flow, checked against the point maps."""

import numpy as np

from fourdnex.flow import luminance, optical_flow
from fourdnex.geometry.cameras import grid_points, project
from fourdnex.rendering.motion import nearest_depth
from fourdnex.scene import Scene4D
from fourdnex.tracks.bodies import body_parts, rigid_motion
from fourdnex.tracks.lookup import bilinear, depth_at
from fourdnex.tracks.still import points_at

_ROUND_TRIP = 1.0
"""Pixels that flow there and back may be off, and a tenth of its length more."""
_SAME_DEPTH = 0.15  # of the depth, from one frame to the next
_SAME_COLOUR = 60  # of 255, mean difference over the channels from the first frame
_OFF = 1.0  # pixels from which on a pair counts for less
_SLOWS = 0.8  # a body that is not seen keeps so much of its velocity a frame


WD, WC, REG, STEPS, ZS = 0.05, 40, 0.01, (2.0, 1.0, 0.5, 0.25), 3


class MovingPoints:
    """All moving tracks that have begun, in the order in which they did, at one frame after another."""

    def __init__(self, scene: Scene4D, region: np.ndarray, tolerance: float) -> None:
        self._scene, self._region, self._tolerance = scene, region, tolerance
        self._grey = luminance(scene.rgb)
        self.xyz = np.empty((0, 3), np.float32)
        self.visible = np.empty(0, bool)
        self._place = np.empty((0, 2), np.float32)  # (x, y) in the present frame
        self._rgb = np.empty((0, 3), np.int16)
        self._body = np.empty(0, int)
        self._motions: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def start(self, pixels: np.ndarray, t: int) -> None:
        """Begin a track at each of the pixels [N] (y * width + x) of the present frame `t`."""
        scene = self._scene
        if not len(pixels):
            return
        xyz = grid_points(scene.depth[t], scene.intrinsics, scene.camera_to_world[t], pixels)
        place = np.stack([pixels % scene.width, pixels // scene.width], axis=1).astype(np.float32)
        self._body = np.concatenate([self._body, self._bodies_at(pixels, t)])
        self.xyz = np.concatenate([self.xyz, xyz])
        self.visible = np.concatenate([self.visible, np.ones(len(pixels), bool)])
        self._place = np.concatenate([self._place, place])
        self._rgb = np.concatenate([self._rgb, scene.rgb[t].reshape(-1, 3)[pixels].astype(np.int16)])

    def _bodies_at(self, pixels: np.ndarray, t: int) -> np.ndarray:
        """The bodies of new points: that of the nearest visible track in the same part of the region, or a new one."""
        from scipy.ndimage import distance_transform_edt

        parts = body_parts(self._region[t], self._scene.depth[t])
        part = parts.reshape(-1)[pixels]
        known = np.full(parts.shape, -1)
        x, y = np.round(self._place[self.visible]).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < self._scene.width) & (y < self._scene.height)
        known[y[inside], x[inside]] = self._body[self.visible][inside]
        following = int(self._body.max(initial=-1)) + 1
        bodies = following + part
        if (known >= 0).any():
            rows, columns = distance_transform_edt(known < 0, return_distances=False, return_indices=True)
            same = (parts[rows, columns] == parts).reshape(-1)[pixels]
            bodies = np.where(same, known[rows, columns].reshape(-1)[pixels], bodies)
        return bodies

    def advance(self, t: int) -> None:
        """Go on from frame `t` - 1 to frame `t`."""
        if not len(self.xyz):
            return
        place, returns = self._flow(t)
        _, expected = self._project(self.xyz, t)
        measured, found = self._find(place, expected, t)
        found &= returns & self.visible
        xyz = self.xyz.copy()
        for body in np.unique(self._body).tolist():
            own = np.flatnonzero(self._body == body)
            xyz[own] = self._move(body, own, measured, found, t)
        self.xyz = xyz
        self._place, depth = self._project(xyz, t)
        self.visible = self._sees(self._place, depth, t)

    def _move(self, body: int, own: np.ndarray, measured: np.ndarray, found: np.ndarray, t: int) -> np.ndarray:
        pairs = own[found[own]]
        if len(pairs) >= 3:
            pixel = float(np.median(np.linalg.norm(self.xyz[pairs] - self._scene.camera_to_world[t][:3, 3], axis=-1)))
            motion = rigid_motion(self.xyz[pairs], measured[pairs], _OFF * pixel / self._scene.intrinsics[0, 0])
        else:
            rotation, shift = self._motions.get(body, (np.eye(3), np.zeros(3)))
            middle = self.xyz[own].mean(axis=0)
            motion = np.eye(3), _SLOWS * (rotation @ middle + shift - middle)
        self._motions[body] = motion
        moved = np.asarray(self.xyz[own] @ motion[0].T + motion[1], np.float32)
        seen = self.visible[own]
        if seen.sum() >= 3:
            correction = self._correction(moved[seen], self._rgb[own][seen], t)
            moved += correction
            self._motions[body] = motion[0], motion[1] + correction
        return moved

    def _correction(self, xyz: np.ndarray, rgb: np.ndarray, t: int) -> np.ndarray:
        scene = self._scene
        axes = scene.camera_to_world[t][:3, :3]
        picture = scene.rgb[t].astype(np.float32)
        eye = scene.camera_to_world[t][:3, 3]
        z = float(np.median((xyz - eye) @ axes[:, 2]))
        unit = z / scene.intrinsics[0, 0]

        def cost(shift):
            place, depth = self._project(xyz + axes @ (unit * np.asarray(shift)), t)
            inside, safe, rows, columns = self._inside(place, depth)
            color = np.abs(bilinear(picture, safe) - rgb).mean(axis=-1)
            with np.errstate(invalid="ignore"):
                off = np.abs(scene.depth[t][rows, columns] - depth) / (WD * depth)
            off = np.nan_to_num(off, nan=1.0)
            each = np.minimum(color / WC, 1) + np.minimum(off, 1)
            return float(np.where(inside, each, 1.0).mean()) + REG * np.hypot(*shift[:2])

        best, least = (0.0, 0.0, 0.0), cost((0.0, 0.0, 0.0))
        for step in STEPS:
            for _ in range(4):
                tried = [(best[0] + i * step, best[1] + j * step, best[2]) for i in (-1, 0, 1) for j in (-1, 0, 1)]
                tried += [(best[0], best[1], best[2] + i * step * ZS) for i in (-1, 1)]
                costs = [cost(s) for s in tried]
                k = int(np.argmin(costs))
                if costs[k] >= least - 1e-6:
                    break
                best, least = tried[k], costs[k]
        return (axes @ (unit * np.asarray(best))).astype(np.float32)

    def _project(self, points: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        pixels, depth = project(points[None], self._scene.intrinsics, self._scene.camera_to_world[t][None])
        return pixels[0], depth[0]

    def _flow(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Where flow takes the present places [N, 2], and whether it brings them back."""
        forward = optical_flow(self._grey[t - 1], self._grey[t], accurate=True)
        backward = optical_flow(self._grey[t], self._grey[t - 1], accurate=True)
        safe = np.nan_to_num(self._place, nan=-1)
        step = bilinear(forward, safe)
        place = safe + step
        off = np.linalg.norm(step + bilinear(backward, place), axis=-1)
        return place, off < _ROUND_TRIP + 0.1 * np.linalg.norm(step, axis=-1)

    def _find(self, place: np.ndarray, expected: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        """The points [N, 3] that frame `t` has at the places [N, 2], and whether they are what is looked for."""
        scene = self._scene
        inside, safe, rows, columns = self._inside(place, expected)
        depth = depth_at(scene.depth[t], safe, expected, _SAME_DEPTH)
        difference = np.abs(scene.rgb[t][rows, columns] - self._rgb).mean(axis=-1)
        found = inside & np.isfinite(depth) & (difference < _SAME_COLOUR)
        return points_at(scene, t, safe, np.where(found, depth, 1)), found

    def _sees(self, place: np.ndarray, depth: np.ndarray, t: int) -> np.ndarray:
        inside, _, rows, columns = self._inside(place, depth)
        nearest = nearest_depth(self._scene.depth[t])[rows, columns]
        farthest = -nearest_depth(-self._scene.depth[t])[rows, columns]
        with np.errstate(invalid="ignore"):
            there = (depth > nearest * (1 - self._tolerance)) & (depth < farthest * (1 + self._tolerance))
        return np.asarray(inside & there)

    def _inside(self, place: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        height, width = self._scene.height, self._scene.width
        with np.errstate(invalid="ignore"):
            inside = ((place > -0.5) & (place < (width - 0.5, height - 0.5))).all(axis=-1) & (depth > 0)
        safe = np.where(inside[:, None], place, 0)
        x, y = np.round(safe).astype(int).T
        return inside, safe, y.clip(0, height - 1), x.clip(0, width - 1)
