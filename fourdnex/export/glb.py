"""GLB (binary glTF 2.0) point clouds and meshes, opened by Blender, three.js and most web viewers."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from fourdnex.export.linear_color import linear_from_srgb
from fourdnex.export.output_paths import folder_target, frame_name
from fourdnex.export.selection import DEFAULT_OPTIONS, ExportOptions, PointCloud, Selection
from fourdnex.scene import Scene4D

# Constants of the format.
_UINT, _FLOAT, _ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER, _POINTS, _TRIANGLES = 5125, 5126, 34962, 34963, 0, 4

# The images contain the lighting already; a client without the extension shades a matte surface.
_UNLIT = {
    "name": "image",
    "pbrMetallicRoughness": {"metallicFactor": 0, "roughnessFactor": 1},
    "doubleSided": True,
    "extensions": {"KHR_materials_unlit": {}},
}


def export_glb(scene: Scene4D, folder: str | os.PathLike[str], options: ExportOptions = DEFAULT_OPTIONS) -> list[Path]:
    """Write a folder of frame_0000.glb, frame_0001.glb, ... atomically.

    Each file holds one point primitive (POSITION, and COLOR_0 in linear RGB, as the format requires, float32) and the
    frame's camera, whose principal point is the image center because glTF has no other. With `options.mesh`, the
    primitive is a double-sided triangle mesh with an unlit material (KHR_materials_unlit) and optional normals. The
    world has y up.

    Returns:
        The files, one per frame.

    Raises:
        ValueError, FileExistsError: see `Selection` and `folder_target`.
    """
    selection = Selection(scene, options, up="y", ups=("y",), has_normals=options.mesh, has_mesh=True)
    names = [frame_name(t, ".glb") for t in range(scene.num_frames)]
    with folder_target(folder, [r"frame_\d{4,}\.glb"]) as root:
        for t, name in enumerate(names):
            (root / name).write_bytes(_glb(selection, t))
    return [Path(folder) / name for name in names]


def _glb(selection: Selection, t: int) -> bytes:
    """The file of frame `t`."""
    cloud, triangles = selection.shape(t)
    nodes: list[dict[str, Any]] = [
        {"name": "camera", "camera": 0, "matrix": selection.opengl_camera_to_world[t].T.reshape(-1).tolist()}
    ]
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "fourdnex", "extras": {"provenance": selection.provenance}},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": nodes,
        "cameras": [{"type": "perspective", "perspective": _perspective(selection)}],
    }
    binary = b""
    if len(cloud.xyz):  # glTF forbids empty accessors
        nodes.append({"name": "points" if triangles is None else "mesh", "mesh": 0})
        document["scenes"][0]["nodes"].append(1)
        tables, binary = _primitive(cloud, triangles)
        document |= tables
    text = json.dumps(document, separators=(",", ":")).encode()
    chunks = _chunk(b"JSON", text + b" " * (-len(text) % 4))
    if binary:
        chunks += _chunk(b"BIN\0", binary)
    return b"glTF" + np.array([2, 12 + len(chunks)], "<u4").tobytes() + chunks


def _primitive(cloud: PointCloud, triangles: np.ndarray | None) -> tuple[dict[str, Any], bytes]:
    """The document's entries for one mesh, and its buffer."""
    # Floats: some readers (trimesh) read 16-bit colors modulo 256, and 8 bits are too coarse for dark linear colors.
    attributes = {"POSITION": cloud.xyz, "COLOR_0": linear_from_srgb()[cloud.rgb]}
    if cloud.normals is not None:
        attributes["NORMAL"] = cloud.normals
    arrays = [np.ascontiguousarray(array, "<f4") for array in attributes.values()]
    accessors: list[dict[str, Any]] = [
        {"bufferView": i, "componentType": _FLOAT, "count": len(cloud.xyz), "type": "VEC3"} for i in range(len(arrays))
    ]
    accessors[0] |= dict(zip(("min", "max"), cloud.bounds().tolist(), strict=True))
    primitive: dict[str, Any] = {"attributes": {name: i for i, name in enumerate(attributes)}, "mode": _POINTS}
    tables: dict[str, Any] = {"meshes": [{"primitives": [primitive]}], "accessors": accessors}
    targets = [_ARRAY_BUFFER] * len(arrays)
    if triangles is not None:
        primitive |= {"mode": _TRIANGLES, "indices": len(arrays), "material": 0}
        accessors.append({"bufferView": len(arrays), "componentType": _UINT, "count": triangles.size, "type": "SCALAR"})
        arrays.append(np.ascontiguousarray(triangles, "<u4"))
        targets.append(_ELEMENT_ARRAY_BUFFER)
        tables |= {"materials": [_UNLIT], "extensionsUsed": ["KHR_materials_unlit"]}
    ends = np.cumsum([array.nbytes for array in arrays]).tolist()
    tables["bufferViews"] = [
        {"buffer": 0, "byteOffset": end - array.nbytes, "byteLength": array.nbytes, "target": target}
        for array, end, target in zip(arrays, ends, targets, strict=True)
    ]
    tables["buffers"] = [{"byteLength": ends[-1]}]
    return tables, b"".join(array.tobytes() for array in arrays)


def _chunk(kind: bytes, data: bytes) -> bytes:
    """A GLB chunk: length, type and data."""
    return np.array([len(data)], "<u4").tobytes() + kind + data


def _perspective(selection: Selection) -> dict[str, float]:
    """Parameters of the perspective camera."""
    fx, fy, _, _ = selection.pinhole
    height, width = selection.scene.height, selection.scene.width
    depth = selection.scene.depth[np.isfinite(selection.scene.depth)].min() * selection.options.scale
    return {
        "yfov": float(2 * np.arctan(height / 2 / fy)),
        "aspectRatio": (width / fx) / (height / fy),
        "znear": float(depth) * 0.1,
    }
