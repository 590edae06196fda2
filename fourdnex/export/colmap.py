"""COLMAP models: pictures, cameras and points, read by COLMAP, pycolmap and most trainers of Gaussian splats."""

import json
import os
from pathlib import Path

import numpy as np

from fourdnex.export.selection import DEFAULT_OPTIONS, ExportOptions, Selection
from fourdnex.export.targets import folder_target, frame_name, write_png
from fourdnex.files import write_json
from fourdnex.geometry.cameras import invert_pose
from fourdnex.scene import Scene4D

MAX_POINTS = 500_000
"""Of all frames, where no stride is asked for: what a trainer of splats starts from."""

_PINHOLE = 1  # COLMAP's number of the model with fx, fy, cx, cy
_OBSERVATION = np.dtype([("xy", "<f8", 2), ("point", "<u8")])
_POINT = np.dtype(
    [
        ("id", "<u8"),
        ("xyz", "<f8", 3),
        ("rgb", "u1", 3),
        ("error", "<f8"),
        ("track_length", "<u8"),
        ("image", "<u4"),
        ("observation", "<u4"),
    ]
)  # a point with a track of one observation


def export_colmap(scene: Scene4D, folder: str | os.PathLike[str], options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write images/frame_0000.png, ... and sparse/0/{cameras,images,points3D}.bin, whole or not at all.

    One PINHOLE camera, whose pixel centres lie at halves as COLMAP has them; one image a frame with its pose in OpenCV
    axes. Points of all frames, moving ones as well, are in one cloud; each is observed by the image it comes from, so
    that its track says its time. provenance.json says where the scene comes from.

    Raises:
        ValueError, FileExistsError: see `Selection` and `folder_target`.
    """
    selection = Selection(scene, options, up="-y", max_points=MAX_POINTS)
    fx, fy, cx, cy = selection.pinhole
    owned = [r"images/frame_\d{4,}\.png", r"sparse/0/(cameras|images|points3D)\.bin", r"provenance\.json"]
    with folder_target(folder, owned) as root:
        (root / "images").mkdir()
        model = root / "sparse" / "0"
        model.mkdir(parents=True)
        for t, picture in enumerate(scene.rgb):
            write_png(root / "images" / frame_name(t, ".png"), picture)
        with open(model / "cameras.bin", "wb") as file:
            file.write(_numbers("<u8", 1) + _numbers("<u4", 1) + _numbers("<i4", _PINHOLE))
            file.write(_numbers("<u8", scene.width, scene.height) + _numbers("<f8", fx, fy, cx + 0.5, cy + 0.5))
        _write_images_and_points(selection, model)
        write_json(root / "provenance.json", json.loads(selection.provenance))


def _write_images_and_points(selection: Selection, model: Path) -> None:
    from scipy.spatial.transform import Rotation

    poses = invert_pose(selection.camera_to_world)
    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat(canonical=True, scalar_first=True)
    total = 0
    with open(model / "images.bin", "wb") as images, open(model / "points3D.bin", "wb") as points:
        images.write(_numbers("<u8", len(poses)))
        points.write(_numbers("<u8", 0))
        for t, pose in enumerate(poses):
            cloud = selection.points(t)
            identifiers = np.arange(total + 1, total + 1 + len(cloud.xyz))
            total += len(cloud.xyz)

            observed = np.empty(len(cloud.xyz), _OBSERVATION)
            y, x = np.divmod(cloud.pixels, selection.scene.width)
            observed["xy"] = np.stack([x + 0.5, y + 0.5], axis=1)
            observed["point"] = identifiers
            images.write(_numbers("<u4", t + 1) + _numbers("<f8", *quaternions[t], *pose[:3, 3]) + _numbers("<u4", 1))
            images.write(frame_name(t, ".png").encode() + b"\0" + _numbers("<u8", len(observed)))
            images.write(observed.data)

            rows = np.empty(len(cloud.xyz), _POINT)
            rows["id"], rows["xyz"], rows["rgb"] = identifiers, cloud.xyz, cloud.rgb
            rows["error"], rows["track_length"] = 0, 1
            rows["image"], rows["observation"] = t + 1, np.arange(len(rows))
            points.write(rows.data)
        points.seek(0)
        points.write(_numbers("<u8", total))


def _numbers(kind: str, *values: float) -> bytes:
    return np.array(values, kind).tobytes()
