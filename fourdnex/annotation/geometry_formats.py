"""Readers of geometry as other tools write it. Nothing that is read is executed.

Every format has a function that finds the files of a clip or video by its name in a folder, and one that opens them:

| format | files |
| --- | --- |
| megasam | `NAME_sgd_cvd_hr.npz`, or any `*sgd_cvd_hr.npz` in the folder `NAME` |
| monst3r | `NAME/`: `pred_traj.txt`, `pred_intrinsics.txt`, `frame_0000.npy`, ..., and its masks and confidence |
| vggt | `NAME/predictions.npz` |
| vipe | `pose/NAME.npz`, `intrinsics/NAME.npz`, `depth/NAME.zip` |
| spatialvid | `annotations/GROUP/NAME/`, and `depths/GROUP/NAME.zip`, if any |
| nerfstudio | `NAME/transforms.json` and the depth files that it names, if any |
| colmap | `NAME/sparse/0/` or `NAME/sparse/`: `cameras.bin`, `images.bin` |
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from fourdnex.annotation.colmap_geometry import find_colmap, open_colmap
from fourdnex.annotation.exr_geometry import find_spatialvid, find_vipe, open_spatialvid, open_vipe
from fourdnex.annotation.imported_video import ImportedVideo, frames_of_one_size
from fourdnex.annotation.nerfstudio_geometry import find_nerfstudio, open_nerfstudio
from fourdnex.datasets.clip_geometry import quaternion_poses, read_geometry_image, read_table
from fourdnex.io.numpy_files import read_npy, read_npz


def open_geometry(root: Path, name: str) -> ImportedVideo | None:
    """Open the geometry of a clip or video by its name; None if there is none.

    Where files of several formats are found, the first in the order of `FORMATS` is used.

    Raises:
        ValueError: the files are damaged or contradict each other; the message names the file.
        OSError: they cannot be read.
    """
    for find, open_files in FORMATS.values():
        if (path := find(root, name)) is not None:
            try:
                return open_files(path)
            except (ValueError, FileNotFoundError) as error:
                raise ValueError(str(error) if str(root) in str(error) else f"{path}: {error}") from error
    return None


def find_megasam(root: Path, name: str) -> Path | None:
    """The `.npz` file of MegaSaM."""
    paths = sorted([root / f"{name}_sgd_cvd_hr.npz", *(root / name).glob("*sgd_cvd_hr.npz")])
    return next((path for path in paths if path.is_file()), None)


def open_megasam(path: Path) -> ImportedVideo:
    """Arrays: images [N, H, W, 3] uint8, depths [N, H, W], intrinsic [3, 3] or [N, 3, 3], cam_c2w [N, 4, 4]."""
    images, depths, intrinsic, poses = read_npz(path, ("images", "depths", "intrinsic", "cam_c2w")).values()
    if depths.ndim != 3:
        raise ValueError(f"{path}: depths: expected [N, H, W], got {depths.shape}")
    count = len(depths)
    if images.dtype != np.uint8 or images.shape != (*depths.shape, 3):
        raise ValueError(f"{path}: images: expected {(*depths.shape, 3)} uint8, got {images.shape} {images.dtype}")
    if intrinsic.shape not in ((3, 3), (1, 3, 3), (count, 3, 3)):
        raise ValueError(f"{path}: intrinsic: expected [3, 3] or [{count}, 3, 3], got {intrinsic.shape}")
    return ImportedVideo(
        format="megasam",
        frames=np.arange(count),
        camera_to_world=poses,
        intrinsics=np.broadcast_to(intrinsic, (count, 3, 3)),
        size=(depths.shape[1], depths.shape[2]),
        depth=lambda index: depths[index],
        image=lambda index: images[index],
    )


def find_monst3r(root: Path, name: str) -> Path | None:
    """The folder of MonST3R."""
    return root / name if (root / name / "pred_traj.txt").is_file() else None


def open_monst3r(path: Path) -> ImportedVideo:
    """Trajectory (index, tx ty tz, qw qx qy qz), intrinsics, depth, and optionally masks and confidence per frame.

    The confidence of MonST3R is the logarithm of that of DUSt3R, c >= 1; it becomes 1 - 1 / c.
    """
    count = len(list(path.glob("frame_*.npy")))
    trajectory = read_table(path / "pred_traj.txt", count, 8)
    intrinsics = read_table(path / "pred_intrinsics.txt", count, 9).reshape(count, 3, 3)
    first = read_npy(path / "frame_0000.npy")
    if first.ndim != 2:
        raise ValueError(f"{path}/frame_0000.npy: expected [H, W], got {first.shape}")
    size = (first.shape[0], first.shape[1])
    check = partial(frames_of_one_size, size=size)

    def mask(index: int) -> np.ndarray:
        """The mask of moving objects; empty without a file."""
        file = path / f"dynamic_mask_{index}.png"
        return read_geometry_image(file, "L") > 127 if file.is_file() else np.zeros(size, bool)

    def confidence(index: int) -> np.ndarray:
        """Confidence in [0, 1]."""
        return 1 - np.exp(-np.maximum(read_npy(path / f"conf_{index}.npy").astype(np.float32), 0))

    return ImportedVideo(
        format="monst3r",
        frames=np.arange(count),
        camera_to_world=quaternion_poses(trajectory[:, 1:4], trajectory[:, 4:], name=f"{path}/pred_traj.txt"),
        intrinsics=intrinsics,
        size=size,
        depth=check(lambda index: read_npy(path / f"frame_{index:04d}.npy"), name=f"{path}/frame_*.npy"),
        dynamic_mask=check(mask, name=f"{path}/dynamic_mask_*.png") if any(path.glob("dynamic_mask_*.png")) else None,
        confidence=check(confidence, name=f"{path}/conf_*.npy") if any(path.glob("conf_*.npy")) else None,
        fit="crop",
    )


def find_vggt(root: Path, name: str) -> Path | None:
    """The predictions of VGGT."""
    path = root / name / "predictions.npz"
    return path if path.is_file() else None


def open_vggt(path: Path) -> ImportedVideo:
    """Arrays: depth [N, H, W, 1], depth_conf [N, H, W], extrinsic [N, 3, 4] world to camera, intrinsic [N, 3, 3].

    The confidence of VGGT is c >= 1; it becomes 1 - 1 / c.
    """
    depth, conf, extrinsic, intrinsic = read_npz(path, ("depth", "depth_conf", "extrinsic", "intrinsic")).values()
    if depth.ndim != 4 or depth.shape[-1] != 1 or conf.shape != depth.shape[:3]:
        raise ValueError(
            f"{path}: depth, depth_conf: expected [N, H, W, 1], [N, H, W], got {depth.shape}, {conf.shape}"
        )
    count = len(depth)
    if extrinsic.shape != (count, 3, 4):
        raise ValueError(f"{path}: extrinsic: expected [{count}, 3, 4], got {extrinsic.shape}")
    world_to_camera = np.tile(np.eye(4), (count, 1, 1))
    world_to_camera[:, :3] = extrinsic
    return ImportedVideo(
        format="vggt",
        frames=np.arange(count),
        camera_to_world=np.linalg.inv(world_to_camera),
        intrinsics=intrinsic,
        size=(depth.shape[1], depth.shape[2]),
        depth=lambda index: depth[index, ..., 0],
        confidence=lambda index: 1 - 1 / np.maximum(conf[index].astype(np.float32), 1),
    )


FORMATS: dict[str, tuple[Callable[[Path, str], Path | None], Callable[[Path], ImportedVideo]]] = {
    "megasam": (find_megasam, open_megasam),
    "monst3r": (find_monst3r, open_monst3r),
    "vggt": (find_vggt, open_vggt),
    "vipe": (find_vipe, open_vipe),
    "spatialvid": (find_spatialvid, open_spatialvid),
    "nerfstudio": (find_nerfstudio, open_nerfstudio),
    "colmap": (find_colmap, open_colmap),
}
"""Name -> functions that find and open the files of a video."""
