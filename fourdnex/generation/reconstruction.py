"""From a generated 6D video to a scene: cameras and depth recovered from its point maps."""

from __future__ import annotations

from typing import Any

import numpy as np

from fourdnex.geometry.cameras import invert_pose, unproject
from fourdnex.geometry.recovery import recover_cameras
from fourdnex.scene import Scene4D


def scene_from_video(
    rgb: np.ndarray,
    pointmaps: np.ndarray,
    *,
    fps: float,
    name: str,
    provenance: dict[str, Any],
    pixel_aspect: float = 1.0,
) -> Scene4D:
    """Recover cameras and depth from generated point maps and combine them with the frames.

    Args:
        rgb: frames [T, H, W, 3] uint8.
        pointmaps: [T, H, W, 3] float32, in one world frame.
        fps: frames per second.
        name: of the scene.
        provenance: of the scene; `recovery_rmse` is added.
        pixel_aspect: fx / fy of the camera (see `Fit.pixel_aspect`).

    Returns:
        The scene, with the first camera's frame as world. Its confidence is `ray_agreement`.

    Raises:
        ValueError: if the point maps admit no cameras (see `recover_cameras`).
    """
    found = recover_cameras(pointmaps, pixel_aspect=pixel_aspect)
    poses = invert_pose(found.camera_to_world[0]) @ found.camera_to_world
    poses[0] = np.eye(4, dtype=poses.dtype)
    confidence = ray_agreement(pointmaps, found.depth, found.intrinsics, found.camera_to_world)
    return Scene4D(
        rgb=rgb,
        depth=found.depth,
        intrinsics=found.intrinsics,
        camera_to_world=poses,
        confidence=confidence,
        fps=fps,
        name=name,
        provenance=provenance | {"recovery_rmse": found.rmse},
    )


def ray_agreement(
    pointmaps: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray, camera_to_world: np.ndarray
) -> np.ndarray:
    """Confidence [T, H, W] float32 of generated points: exp(-(d / (0.1 depth))^2), 0 where there is no depth.

    d is the distance between a generated point and the recovered point on the ray of its pixel.
    """
    distance = np.linalg.norm(unproject(depth, intrinsics, camera_to_world) - pointmaps, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        agreement = np.exp(-np.square(distance / (0.1 * depth)))
    return np.nan_to_num(agreement, nan=0.0).astype(np.float32)
