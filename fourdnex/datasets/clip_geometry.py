"""Depth and cameras of imported clips: checks and conversions that readers of several formats share."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np

from fourdnex.geometry.cameras import relative_to_first, unproject
from fourdnex.io.image_color import image_color

SAME_INTRINSICS = 0.5
"""Max deviation, in pixels, of per-frame intrinsics from their median for a clip with shared intrinsics."""
MAX_RIGID_DEVIATION = 0.01
"""Max deviation of a matrix entry from the nearest rigid transform; half precision rounds by up to 0.0003."""


def clip_geometry(depth: np.ndarray, intrinsics: np.ndarray, poses: np.ndarray) -> dict[str, np.ndarray]:
    """Clip geometry from depth [T, H, W], intrinsics [T, 3, 3] and camera-to-world poses [T, 4, 4] in any frame."""
    depth = depth.astype(np.float32)
    depth[~np.isfinite(depth)] = np.nan
    poses = relative_to_first(nearest_rigid(poses, len(depth))).astype(np.float32)
    shared = np.median(intrinsics, axis=0)
    if np.abs(intrinsics - shared).max() <= SAME_INTRINSICS:
        return {"depth": depth, "camera_to_world": poses, "intrinsics": shared.astype(np.float32)}
    valid = np.where(depth > 0, depth, np.float32(np.nan))
    each = [unproject(valid[t : t + 1], intrinsics[t], poses[t : t + 1]) for t in range(len(depth))]
    return {"depth": depth, "camera_to_world": poses, "imported_pointmaps": np.concatenate(each)}


def nearest_rigid(poses: np.ndarray, count: int) -> np.ndarray:
    """Poses [count, 4, 4] in float64, with their rotations projected to the nearest rotation."""
    if poses.shape != (count, 4, 4) or not np.isfinite(poses).all():
        raise ValueError(f"cameras: expected [{count}, 4, 4], all finite, got {poses.shape}")
    poses = poses.astype(np.float64)
    left, _, right = np.linalg.svd(poses[:, :3, :3])
    rigid = np.tile(np.eye(4), (count, 1, 1))
    rigid[:, :3, :3], rigid[:, :3, 3] = left @ right, poses[:, :3, 3]
    deviation = np.abs(poses - rigid).max()
    if deviation > MAX_RIGID_DEVIATION or (np.linalg.det(rigid) < 0).any():
        raise ValueError(f"cameras: expected rigid transforms, got a deviation of {deviation:.2g} or a reflection")
    return rigid


def quaternion_poses(translation: np.ndarray, quaternion: np.ndarray, *, name: str) -> np.ndarray:
    """Poses [N, 4, 4] float64 from translations [N, 3] and quaternions [N, 4], w first.

    Raises:
        ValueError: a quaternion's length is not 1; the message begins with `name`.
    """
    from scipy.spatial.transform import Rotation

    lengths = np.linalg.norm(quaternion, axis=1)
    if not (np.abs(lengths - 1) < MAX_RIGID_DEVIATION).all():
        raise ValueError(f"{name}: expected quaternions of length 1, got {lengths.tolist()}")
    poses = np.tile(np.eye(4), (len(quaternion), 1, 1))
    poses[:, :3, :3] = Rotation.from_quat(quaternion, scalar_first=True).as_matrix()
    poses[:, :3, 3] = translation
    return poses


def read_table(path: Path, rows: int, columns: int) -> np.ndarray:
    """Table [rows, columns] of numbers from a text file."""
    try:
        table = np.loadtxt(io.StringIO(path.read_text(encoding="utf-8")), ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path}: expected lines of numbers: {error}") from error
    if table.shape != (rows, columns):
        raise ValueError(f"{path}: expected {rows} lines of {columns} numbers, got {table.shape}")
    return table


def read_geometry_image(path: Path, mode: Literal["L", "RGB"]) -> np.ndarray:
    """Decode a PNG or JPEG image: [H, W] grayscale, or [H, W, 3] sRGB."""
    from PIL import Image

    content = path.read_bytes()
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            if mode == "L":
                return np.asarray(image.convert("L"))
            color = image_color(image, name=str(path))
            image.load()
            return np.asarray(color.to_srgb(image).convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: expected a PNG or JPEG image: {error}") from error
