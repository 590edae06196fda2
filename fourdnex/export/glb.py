"""GLB (binary glTF 2.0) point clouds: opened by Blender, three.js and most web viewers."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from fourdnex.export.colour import linear_from_srgb
from fourdnex.export.selection import DEFAULT_OPTIONS, ExportOptions, PointCloud, Selection
from fourdnex.export.targets import folder_target, frame_name
from fourdnex.scene import Scene4D

_FLOAT, _ARRAY_BUFFER, _POINTS = 5126, 34962, 0  # constants of the format


def export_glb(scene: Scene4D, folder: str | os.PathLike[str], options: ExportOptions = DEFAULT_OPTIONS) -> list[Path]:
    """Write a folder of frame_0000.glb, frame_0001.glb, ..., whole or not at all.

    Each file holds one mesh of points (POSITION, and COLOR_0 linear in light, as the format demands, float32)
    and the frame's camera (the format knows no principal point: the picture's middle stands in). glTF worlds
    have y up.

    Returns:
        The files, one a frame.

    Raises:
        ValueError, FileExistsError: see `Selection` and `folder_target`.
    """
    selection = Selection(scene, options, up="y", ups=("y",))
    names = [frame_name(t, ".glb") for t in range(scene.num_frames)]
    with folder_target(folder, [r"frame_\d{4,}\.glb"]) as root:
        for t, name in enumerate(names):
            (root / name).write_bytes(_glb(selection, t, selection.points(t)))
    return [Path(folder) / name for name in names]


def _glb(selection: Selection, t: int, cloud: PointCloud) -> bytes:
    count = len(cloud.xyz)
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
    if count:  # an accessor of nothing is not allowed
        nodes.append({"name": "points", "mesh": 0})
        document["scenes"][0]["nodes"].append(1)
        positions = np.ascontiguousarray(cloud.xyz, "<f4").tobytes()
        # Floats: some readers (trimesh) take 16-bit colours modulo 256, and 8 bits are too few for dark linear tones.
        binary = positions + linear_from_srgb().astype("<f4")[cloud.rgb].tobytes()
        bounds = dict(zip(("min", "max"), cloud.bounds().tolist(), strict=True))
        document |= {
            "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "COLOR_0": 1}, "mode": _POINTS}]}],
            "accessors": [
                {"bufferView": 0, "componentType": _FLOAT, "count": count, "type": "VEC3", **bounds},
                {"bufferView": 1, "componentType": _FLOAT, "count": count, "type": "VEC3"},
            ],
            "bufferViews": [
                {"buffer": 0, "byteLength": len(positions), "target": _ARRAY_BUFFER},
                {"buffer": 0, "byteOffset": len(positions), "byteLength": len(positions), "target": _ARRAY_BUFFER},
            ],
            "buffers": [{"byteLength": len(binary)}],
        }
    text = json.dumps(document, separators=(",", ":")).encode()
    chunks = _chunk(b"JSON", text + b" " * (-len(text) % 4))
    if binary:
        chunks += _chunk(b"BIN\0", binary)
    return b"glTF" + np.array([2, 12 + len(chunks)], "<u4").tobytes() + chunks


def _chunk(kind: bytes, data: bytes) -> bytes:
    return np.array([len(data)], "<u4").tobytes() + kind + data


def _perspective(selection: Selection) -> dict[str, float]:
    fx, fy, _, _ = selection.pinhole
    height, width = selection.scene.height, selection.scene.width
    depth = selection.scene.depth[np.isfinite(selection.scene.depth)].min() * selection.options.scale
    return {
        "yfov": float(2 * np.arctan(height / 2 / fy)),
        "aspectRatio": (width / fx) / (height / fy),
        "znear": float(depth) * 0.1,
    }
