"""PLY point clouds: opened by Blender, MeshLab, CloudCompare and most others."""

import os
from pathlib import Path

import numpy as np

from fourdnex.files import atomic_path
from fourdnex.scene import Scene4D

_VERTEX = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
)  # packed: 15 bytes a point


def write_ply(path: str | os.PathLike[str], xyz: np.ndarray, rgb: np.ndarray) -> None:
    """Write one coloured point cloud as binary little-endian PLY, whole or not at all.

    Args:
        xyz: [N, 3] finite coordinates, written as float32 in the axes they have.
        rgb: [N, 3] uint8.

    Raises:
        ValueError: wrong shapes or type, or coordinates that are not finite.
    """
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise ValueError(f"xyz: expected [N, 3], got {xyz.shape}")
    if rgb.shape != xyz.shape or rgb.dtype != np.uint8:
        raise ValueError(f"rgb: expected {xyz.shape} uint8, got {rgb.shape} {rgb.dtype}")
    if not np.isfinite(xyz).all():
        raise ValueError("xyz: expected finite coordinates")
    vertices = np.empty(len(xyz), _VERTEX)
    for column, name in enumerate("xyz"):
        vertices[name] = xyz[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        vertices[name] = rgb[:, column]
    properties = [f"property float {name}" for name in "xyz"]
    properties += [f"property uchar {name}" for name in ("red", "green", "blue")]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(xyz)}", *properties, "end_header", ""]
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write("\n".join(header).encode("ascii"))
        file.write(vertices.tobytes())


def export_ply(scene: Scene4D, folder: str | os.PathLike[str], *, min_confidence: float = 0.0) -> list[Path]:
    """Write frame_0000.ply, frame_0001.ply, ... in the scene's world (OpenCV axes: y down, z forward).

    Other files in `folder` stay, but for frames of a longer scene written there before.

    Returns:
        The files, one a frame.
    """
    root = Path(folder)
    paths = [root / f"frame_{t:04d}.ply" for t in range(scene.num_frames)]
    for t, path in enumerate(paths):
        write_ply(path, *scene.points(t, min_confidence))
    for stale in set(root.glob("frame_[0-9][0-9][0-9][0-9].ply")) - set(paths):
        stale.unlink()
    return paths
