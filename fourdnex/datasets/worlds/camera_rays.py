"""The rays of a world's camera at all times of a clip, and the frames that ray casting returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fourdnex.datasets.worlds.camera_motion import CameraMotion


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Rendered frames and their exact annotation; the world frame is that of the first camera."""

    rgb: np.ndarray  # [T, H, W, 3] uint8
    depth: np.ndarray  # [T, H, W] float32
    intrinsics: np.ndarray  # [3, 3] float32
    camera_to_world: np.ndarray  # [T, 4, 4] float32
    confidence: np.ndarray  # [T, H, W] float32
    dynamic_mask: np.ndarray  # [T, H, W] bool


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraRays:
    """Camera rays in the building frame; they have z = 1 in the camera frame, so a ray parameter is a depth."""

    time: np.ndarray  # [T] in [0, 1]
    pose: np.ndarray  # [T, 4, 4] camera to building
    intrinsics: np.ndarray  # [3, 3] float32
    eye: list[np.ndarray]  # camera centers, one array [T, 1, 1] per component
    ray: list[np.ndarray]  # directions, one array [T, H, W] per component

    def frames(self, *, rgb: np.ndarray, depth: np.ndarray, dynamic_mask: np.ndarray) -> Frames:
        """Frames seen by this camera, with the first camera's frame as world and confidence 1."""
        camera_to_world = (np.linalg.inv(self.pose[0]) @ self.pose).astype(np.float32)
        camera_to_world[0] = np.eye(4, dtype=np.float32)
        return Frames(
            rgb=rgb,
            depth=depth,
            intrinsics=self.intrinsics,
            camera_to_world=camera_to_world,
            confidence=np.ones(depth.shape, dtype=np.float32),
            dynamic_mask=dynamic_mask,
        )


def camera_rays(camera: CameraMotion, focal: float, *, num_frames: int, height: int, width: int) -> CameraRays:
    """The rays of a camera with focal length `focal` (pixels) at `num_frames` equally spaced times from 0 to 1."""
    time = np.linspace(0.0, 1.0, num_frames) if num_frames > 1 else np.zeros(1)
    pose = camera.pose(time)
    intrinsics = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]], dtype=np.float32)
    u = ((np.arange(width) - (width - 1) / 2) / focal).astype(np.float32)
    v = ((np.arange(height) - (height - 1) / 2) / focal).astype(np.float32)
    rotation, origin = pose[:, :3, :3].astype(np.float32), pose[:, :3, 3].astype(np.float32)
    ray = [
        rotation[:, i, 0, None, None] * u + rotation[:, i, 1, None, None] * v[:, None] + rotation[:, i, 2, None, None]
        for i in range(3)
    ]
    eye = [origin[:, i, None, None] for i in range(3)]
    return CameraRays(time=time, pose=pose, intrinsics=intrinsics, eye=eye, ray=ray)
