"""PLY point clouds: opened by Blender, MeshLab, CloudCompare and most others."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fourdnex.export.selection import DEFAULT_OPTIONS, ExportOptions, Selection
from fourdnex.export.targets import folder_target, frame_name
from fourdnex.files import atomic_path
from fourdnex.scene import Scene4D

_COLOURS = ("red", "green", "blue")
_NORMALS = ("nx", "ny", "nz")


def write_ply(
    path: str | os.PathLike[str],
    xyz: np.ndarray,
    rgb: np.ndarray,
    normals: np.ndarray | None = None,
    *,
    comments: Sequence[str] = (),
) -> None:
    """Write one coloured point cloud as binary little-endian PLY, whole or not at all.

    Args:
        xyz: [N, 3] finite coordinates, written as float32 in the axes they have.
        rgb: [N, 3] uint8.
        normals: [N, 3] finite, written as float32 (nx, ny, nz).
        comments: lines of ASCII for the header.

    Raises:
        ValueError: wrong shapes or type, or coordinates that are not finite.
    """
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise ValueError(f"xyz: expected [N, 3], got {xyz.shape}")
    if rgb.shape != xyz.shape or rgb.dtype != np.uint8:
        raise ValueError(f"rgb: expected {xyz.shape} uint8, got {rgb.shape} {rgb.dtype}")
    if normals is not None and normals.shape != xyz.shape:
        raise ValueError(f"normals: expected {xyz.shape}, got {normals.shape}")
    for name, array in (("xyz", xyz), ("normals", normals)):
        if array is not None and not np.isfinite(array).all():
            raise ValueError(f"{name}: expected finite coordinates")
    columns = [("<f4", "float", tuple("xyz"), xyz)]
    if normals is not None:
        columns.append(("<f4", "float", _NORMALS, normals))
    columns.append(("u1", "uchar", _COLOURS, rgb))
    vertices = np.empty(len(xyz), [(name, kind) for kind, _, names, _ in columns for name in names])  # packed
    for _, _, names, array in columns:
        for column, name in enumerate(names):
            vertices[name] = array[:, column]
    properties = [f"property {kind} {name}" for _, kind, names, _ in columns for name in names]
    header = ["ply", "format binary_little_endian 1.0", *(f"comment {line}" for line in comments)]
    header += [f"element vertex {len(xyz)}", *properties, "end_header", ""]
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write("\n".join(header).encode("ascii"))
        file.write(vertices.data)


def export_ply(scene: Scene4D, folder: str | os.PathLike[str], options: ExportOptions = DEFAULT_OPTIONS) -> list[Path]:
    """Write a folder of frame_0000.ply, frame_0001.ply, ..., whole or not at all.

    Axes: the scene's (OpenCV: y down, z forward), unless the options name another.

    Returns:
        The files, one a frame.

    Raises:
        ValueError, FileExistsError: see `Selection` and `folder_target`.
    """
    selection = Selection(scene, options, up="-y", has_normals=True)
    comments = (f"provenance {selection.provenance}", f"up {selection.up}")
    names = [frame_name(t, ".ply") for t in range(scene.num_frames)]
    with folder_target(folder, [r"frame_\d{4,}\.ply"]) as root:
        for t, name in enumerate(names):
            cloud = selection.points(t)
            write_ply(root / name, cloud.xyz, cloud.rgb, cloud.normals, comments=comments)
    return [Path(folder) / name for name in names]
