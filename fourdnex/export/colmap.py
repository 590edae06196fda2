"""COLMAP models: images, cameras and points, read by COLMAP, pycolmap and most Gaussian splatting trainers."""

import json
import os
from pathlib import Path

import numpy as np

from fourdnex.export.colmap_tracks import ColmapTracks, find_tracks
from fourdnex.export.output_paths import folder_target, frame_name, write_png
from fourdnex.export.selection import DEFAULT_OPTIONS, ExportOptions, Selection
from fourdnex.geometry.cameras import invert_pose
from fourdnex.io.files import write_json
from fourdnex.scene import Scene4D

MAX_OBSERVATIONS = 1_500_000
"""Observations over all frames for the default stride: about 50 MB, and enough points to initialize Gaussian splats."""

_PINHOLE = 1  # COLMAP's id of the camera model with fx, fy, cx, cy
_OBSERVATION = np.dtype([("xy", "<f8", 2), ("point", "<u8")])
_POINT = [("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track_length", "<u8")]
_TRACK = np.dtype([("image", "<u4"), ("observation", "<u4")])


def export_colmap(scene: Scene4D, folder: str | os.PathLike[str], options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write images/frame_0000.png, ... and sparse/0/{cameras,images,points3D}.bin atomically.

    The model has one PINHOLE camera with pixel centers at half-integers, as COLMAP defines them, and one image per
    frame with its pose in OpenCV axes. A static point is written once, with an observation in every image that sees it
    at its exact projection: reprojection errors are 0. Points observed in a single image, such as moving objects, are
    omitted because bundle adjustment rejects tracks of length 1, unless `options.moving` is set or the scene has no
    other points. provenance.json records the scene's origin.

    Raises:
        ValueError, FileExistsError: see `Selection` and `folder_target`.
    """
    selection = Selection(scene, options, up="-y", max_points=MAX_OBSERVATIONS)
    fx, fy, cx, cy = selection.pinhole
    tracks = find_tracks(selection, keep_moving=options.moving)
    if len(tracks.xyz) == 0:  # a single frame, or everything moves
        tracks = find_tracks(selection, keep_moving=True)
    owned = [r"images/frame_\d{4,}\.png", r"sparse/0/(cameras|images|points3D)\.bin", r"provenance\.json"]
    with folder_target(folder, owned) as root:
        (root / "images").mkdir()
        model = root / "sparse" / "0"
        model.mkdir(parents=True)
        for t, image in enumerate(scene.rgb):
            write_png(root / "images" / frame_name(t, ".png"), image)
        with open(model / "cameras.bin", "wb") as file:
            file.write(_numbers("<u8", 1) + _numbers("<u4", 1) + _numbers("<i4", _PINHOLE))
            file.write(_numbers("<u8", scene.width, scene.height) + _numbers("<f8", fx, fy, cx + 0.5, cy + 0.5))
        _write_images(selection, tracks, model / "images.bin")
        _write_points(tracks, model / "points3D.bin")
        write_json(root / "provenance.json", json.loads(selection.provenance))


def _write_images(selection: Selection, tracks: ColmapTracks, path: Path) -> None:
    """Write images.bin: pose and observations per image."""
    from scipy.spatial.transform import Rotation

    poses = invert_pose(selection.camera_to_world)
    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat(canonical=True, scalar_first=True)
    observations = np.empty(len(tracks.xy), _OBSERVATION)
    observations["xy"] = tracks.xy + np.float32(0.5)
    observations["point"] = np.repeat(np.arange(1, len(tracks.xyz) + 1), tracks.lengths)
    with open(path, "wb") as file:
        file.write(_numbers("<u8", len(poses)))
        for t, pose in enumerate(poses):
            in_frame = observations[tracks.frames == t]
            file.write(_numbers("<u4", t + 1) + _numbers("<f8", *quaternions[t], *pose[:3, 3]) + _numbers("<u4", 1))
            file.write(frame_name(t, ".png").encode() + b"\0" + _numbers("<u8", len(in_frame)))
            file.write(in_frame.data)


def _write_points(tracks: ColmapTracks, path: Path) -> None:
    """Write points3D.bin: position, color and track per point."""
    elements = np.empty(len(tracks.frames), _TRACK)
    elements["image"] = tracks.frames + 1
    for t in np.unique(tracks.frames):  # observations of an image are numbered in the order of the points
        in_frame = tracks.frames == t
        elements["observation"][in_frame] = np.arange(in_frame.sum())
    first = np.cumsum(tracks.lengths) - tracks.lengths
    with open(path, "wb") as file:
        file.write(_numbers("<u8", len(tracks.xyz)))
        for length in np.unique(tracks.lengths):  # records of equal size at once
            (points,) = np.nonzero(tracks.lengths == length)
            rows = np.empty(len(points), [*_POINT, ("track", _TRACK, length)])
            rows["id"], rows["xyz"], rows["rgb"] = points + 1, tracks.xyz[points], tracks.rgb[points]
            rows["error"], rows["track_length"] = 0, length
            rows["track"] = elements[first[points, None] + np.arange(length)]
            file.write(rows.data)


def _numbers(dtype: str, *values: float) -> bytes:
    """The values as bytes of one type."""
    return np.array(values, dtype).tobytes()
