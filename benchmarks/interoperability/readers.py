"""PLY and GLB files read by Python packages; run by a Python with open3d, pymeshlab, plyfile and trimesh.

The arguments are the paths. Prints one JSON line per package and file.
"""

import json
import sys
from importlib.metadata import version

import numpy as np


def by_open3d(path: str) -> str:
    """What Open3D reads from a file."""
    import open3d

    mesh = open3d.io.read_triangle_mesh(path)
    if len(mesh.triangles) == 0 and path.endswith(".ply"):
        cloud = open3d.io.read_point_cloud(path)
        return f"{len(cloud.points)} points, {describe_first_color(np.asarray(cloud.colors) * 255)}"
    first_color = describe_first_color(np.asarray(mesh.vertex_colors) * 255)
    return f"{len(mesh.vertices)} vertices, {len(mesh.triangles)} triangles, {first_color}"


def by_pymeshlab(path: str) -> str:
    """What MeshLab reads from a file."""
    import pymeshlab

    meshes = pymeshlab.MeshSet()
    meshes.load_new_mesh(path)
    mesh = meshes.current_mesh()
    first_color = describe_first_color(mesh.vertex_color_matrix()[:, :3] * 255)
    return f"{mesh.vertex_number()} vertices, {mesh.face_number()} triangles, {first_color}"


def by_plyfile(path: str) -> str:
    """What plyfile reads from a file."""
    from plyfile import PlyData

    data = PlyData.read(path)
    vertices = data["vertex"]
    faces = len(data["face"].data) if "face" in data else 0
    first_color = describe_first_color(np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1))
    return f"{len(vertices.data)} vertices, {faces} triangles, {first_color}, {len(data.comments)} comments"


def by_trimesh(path: str) -> str:
    """What trimesh reads from a file."""
    import trimesh

    scene = trimesh.load_scene(path, process=False)
    (shape,) = scene.geometry.values()
    if hasattr(shape, "faces"):
        visual = shape.visual
        # For a mesh with a material, trimesh keeps the colors as floats in an attribute.
        values = visual.vertex_colors if visual.kind == "vertex" else visual.vertex_attributes["color"] * 255
    else:
        values = shape.colors
    first_color = describe_first_color(np.asarray(values))
    text = f"{len(shape.vertices)} vertices, {len(getattr(shape, 'faces', ()))} triangles, {first_color}"
    return text + (f", camera of {scene.camera.fov.round(1).tolist()} degrees" if scene.has_camera else "")


def describe_first_color(values: np.ndarray) -> str:
    """Text with the first of the colors [N, 3+] in 0..255."""
    if len(values) == 0:
        return "no colors"
    return f"color of the first {np.round(values[0, :3]).astype(int).tolist()}"


READERS = {
    "open3d": (by_open3d, (".ply", ".glb")),
    "pymeshlab": (by_pymeshlab, (".ply", ".glb")),
    "plyfile": (by_plyfile, (".ply",)),
    "trimesh": (by_trimesh, (".ply", ".glb")),
}

if __name__ == "__main__":
    for name, (read, suffixes) in READERS.items():
        for path in sys.argv[1:]:
            if path.endswith(suffixes):
                try:
                    result = read(path)
                except Exception as error:  # the error is the result
                    result = f"not opened: {error}"
                print(
                    json.dumps({"client": name, "version": version(name), "path": path, "result": result}), flush=True
                )
