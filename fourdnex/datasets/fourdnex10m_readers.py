"""Readers of 4DNeX-10M, one per annotator: files -> fields of a `Clip`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fourdnex.datasets.clip_geometry import (
    clip_geometry,
    nearest_rigid,
    quaternion_poses,
    read_geometry_image,
    read_table,
)
from fourdnex.datasets.fourdnex10m_layout import ClipFiles
from fourdnex.geometry.cameras import invert_pose, relative_to_first, transform_points
from fourdnex.io.numpy_files import read_npy, read_npz
from fourdnex.io.resizing import resize_frame
from fourdnex.io.video import read_video


def read_monst3r(files: ClipFiles) -> dict[str, Any]:
    """Read a folder.

    Files: `frame_{t:04d}.npy` (depth), `pred_traj.txt`, `pred_intrinsics.txt`, optional `dynamic_mask_{t}.png`.
    """
    count = files.num_frames
    depth = [read_npy(files.resolve(files.path / f"frame_{t:04d}.npy")) for t in range(count)]
    if len(shapes := {z.shape for z in depth}) > 1 or depth[0].ndim != 2:
        raise ValueError(f"{files.path}: frame_*.npy: expected [H, W] of one size, got {sorted(shapes)}")
    size = depth[0].shape
    trajectory = read_table(files.resolve(files.path / "pred_traj.txt"), count, 8)  # index, tx ty tz, qw qx qy qz
    poses = quaternion_poses(trajectory[:, 1:4], trajectory[:, 4:], name=f"{files.path}: pred_traj.txt")
    intrinsics = read_table(files.resolve(files.path / "pred_intrinsics.txt"), count, 9).reshape(count, 3, 3)
    rgb, fps = read_video(_video_path(files), start=int(files.start), num_frames=count, size=size)
    geometry = clip_geometry(np.stack(depth), intrinsics, poses)
    return {"rgb": rgb, "fps": fps, "dynamic_mask": _read_masks(files, (count, *size)), **geometry}


def read_megasam(files: ClipFiles) -> dict[str, Any]:
    """Read a `.npz` file.

    Arrays: images [T, H, W, 3], depths [T, H, W], intrinsic [3, 3], [1, 3, 3] or [T, 3, 3], cam_c2w [T, 4, 4].
    """
    names = ("images", "depths", "intrinsic", "cam_c2w")
    images, depth, intrinsics, poses = read_npz(files.resolve(files.path), names).values()
    if depth.ndim != 3:
        raise ValueError(f"{files.path}: depths: expected [T, H, W], got {depth.shape}")
    count = len(depth)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[::3] != (count, 3):
        raise ValueError(f"{files.path}: images: expected [{count}, H, W, 3] uint8, got {images.shape} {images.dtype}")
    if intrinsics.shape not in ((3, 3), (1, 3, 3), (count, 3, 3)):
        raise ValueError(f"{files.path}: intrinsic: expected [3, 3] or [{count}, 3, 3], got {intrinsics.shape}")
    fps = 24.0
    if files.video.exists():
        # The file name gives the frame range; the file may contain only every second frame of it.
        fps = read_video(_video_path(files), num_frames=1)[1] * count / files.num_frames
    rgb = np.stack([resize_frame(image, *depth.shape[1:]) for image in images])
    return {"rgb": rgb, "fps": fps, **clip_geometry(depth, np.broadcast_to(intrinsics, (count, 3, 3)), poses)}


def read_dust3r(files: ClipFiles) -> dict[str, Any]:
    """Read a `.npz` with a pickled dict: pts3d [T, H, W, 3] and poses [T, 4, 4] in a common, arbitrary frame."""
    points, poses = read_npz(files.resolve(files.path), ("pts3d", "poses"), pickled=True).values()
    if points.ndim != 4 or points.shape[::3] != (files.num_frames, 3):
        raise ValueError(f"{files.path}: pts3d: expected [{files.num_frames}, H, W, 3], got {points.shape}")
    poses = nearest_rigid(poses, files.num_frames)
    points = transform_points(points.astype(np.float64), invert_pose(poses[0])).astype(np.float32)
    points[~np.isfinite(points).all(axis=-1)] = np.nan
    images = _read_static_images(files, points.shape[1:3])
    return {**images, "camera_to_world": relative_to_first(poses).astype(np.float32), "imported_pointmaps": points}


READERS: dict[str, Callable[[ClipFiles], dict[str, Any]]] = {
    "monst3r": read_monst3r,
    "megasam": read_megasam,
    "dust3r": read_dust3r,
}


def _read_masks(files: ClipFiles, shape: tuple[int, ...]) -> np.ndarray | None:
    """Dynamic masks [T, H, W]; frames without a file are static. None without any file."""
    paths = {t: files.path / f"dynamic_mask_{t}.png" for t in range(shape[0])}
    masks = {t: read_geometry_image(files.resolve(path), "L") > 127 for t, path in paths.items() if path.exists()}
    for t, mask in masks.items():
        if mask.shape != shape[1:]:
            raise ValueError(f"{paths[t]}: expected {shape[1:]}, got {mask.shape}")
    empty = np.zeros(shape[1:], bool)
    return np.stack([masks.get(t, empty) for t in paths]) if masks else None


def _read_static_images(files: ClipFiles, size: tuple[int, int]) -> dict[str, Any]:
    """RGB frames, and the frame rate if known, of a static clip."""
    first, last = int(files.start), int(files.end)
    if files.subset == "static_1":
        stems = [f"frame_{number:0{len(files.start)}d}" for number in range(first, last + 1)]
        images = [_image_path(files, files.raw / "images_4" / stem) for stem in stems]
        return {"rgb": np.stack([resize_frame(read_geometry_image(file, "RGB"), *size) for file in images])}
    starts_at_0 = any(re.match(r"frame_0+\D", path.name) for path in files.path.parent.iterdir())
    start = first if starts_at_0 else first - 1
    rgb, fps = read_video(_video_path(files), start=start, num_frames=files.num_frames, size=size)
    return {"rgb": rgb, "fps": fps}


def _image_path(files: ClipFiles, stem: Path) -> Path:
    """Path of the image with this stem and any known suffix."""
    paths = [stem.with_suffix(suffix) for suffix in (".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG")]
    return files.resolve(next((path for path in paths if path.exists()), paths[0]))


def _video_path(files: ClipFiles) -> Path:
    """Path of the source video.

    Verifies that it is an MP4 file: FFmpeg would open the files that a playlist with this name refers to.
    """
    path = files.resolve(files.video)
    with open(path, "rb") as file:
        start = file.read(8)
    if start[4:] not in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"):
        raise ValueError(f"{path}: expected an MP4 file, got a file that starts with {start!r}")
    return path
