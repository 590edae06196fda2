"""The camera of a procedural world and its motion over the clip.

Frame and time are those of `scenes`: x right, y DOWN, z forward, in meters; time runs from 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class CameraMotion:
    """Pose of the first camera, and its motion over the clip.

    The camera at `position` looks down by `pitch`, to the right by `yaw`, and is rotated clockwise about its viewing
    direction by `roll`, all in radians. `amount` is signed; its unit depends on `motion`. "dolly": meters forward;
    "truck": meters to the right; "pan": radians to the right; "orbit": radians around the point `distance` meters
    ahead.
    """

    focal: float  # image widths
    position: np.ndarray  # [3]
    pitch: float
    yaw: float
    motion: str
    amount: float
    distance: float
    roll: float = 0.0

    def pose(self, time: np.ndarray) -> np.ndarray:
        """camera_to_building [T, 4, 4] at `time` [T] in [0, 1]."""
        yaw = np.full(len(time), self.yaw)
        position = np.repeat(self.position[None], len(time), axis=0)
        forward = np.array([np.sin(self.yaw), 0.0, np.cos(self.yaw)])
        right = np.array([np.cos(self.yaw), 0.0, -np.sin(self.yaw)])
        if self.motion == "dolly":
            position = position + self.amount * time[:, None] * forward
        elif self.motion == "truck":
            position = position + self.amount * time[:, None] * right
        elif self.motion == "pan":
            yaw = yaw + self.amount * time
        elif self.motion == "orbit":
            target = self.position + self.distance * forward
            yaw = yaw + self.amount * time
            back = np.stack([np.sin(yaw), np.zeros_like(yaw), np.cos(yaw)], axis=1)
            position = target - self.distance * back
        pose = np.zeros((len(time), 4, 4))
        pose[:, 3, 3] = 1.0
        cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(self.pitch), np.sin(self.pitch)
        pose[:, :3, 0] = np.stack([cy, np.zeros_like(cy), -sy], axis=1)  # x axis: right, level
        pose[:, :3, 2] = np.stack([sy * cp, np.full_like(cy, sp), cy * cp], axis=1)  # z axis: forward, tilted down
        pose[:, :3, 1] = np.cross(pose[:, :3, 2], pose[:, :3, 0])
        pose[:, :3, 3] = position
        if self.roll:
            x, y = pose[:, :3, 0].copy(), pose[:, :3, 1].copy()
            cos, sin = np.cos(self.roll), np.sin(self.roll)
            pose[:, :3, 0], pose[:, :3, 1] = cos * x + sin * y, cos * y - sin * x
        return pose
