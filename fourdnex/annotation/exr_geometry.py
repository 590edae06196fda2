"""Geometry with depth in zip files of OpenEXR images: ViPE and SpatialVID."""

from __future__ import annotations

import glob
import zipfile
import zlib
from pathlib import Path

import numpy as np

from fourdnex.annotation.imported_video import ImportedVideo, pinhole_matrices
from fourdnex.datasets.clip_geometry import quaternion_poses, read_table
from fourdnex.geometry.cameras import invert_pose
from fourdnex.io.exr import read_exr_channel
from fourdnex.io.numpy_files import read_npy, read_npz

_MAX_MEMBER = 1 << 29
"""Max size of an OpenEXR image in bytes."""


def find_vipe(root: Path, name: str) -> Path | None:
    """The poses of ViPE."""
    path = root / "pose" / f"{name}.npz"
    return path if path.is_file() else None


def open_vipe(path: Path) -> ImportedVideo:
    """Poses (data [N, 4, 4], inds [N]), intrinsics (data [N, 4]: fx, fy, cx, cy) and zipped OpenEXR files of depth."""
    root, name = path.parent.parent, path.stem
    cameras = root / "intrinsics" / f"{name}_camera.txt"
    models = {line.split(":")[-1].strip() for line in _read_lines(cameras)} if cameras.is_file() else {"PINHOLE"}
    if models != {"PINHOLE"}:
        raise ValueError(f"{cameras}: expected cameras of type PINHOLE, got {', '.join(sorted(models))}")
    poses, frames = read_npz(path, ("data", "inds")).values()
    focal, focal_frames = read_npz(root / "intrinsics" / f"{name}.npz", ("data", "inds")).values()
    if frames.shape != poses.shape[:1] or focal.shape != (*focal_frames.shape, 4):
        raise ValueError(f"{path}: data, inds: expected one pose and one fx, fy, cx, cy per frame")
    if not np.array_equal(frames, focal_frames):
        raise ValueError(f"{path}: inds: expected the same frames as in intrinsics/{name}.npz")
    depth = ZippedDepth(root / "depth" / f"{name}.zip")
    frames = frames.astype(np.int64)
    return ImportedVideo(
        format="vipe",
        frames=frames,
        camera_to_world=poses,
        intrinsics=pinhole_matrices(focal),
        size=depth.size,
        depth=lambda index: depth.read(int(frames[index])),
    )


def find_spatialvid(root: Path, name: str) -> Path | None:
    """The folder of annotations of SpatialVID."""
    return next((path.parent for path in sorted(root.glob(f"annotations/*/{glob.escape(name)}/poses.npy"))), None)


def open_spatialvid(path: Path) -> ImportedVideo:
    """Poses [N, 7] (world to camera: tx ty tz, qx qy qz qw), intrinsics [N, 4] (fx fy cx cy over width and height).

    `indexes.txt` has lines of an index and the number of its frame. Depth files hold inverse depth; values that are
    not positive are invalid. Without a depth file, there are cameras only.
    """
    poses, intrinsics = read_npy(path / "poses.npy"), read_npy(path / "intrinsics.npy")
    if poses.ndim != 2 or poses.shape[1] != 7 or intrinsics.shape != (len(poses), 4):
        raise ValueError(f"{path}: poses, intrinsics: expected [N, 7], [N, 4], got {poses.shape}, {intrinsics.shape}")
    frames = read_table(path / "indexes.txt", len(poses), 2)[:, 1].astype(np.int64)
    quaternions = poses[:, [6, 3, 4, 5]]
    world_to_camera = quaternion_poses(poses[:, :3], quaternions, name=f"{path}/poses.npy")
    file = path.parents[2] / "depths" / path.parent.name / f"{path.name}.zip"
    depth = ZippedDepth(file) if file.is_file() else None
    size = _size_of_square_pixels(intrinsics) if depth is None else depth.size
    height, width = size
    return ImportedVideo(
        format="spatialvid",
        frames=frames,
        camera_to_world=invert_pose(world_to_camera),
        intrinsics=pinhole_matrices(intrinsics.astype(np.float64) * [width, height, width, height]),
        size=size,
        depth=None if depth is None else lambda index: _inverse(depth.read(index)),
    )


class ZippedDepth:
    """Depth maps in a zip file, `NUMBER.exr` with a channel Z.

    Raises:
        ValueError: the file does not exist or is damaged, or its images differ in size.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise ValueError(f"{path}: expected depth beside the cameras, found none")
        try:
            with zipfile.ZipFile(path) as archive:
                files = [name for name in archive.namelist() if name.endswith(".exr")]
            self._files = {int(name.removesuffix(".exr")): name for name in files}
        except (zipfile.BadZipFile, ValueError) as error:
            raise ValueError(f"{path}: expected a zip file of images NUMBER.exr: {error}") from error
        if not self._files:
            raise ValueError(f"{path}: expected images NUMBER.exr, found none")
        first = self._decode(min(self._files))
        self.size = (first.shape[0], first.shape[1])
        """Height and width."""

    def read(self, number: int) -> np.ndarray:
        """The depth map [H, W] float32 of a number."""
        depth = self._decode(number)
        if depth.shape != self.size:
            raise ValueError(f"{self._path}: {self._files[number]}: expected {self.size}, got {depth.shape}")
        return depth

    def _decode(self, number: int) -> np.ndarray:
        """Decompress and decode one image."""
        if number not in self._files:
            raise ValueError(f"{self._path}: expected an image of frame {number}, found none")
        name = self._files[number]
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(name) as file:
                content = file.read(_MAX_MEMBER + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"{self._path}: {name}: expected an undamaged zip file: {error}") from error
        if len(content) > _MAX_MEMBER:
            raise ValueError(f"{self._path}: {name}: expected at most {_MAX_MEMBER} bytes")
        return read_exr_channel(content, "Z", name=f"{self._path}: {name}")


def _size_of_square_pixels(intrinsics: np.ndarray) -> tuple[int, int]:
    """A size with the ratio at which pixels are square, from fx and fy over width and height."""
    fx, fy = np.median(intrinsics[:, :2].astype(np.float64), axis=0)
    if not (fx > 0 and fy > 0 and 0.1 < fx / fy < 10):
        raise ValueError(f"intrinsics: expected positive focal lengths of square pixels, got {fx:g}, {fy:g}")
    return round(1000 * fx / fy), 1000


def _inverse(values: np.ndarray) -> np.ndarray:
    """Depth from inverse depth; NaN where it is not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(values > 0, 1 / values, np.nan).astype(np.float32)


def _read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text: {error}") from error
