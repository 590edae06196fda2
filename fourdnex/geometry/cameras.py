"""Pinhole cameras: OpenCV axes (x right, y down, z forward), pixel centers at integer coordinates.

Poses are `camera_to_world` matrices; depth is z in the camera's frame, not distance along the ray.
"""

import numpy as np

DEFAULT_FIELD_OF_VIEW = 60.0
"""Degrees from left to right that a camera is taken to see in an image of 3:2, if nothing is known of it."""


def intrinsics_from_field_of_view(field_of_view: float, *, height: int, width: int) -> np.ndarray:
    """Intrinsics [3, 3] float32 of a camera with square pixels and its axis in the middle of the image.

    `field_of_view` is in degrees, from the left border to the right one.
    """
    focal = width / 2 / np.tan(np.radians(field_of_view / 2))
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]], np.float32)


def default_field_of_view(height: int, width: int) -> float:
    """Degrees from left to right that a camera is taken to see of which nothing is known.

    A lens is as long against the image's diagonal as that of `DEFAULT_FIELD_OF_VIEW` in an image of 3:2, so that a camera
    held upright sees what it sees on its side, turned.
    """
    if 2 * width == 3 * height:
        return DEFAULT_FIELD_OF_VIEW
    focal = np.hypot(height, width) / np.sqrt(13) * 3 / 2 / np.tan(np.radians(DEFAULT_FIELD_OF_VIEW / 2))
    return float(np.degrees(2 * np.arctan(width / 2 / focal)))


def pixel_rays(height: int, width: int, intrinsics: np.ndarray) -> np.ndarray:
    """Rays [H, W, 3] float64 through every pixel, in the camera's frame, with z = 1 (so that ray * depth = point)."""
    fx, fy, cx, cy = _pinhole(intrinsics)
    skew = float(intrinsics[0, 1])
    y = (np.arange(height) - cy) / fy
    x = (np.arange(width)[None, :] - cx - skew * y[:, None]) / fx
    return np.stack([x, np.broadcast_to(y[:, None], x.shape), np.ones_like(x)], axis=-1)


def unproject(depth: np.ndarray, intrinsics: np.ndarray, camera_to_world: np.ndarray) -> np.ndarray:
    """Depth maps to point maps.

    Args:
        depth: [T, H, W], z in each camera's frame. NaN gives NaN points.
        intrinsics: [3, 3] in pixels, shared by the frames.
        camera_to_world: [T, 4, 4].

    Returns:
        [T, H, W, 3] float32 points in the world's frame.

    Raises:
        ValueError: shapes do not fit each other.
    """
    _check_poses(camera_to_world, depth.shape[0] if depth.ndim == 3 else -1, f"depth {depth.shape}")
    rays = pixel_rays(depth.shape[1], depth.shape[2], intrinsics).astype(np.float32)
    points = np.empty((*depth.shape, 3), np.float32)
    for frame, (z, pose) in enumerate(zip(depth, camera_to_world.astype(np.float32), strict=True)):
        points[frame] = (rays * z.astype(np.float32)[..., None]) @ pose[:3, :3].T + pose[:3, 3]
    return points


def grid_points(
    depth: np.ndarray, intrinsics: np.ndarray, camera_to_world: np.ndarray, kept: np.ndarray | None = None
) -> np.ndarray:
    """Points [N, 3] float32 in the world's frame of one depth map [H, W], in row-major order of their pixels.

    Args:
        intrinsics: [3, 3] in pixels.
        camera_to_world: [4, 4], rigid or a similarity.
        kept: [N] pixels (y * width + x); None: all.
    """
    pose = camera_to_world.astype(np.float64)
    turned = pose[:3, :3] @ np.linalg.inv(intrinsics.astype(np.float64))  # ray in the world of (x, y, 1)
    rows, columns = (np.arange(size) for size in depth.shape)
    xyz = np.empty((depth.size if kept is None else len(kept), 3), np.float32)
    for axis in range(3):  # planes first: arithmetic over a last axis of three is several times slower
        plane = np.add.outer(
            (rows * turned[axis, 1] + turned[axis, 2]).astype(np.float32),
            (columns * turned[axis, 0]).astype(np.float32),
        )
        plane *= depth
        plane += np.float32(pose[axis, 3])
        xyz[:, axis] = plane.reshape(-1) if kept is None else plane.reshape(-1).take(kept)
    return xyz


def project(points: np.ndarray, intrinsics: np.ndarray, camera_to_world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project world points into one camera a frame.

    Args:
        points: [T, ..., 3] in the world's frame.
        intrinsics: [3, 3] in pixels.
        camera_to_world: [T, 4, 4].

    Returns:
        pixels [T, ..., 2] as (x, y), NaN where the point is not in front of the camera, and depth [T, ...] (z in the
        camera's frame, of either sign); both of the floating type of `points`.

    Raises:
        ValueError: shapes do not fit each other.
    """
    if points.ndim < 2 or points.shape[-1] != 3:
        raise ValueError(f"points: expected [T, ..., 3], got {points.shape}")
    _check_poses(camera_to_world, points.shape[0], f"points {points.shape}")
    world_to_camera = invert_pose(camera_to_world)
    flat = points.reshape(points.shape[0], -1, 3)
    local = flat @ np.swapaxes(world_to_camera[:, :3, :3], 1, 2) + world_to_camera[:, None, :3, 3]
    depth = local[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        image = (local @ np.asarray(intrinsics, np.float64).T)[..., :2] / depth[..., None]
    image[~(depth > 0)] = np.nan
    dtype = np.result_type(points.dtype, np.float32)
    return image.reshape(*points.shape[:-1], 2).astype(dtype), depth.reshape(points.shape[:-1]).astype(dtype)


def invert_pose(pose: np.ndarray) -> np.ndarray:
    """Inverse of rigid transforms [..., 4, 4]: camera_to_world to world_to_camera and back, of the same dtype."""
    rotation = np.swapaxes(pose[..., :3, :3], -1, -2)
    inverse = np.zeros_like(pose)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3] = -(rotation @ pose[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1
    return inverse


def relative_to_first(camera_to_world: np.ndarray) -> np.ndarray:
    """Poses [T, 4, 4] expressed in the frame of the first camera: the first one becomes the identity exactly."""
    _check_poses(camera_to_world, camera_to_world.shape[0], "camera_to_world")
    poses = np.asarray(camera_to_world, np.float64)
    relative = invert_pose(poses[:1]) @ poses
    relative[0] = np.eye(4)
    return relative.astype(camera_to_world.dtype)


def transform_points(points: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Apply one transform [4, 4] (rigid or similarity) to points [..., 3]; same dtype as `points`."""
    matrix = np.asarray(transform, points.dtype)
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _pinhole(intrinsics: np.ndarray) -> tuple[float, float, float, float]:
    if intrinsics.shape != (3, 3):
        raise ValueError(f"intrinsics: expected shape (3, 3), got {intrinsics.shape}")
    fx, fy, cx, cy = (float(intrinsics[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    if not (fx > 0 and fy > 0 and np.isfinite([fx, fy, cx, cy]).all()):
        raise ValueError(f"intrinsics: expected finite values and positive focal lengths, got {intrinsics.tolist()}")
    return fx, fy, cx, cy


def _check_poses(camera_to_world: np.ndarray, num_frames: int, beside: str) -> None:
    if camera_to_world.shape != (num_frames, 4, 4):
        raise ValueError(f"camera_to_world: expected [T, 4, 4] beside {beside}, got {camera_to_world.shape}")
