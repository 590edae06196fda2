"""Cameras of COLMAP: the binary model of undistorted images."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np

from fourdnex.annotation.imported_video import ImportedVideo, pinhole_matrices
from fourdnex.datasets.clip_geometry import quaternion_poses
from fourdnex.geometry.cameras import invert_pose

_MODELS = {0: 3, 1: 4}  # SIMPLE_PINHOLE (f, cx, cy) and PINHOLE (fx, fy, cx, cy) -> number of parameters


def find_colmap(root: Path, name: str) -> Path | None:
    """The folder of the model."""
    folders = (root / name / "sparse" / "0", root / name / "sparse")
    return next((folder for folder in folders if (folder / "images.bin").is_file()), None)


def open_colmap(path: Path) -> ImportedVideo:
    """Poses and intrinsics of cameras.bin and images.bin; all images have one size.

    Frames have the number at the end of the name of their image, counted from 1 if no name has the number 0.
    """
    cameras = _read_cameras(path / "cameras.bin")
    images = _read_images(path / "images.bin")
    numbers = np.array(sorted(images))
    used = [images[number][2] for number in numbers]
    if unknown := set(used) - cameras.keys():
        raise ValueError(f"{path}/images.bin: expected cameras of cameras.bin, got {sorted(unknown)}")
    sizes = {cameras[camera][0] for camera in used}
    if len(sizes) > 1:
        raise ValueError(f"{path}/cameras.bin: expected images of one size, got {sorted(sizes)}")
    quaternions = np.array([images[number][0] for number in numbers])
    translations = np.array([images[number][1] for number in numbers])
    world_to_camera = quaternion_poses(translations, quaternions, name=f"{path}/images.bin")
    return ImportedVideo(
        format="colmap",
        frames=numbers if numbers.min() == 0 else numbers - 1,
        camera_to_world=invert_pose(world_to_camera),
        intrinsics=pinhole_matrices(np.array([cameras[camera][1] for camera in used])),
        size=sizes.pop(),
    )


def _read_cameras(path: Path) -> dict[int, tuple[tuple[int, int], list[float]]]:
    """Id -> size (height, width) and fx, fy, cx, cy with pixel centers at integers."""
    content, cameras, position = path.read_bytes(), {}, 8
    try:
        for _ in range(struct.unpack_from("<Q", content)[0]):
            camera, model, width, height = struct.unpack_from("<IiQQ", content, position)
            if model not in _MODELS:
                raise ValueError(f"{path}: expected PINHOLE cameras of undistorted images, got model {model}")
            params = struct.unpack_from(f"<{_MODELS[model]}d", content, position + 24)
            position += 24 + 8 * len(params)
            fx, cx, cy = params[0], params[-2], params[-1]
            # In COLMAP, the center of the first pixel is at (0.5, 0.5).
            cameras[camera] = ((height, width), [fx, params[-3], cx - 0.5, cy - 0.5])
    except struct.error as error:
        raise ValueError(f"{path}: expected an undamaged model of COLMAP: {error}") from error
    return cameras


def _read_images(path: Path) -> dict[int, tuple[tuple[float, ...], tuple[float, ...], int]]:
    """Number in the name -> quaternion (w first), translation (world to camera), and id of the camera."""
    content, images, position = path.read_bytes(), {}, 8
    try:
        for _ in range(struct.unpack_from("<Q", content)[0]):
            _, *pose = struct.unpack_from("<I7d", content, position)
            (camera,) = struct.unpack_from("<I", content, position + 60)
            end = content.index(0, position + 64)
            name = content[position + 64 : end].decode("utf-8")
            (points,) = struct.unpack_from("<Q", content, end + 1)
            position = end + 9 + 24 * points
            found = re.search(r"(\d+)\.?\w*$", name)
            if found is None or int(found[1]) in images:
                raise ValueError(f"{path}: expected names of images that end with different numbers, got {name!r}")
            images[int(found[1])] = (tuple(pose[:4]), tuple(pose[4:]), camera)
    except (struct.error, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected an undamaged model of COLMAP: {error}") from error
    if not images or position != len(content):
        raise ValueError(f"{path}: expected an undamaged model of COLMAP with images")
    return images
