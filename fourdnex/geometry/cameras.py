"""Pinhole cameras: OpenCV axes (x right, y down, z forward), pixel centers at integer coordinates.

Poses are `camera_to_world` matrices; depth is z in the camera's frame, not distance along the ray.
"""

import numpy as np

DEFAULT_FIELD_OF_VIEW = 60.0
"""Assumed horizontal field of view of an unknown camera for an image of 3:2, in degrees."""


def intrinsics_from_field_of_view(field_of_view: float, *, height: int, width: int) -> np.ndarray:
    """Intrinsics [3, 3] float32 of a camera with square pixels and the principal point at the image center.

    `field_of_view` is horizontal, in degrees, between the outer borders of the image.
    """
    focal = width / 2 / np.tan(np.radians(field_of_view / 2))
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]], np.float32)


def default_field_of_view(height: int, width: int) -> float:
    """Assumed horizontal field of view, in degrees, of an unknown camera for an image of this size.

    The ratio of focal length to image diagonal is that of `DEFAULT_FIELD_OF_VIEW` in an image of 3:2, so that a camera
    has the same lens in portrait and in landscape orientation.
    """
    if 2 * width == 3 * height:
        return DEFAULT_FIELD_OF_VIEW
    focal = np.hypot(height, width) / np.sqrt(13) * 3 / 2 / np.tan(np.radians(DEFAULT_FIELD_OF_VIEW / 2))
    return float(np.degrees(2 * np.arctan(width / 2 / focal)))


def pixel_rays(height: int, width: int, intrinsics: np.ndarray) -> np.ndarray:
    """Rays [H, W, 3] float64 through all pixels, in the camera's frame, with z = 1, so that ray * depth = point."""
    fx, fy, cx, cy = _pinhole(intrinsics)
    skew = float(intrinsics[0, 1])
    y = (np.arange(height) - cy) / fy
    x = (np.arange(width)[None, :] - cx - skew * y[:, None]) / fx
    return np.stack([x, np.broadcast_to(y[:, None], x.shape), np.ones_like(x)], axis=-1)


def unproject(depth: np.ndarray, intrinsics: np.ndarray, camera_to_world: np.ndarray) -> np.ndarray:
    """Convert depth maps to point maps.

    Args:
        depth: [T, H, W], z in the camera's frame; NaN gives NaN points.
        intrinsics: [3, 3] in pixels, the same for all frames.
        camera_to_world: [T, 4, 4].

    Returns:
        [T, H, W, 3] float32, world frame.

    Raises:
        ValueError: the shapes do not match.
    """
    _check_poses(camera_to_world, depth.shape[0] if depth.ndim == 3 else -1, f"depth {depth.shape}")
    rays = pixel_rays(depth.shape[1], depth.shape[2], intrinsics).astype(np.float32)
    points = np.empty((*depth.shape, 3), np.float32)
    for frame, (z, pose) in enumerate(zip(depth, camera_to_world.astype(np.float32), strict=True)):
        points[frame] = (rays * z.astype(np.float32)[..., None]) @ pose[:3, :3].T + pose[:3, 3]
    return points


def grid_points(
    depth: np.ndarray, intrinsics: np.ndarray, camera_to_world: np.ndarray, pixels: np.ndarray | None = None
) -> np.ndarray:
    """Points [N, 3] float32, world frame, of one depth map [H, W], in row-major pixel order.

    Args:
        intrinsics: [3, 3] in pixels.
        camera_to_world: [4, 4], rigid or a similarity.
        pixels: [N] pixel indices, y * width + x. Default: all.
    """
    pose = camera_to_world.astype(np.float64)
    ray_matrix = pose[:3, :3] @ np.linalg.inv(intrinsics.astype(np.float64))  # from (x, y, 1) to the ray in the world
    rows, columns = (np.arange(size) for size in depth.shape)
    xyz = np.empty((depth.size if pixels is None else len(pixels), 3), np.float32)
    for axis in range(3):  # one coordinate at a time: arithmetic over a last axis of length 3 is several times slower
        plane = np.add.outer(
            (rows * ray_matrix[axis, 1] + ray_matrix[axis, 2]).astype(np.float32),
            (columns * ray_matrix[axis, 0]).astype(np.float32),
        )
        plane *= depth
        plane += np.float32(pose[axis, 3])
        xyz[:, axis] = plane.reshape(-1) if pixels is None else plane.reshape(-1).take(pixels)
    return xyz


def project(points: np.ndarray, intrinsics: np.ndarray, camera_to_world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project world points into the camera of each frame.

    Args:
        points: [T, ..., 3], world frame.
        intrinsics: [3, 3] in pixels.
        camera_to_world: [T, 4, 4].

    Returns:
        Pixels [T, ..., 2] as (x, y), NaN for points that are not in front of the camera, and depth [T, ...], z in the
        camera's frame, of either sign; both have the floating-point type of `points`.

    Raises:
        ValueError: the shapes do not match.
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
    """Inverse of rigid transforms [..., 4, 4], in the same dtype: camera_to_world to world_to_camera and back."""
    rotation = np.swapaxes(pose[..., :3, :3], -1, -2)
    inverse = np.zeros_like(pose)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3] = -(rotation @ pose[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1
    return inverse


def relative_to_first(camera_to_world: np.ndarray) -> np.ndarray:
    """Poses [T, 4, 4] relative to the first camera; the first pose becomes exactly the identity."""
    _check_poses(camera_to_world, camera_to_world.shape[0], "camera_to_world")
    poses = np.asarray(camera_to_world, np.float64)
    relative = invert_pose(poses[:1]) @ poses
    relative[0] = np.eye(4)
    return relative.astype(camera_to_world.dtype)


def transform_points(points: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Apply a transform [4, 4] (rigid or similarity) to points [..., 3], in the dtype of `points`."""
    matrix = np.asarray(transform, points.dtype)
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _pinhole(intrinsics: np.ndarray) -> tuple[float, float, float, float]:
    """Focal lengths and principal point (fx, fy, cx, cy); raises ValueError if they are not valid."""
    if intrinsics.shape != (3, 3):
        raise ValueError(f"intrinsics: expected shape (3, 3), got {intrinsics.shape}")
    fx, fy, cx, cy = (float(intrinsics[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    if not (fx > 0 and fy > 0 and np.isfinite([fx, fy, cx, cy]).all()):
        raise ValueError(f"intrinsics: expected finite values and positive focal lengths, got {intrinsics.tolist()}")
    return fx, fy, cx, cy


def _check_poses(camera_to_world: np.ndarray, num_frames: int, source: str) -> None:
    """Raise ValueError unless the poses are [num_frames, 4, 4]; `source` names the array with this number of frames."""
    if camera_to_world.shape != (num_frames, 4, 4):
        raise ValueError(f"camera_to_world: expected [T, 4, 4] for {source}, got {camera_to_world.shape}")
