"""Camera trajectories. All poses are camera-to-world with OpenCV axes."""

import numpy as np

from fourdnex.scene import Scene4D


def look_at(eye: np.ndarray, target: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Pose [4, 4] of a camera at `eye` that looks at `target`, with its y axis as close to `down` as possible.

    Raises:
        ValueError: eye and target coincide, or the viewing direction is parallel to `down`.
    """
    forward = np.asarray(target, np.float64) - eye
    right = np.cross(down, forward)
    if float(np.linalg.norm(right)) <= 1e-9 * float(np.linalg.norm(forward)):
        raise ValueError("look_at: expected a target different from the eye, and not straight above or below it")
    forward, right = forward / np.linalg.norm(forward), right / np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=-1)
    pose[:3, 3] = eye
    return pose


def orbit(
    start: np.ndarray, pivot: np.ndarray, azimuth_deg: np.ndarray, elevation_deg: np.ndarray | float = 0.0
) -> np.ndarray:
    """Poses on a sphere around `pivot`, with a constant position of the pivot in the image.

    Args:
        start: [4, 4], the pose at azimuth and elevation 0.
        pivot: (3,) world point.
        azimuth_deg: [N] angles about the start camera's y axis; positive moves to its left.
        elevation_deg: [N] or one number, angles about its x axis; positive moves up.

    Returns:
        [N, 4, 4] float64.
    """
    start = np.asarray(start, np.float64)
    azimuth, elevation = np.broadcast_arrays(np.radians(np.atleast_1d(azimuth_deg)), np.radians(elevation_deg))
    rotation = np.zeros((len(azimuth), 3, 3))
    ca, sa, ce, se = np.cos(azimuth), np.sin(azimuth), np.cos(elevation), np.sin(elevation)
    # Rotation about y (azimuth) after rotation about x (elevation), in the start camera's axes.
    rotation[:, 0], rotation[:, 1], rotation[:, 2] = (
        np.stack(row, axis=-1) for row in ((ca, sa * -se, sa * ce), (0 * ca, ce, se), (-sa, ca * -se, ca * ce))
    )
    axes = start[:3, :3]
    world_rotation = axes @ rotation @ axes.T
    poses = np.tile(np.eye(4), (len(azimuth), 1, 1))
    poses[:, :3, :3] = world_rotation @ axes
    poses[:, :3, 3] = (world_rotation @ (start[:3, 3] - pivot)) + pivot
    return poses


def swing(scene: Scene4D, num_views: int, *, degrees: float = 15.0) -> np.ndarray:
    """A small orbit [N, 4, 4] to the left, to the right and back, which shows parallax with few disocclusions."""
    phase = np.linspace(0, 2 * np.pi, num_views, endpoint=False)
    return orbit(
        scene.camera_to_world[0], scene_pivot(scene), degrees * np.sin(phase), degrees / 3 * (1 - np.cos(phase)) / 2
    )


def turntable(scene: Scene4D, num_views: int, *, elevation_deg: float = 15.0) -> np.ndarray:
    """A full orbit [N, 4, 4] around the pivot. The back of a scene from one image is empty."""
    return orbit(
        scene.camera_to_world[0],
        scene_pivot(scene),
        np.linspace(0, 360, num_views, endpoint=False),
        elevation_deg,
    )


def scene_pivot(scene: Scene4D) -> np.ndarray:
    """The point (3,) on the optical axis of the first camera, at the median depth of the first frame with depth.

    Raises:
        ValueError: no frame has depth.
    """
    for depth in scene.depth:
        if np.isfinite(depth).any():
            pose = scene.camera_to_world[0].astype(np.float64)
            return pose[:3, 3] + pose[:3, 2] * float(np.nanmedian(depth))
    raise ValueError("scene: expected depth in at least one frame, got none")
