"""NPZ: the points and cameras as arrays for numpy, compressed, without pickle."""

import os
import zipfile

import numpy as np

from fourdnex.export.selection import DEFAULT_OPTIONS, ExportOptions, Selection
from fourdnex.export.targets import file_target
from fourdnex.files import atomic_path
from fourdnex.scene import Scene4D


def export_npz(scene: Scene4D, path: str | os.PathLike[str], options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write one .npz, whole or not at all; `numpy.load(path)` opens it.

    Arrays: points [M, 3] float32 and colors [M, 3] uint8 of all frames one after another, normals [M, 3] float32 if
    asked for, offsets [T + 1] int64 (frame t is points[offsets[t]:offsets[t + 1]]), pixels [M] int32 (y * width + x),
    camera_to_world [T, 4, 4] float64 (OpenCV camera axes to the points' world), intrinsics [3, 3] float64 (pixel
    centres at integers), size [2] (height, width), fps, scale, up, provenance (JSON).

    Raises:
        ValueError: see `Selection`; another suffix.
    """
    target = file_target(path, ".npz")
    selection = Selection(scene, options, up="-y", has_normals=True)
    clouds = [selection.points(t) for t in range(scene.num_frames)]
    arrays = {
        "points": [cloud.xyz for cloud in clouds],
        "colors": [cloud.rgb for cloud in clouds],
        "pixels": [cloud.pixels.astype(np.int32) for cloud in clouds],
        "offsets": [np.cumsum([0, *(len(cloud.xyz) for cloud in clouds)], dtype=np.int64)],
        "camera_to_world": [selection.camera_to_world],
        "intrinsics": [scene.intrinsics.astype(np.float64)],
        "size": [np.array([scene.height, scene.width])],
    }
    if options.normals:
        arrays["normals"] = [cloud.normals for cloud in clouds if cloud.normals is not None]
    numbers = {"fps": scene.fps, "scale": options.scale, "up": selection.up, "provenance": selection.provenance}
    with (
        atomic_path(target) as temporary,
        zipfile.ZipFile(
            # numpy's own writer compresses at level 6: more seconds, and not 1 % smaller.
            temporary,
            "w",
            zipfile.ZIP_DEFLATED,
            compresslevel=1,
        ) as archive,
    ):
        for name, parts in {**arrays, **{name: [np.array(value)] for name, value in numbers.items()}}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                _write_parts(file, parts)


def _write_parts(file, parts: list[np.ndarray]) -> None:
    """Write arrays joined along the first axis as one .npy, without joining them in memory."""
    if len(parts) == 1:
        np.lib.format.write_array(file, np.asarray(parts[0], order="C"), allow_pickle=False)
        return
    shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
    descr = np.lib.format.dtype_to_descr(parts[0].dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    for part in parts:
        file.write(np.ascontiguousarray(part).data)
