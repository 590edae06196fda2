"""PLY point clouds and meshes, opened by Blender, MeshLab, CloudCompare and most other programs."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fourdnex.export.output_paths import folder_target, frame_name
from fourdnex.export.selection import DEFAULT_OPTIONS, ExportOptions, Selection
from fourdnex.io.files import atomic_path
from fourdnex.scene import Scene4D

_COLORS = ("red", "green", "blue")
_NORMALS = ("nx", "ny", "nz")
_TRIANGLE = np.dtype([("count", "u1"), ("vertices", "<i4", 3)])

MAX_LINE = 200
"""Maximum length of a header line in bytes, without line feed. Readers have fixed buffers: about 500 bytes in MeshLab,
about 1,000 in RPly (Open3D, CloudCompare), 255 in others."""


def write_ply(
    path: str | os.PathLike[str],
    xyz: np.ndarray,
    rgb: np.ndarray,
    normals: np.ndarray | None = None,
    *,
    triangles: np.ndarray | None = None,
    comments: Sequence[str] = (),
) -> None:
    """Write a colored point cloud or triangle mesh as binary little-endian PLY, atomically.

    Args:
        xyz: [N, 3] finite coordinates, written as float32 without a change of axes.
        rgb: [N, 3] uint8.
        normals: [N, 3] finite, written as float32 (nx, ny, nz).
        triangles: [M, 3] vertex indices, counterclockwise when seen from the front; None writes no face element.
        comments: ASCII lines for the header, each at most `MAX_LINE` bytes including the keyword.

    Raises:
        ValueError: wrong shapes or dtype, coordinates that are not finite, or a comment that is too long.
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
    if triangles is not None and (triangles.ndim != 2 or triangles.shape[1] != 3):
        raise ValueError(f"triangles: expected [M, 3], got {triangles.shape}")
    columns = [("<f4", "float", tuple("xyz"), xyz)]
    if normals is not None:
        columns.append(("<f4", "float", _NORMALS, normals))
    columns.append(("u1", "uchar", _COLORS, rgb))
    vertices = np.empty(len(xyz), [(name, kind) for kind, _, names, _ in columns for name in names])  # packed
    for _, _, names, array in columns:
        for column, name in enumerate(names):
            vertices[name] = array[:, column]
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {line}" for line in comments)]
    lines.append(f"element vertex {len(xyz)}")
    lines += [f"property {kind} {name}" for _, kind, names, _ in columns for name in names]
    faces = np.empty(0 if triangles is None else len(triangles), _TRIANGLE)
    if triangles is not None:
        faces["count"], faces["vertices"] = 3, triangles
        lines += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    for line in lines:
        if len(line) > MAX_LINE or "\n" in line or "\r" in line:
            raise ValueError(f"comments: expected lines of at most {MAX_LINE} bytes, got {line[:60]!r}...")
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write("\n".join([*lines, "end_header", ""]).encode("ascii"))
        file.write(vertices.data)
        file.write(faces.data)


def provenance_comments(provenance: Mapping[str, Any]) -> Iterator[str]:
    """Provenance as header comments of at most `MAX_LINE` bytes: `provenance {"key": value}`, one per key.

    A longer value continues in lines that begin with `+ `; joined, they are a JSON object with one key. A space at the
    start or end of a line, which readers may strip, is written as a JSON escape.
    """
    first_prefix, next_prefix = "provenance ", "+ "
    limit = MAX_LINE - len(f"comment {first_prefix}") - 2 * len(r"\u0020")
    for key, value in provenance.items():
        text = json.dumps({key: value}, sort_keys=True)
        if len(text) > limit:  # compact separators: all remaining spaces are inside strings
            text = json.dumps({key: value}, sort_keys=True, separators=(",", ":"))
        for start in range(0, len(text), limit):
            prefix = next_prefix if start else first_prefix
            yield prefix + re.sub("^ | $", r"\\u0020", text[start : start + limit])


def export_ply(scene: Scene4D, folder: str | os.PathLike[str], options: ExportOptions = DEFAULT_OPTIONS) -> list[Path]:
    """Write a folder of frame_0000.ply, frame_0001.ply, ... atomically.

    Each file holds the points of a frame, or a triangle mesh with `options.mesh`. The world has y up, as displayed by
    MeshLab and f3d, unless `options.up` is set. Header comments record the up axis and the scene's provenance.

    Returns:
        The files, one per frame.

    Raises:
        ValueError, FileExistsError: see `Selection` and `folder_target`.
    """
    selection = Selection(scene, options, up="y", has_normals=True, has_mesh=True)
    comments = (f"up {selection.up}", *provenance_comments(json.loads(selection.provenance)))
    names = [frame_name(t, ".ply") for t in range(scene.num_frames)]
    with folder_target(folder, [r"frame_\d{4,}\.ply"]) as root:
        for t, name in enumerate(names):
            cloud, triangles = selection.shape(t)
            write_ply(root / name, cloud.xyz, cloud.rgb, cloud.normals, triangles=triangles, comments=comments)
    return [Path(folder) / name for name in names]
