"""NPZ: points and cameras as numpy arrays without pickle, compressed on all cores."""

import io
import os
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np

from fourdnex.export.deflate import CompressedBlock, deflate, write_member
from fourdnex.export.output_paths import file_target
from fourdnex.export.point_tracks import tracked_points
from fourdnex.export.selection import DEFAULT_OPTIONS, ExportOptions, Selection
from fourdnex.io.files import atomic_path
from fourdnex.scene import Scene4D

_POINT_ARRAYS = {"points": ("<f4", 3), "colors": ("|u1", 3), "pixels": ("<i4",), "normals": ("<f4", 3)}


def export_npz(scene: Scene4D, path: str | os.PathLike[str], options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write one .npz file atomically, to be opened with `numpy.load(path)`.

    Arrays: points [M, 3] float32 and colors [M, 3] uint8 of all frames concatenated, normals [M, 3] float32 with
    `options.normals`, offsets [T + 1] int64 (frame t is points[offsets[t]:offsets[t + 1]]), pixels [M] int32
    (y * width + x), camera_to_world [T, 4, 4] float64 (OpenCV camera axes to the exported world), intrinsics [3, 3]
    float64 (pixel centers at integers), size [2] (height, width), fps, scale, up, provenance (JSON). With
    `options.tracks` also track_positions [N, T, 3] float32 (NaN before the first frame), track_visible [N, T] bool,
    track_first_frame [N] int32, track_pixels [N] int32 (in that frame), track_colors [N, 3] uint8 and track_moves [N]
    bool.

    Raises:
        ValueError: see `Selection`; `path` does not end in .npz.
    """
    target = file_target(path, ".npz")
    selection = Selection(scene, options, up="-y", has_normals=True, has_tracks=True)
    deflate_pixels = lru_cache(maxsize=1)(deflate)  # frames without holes have the same pixels
    with ThreadPoolExecutor() as pool:
        frames = list(pool.map(lambda t: _compress_frame(selection, t, deflate_pixels), range(scene.num_frames)))
    counts = [frame["pixels"].size // 4 for frame in frames]
    arrays = {
        "offsets": np.cumsum([0, *counts], dtype=np.int64),
        "camera_to_world": selection.camera_to_world,
        "intrinsics": scene.intrinsics.astype(np.float64),
        "size": np.array([scene.height, scene.width]),
        "fps": np.array(scene.fps),
        "scale": np.array(options.scale),
        "up": np.array(selection.up),
        "provenance": np.array(selection.provenance),
    }
    if options.tracks:
        arrays |= _track_arrays(selection)
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in frames[0]:
            descr, *row = _POINT_ARRAYS[name]
            header = io.BytesIO()
            fields = {"descr": descr, "fortran_order": False, "shape": (sum(counts), *row)}
            np.lib.format.write_array_header_1_0(header, fields)
            write_member(archive, f"{name}.npy", [deflate(header.getvalue()), *(frame[name] for frame in frames)])
        for name, array in arrays.items():
            file = io.BytesIO()
            np.lib.format.write_array(file, np.asarray(array, order="C"), allow_pickle=False)
            write_member(archive, f"{name}.npy", [deflate(file.getvalue())])


def _track_arrays(selection: Selection) -> dict[str, np.ndarray]:
    """The arrays of `options.tracks`."""
    points = tracked_points(selection)
    tracks = points.tracks
    has_started = np.arange(tracks.num_frames) >= tracks.first_frame[:, None]
    return {
        "track_positions": np.where(has_started[..., None], points.xyz, np.float32(np.nan)),
        "track_visible": tracks.visible,
        "track_first_frame": tracks.first_frame,
        "track_pixels": tracks.pixel[:, 0] * np.int32(selection.scene.width) + tracks.pixel[:, 1],
        "track_colors": tracks.rgb,
        "track_moves": tracks.moves,
    }


def _compress_frame(
    selection: Selection, t: int, deflate_pixels: Callable[[bytes], CompressedBlock]
) -> dict[str, CompressedBlock]:
    """The compressed arrays of one frame's points."""
    cloud = selection.points(t)
    blocks = {
        "points": deflate(cloud.xyz),
        "colors": deflate(cloud.rgb),
        "pixels": deflate_pixels(cloud.pixels.astype("<i4").tobytes()),
    }
    if cloud.normals is not None:
        blocks["normals"] = deflate(cloud.normals)
    return blocks
