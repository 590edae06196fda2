"""What Python's readers of PLY and GLB make of a file: run by a Python that has Open3D, pymeshlab, plyfile and trimesh.

Arguments: the paths. Prints a JSON line a client and file.
"""

import json
import sys
from importlib.metadata import version

import numpy as np


def by_open3d(path: str) -> str:
    import open3d

    mesh = open3d.io.read_triangle_mesh(path)
    if len(mesh.triangles) == 0 and path.endswith(".ply"):
        cloud = open3d.io.read_point_cloud(path)
        return f"{len(cloud.points)} points, {colors(np.asarray(cloud.colors) * 255)}"
    found = colors(np.asarray(mesh.vertex_colors) * 255)
    return f"{len(mesh.vertices)} vertices, {len(mesh.triangles)} triangles, {found}"


def by_pymeshlab(path: str) -> str:
    import pymeshlab

    meshes = pymeshlab.MeshSet()
    meshes.load_new_mesh(path)
    mesh = meshes.current_mesh()
    found = colors(mesh.vertex_color_matrix()[:, :3] * 255)
    return f"{mesh.vertex_number()} vertices, {mesh.face_number()} triangles, {found}"


def by_plyfile(path: str) -> str:
    from plyfile import PlyData

    data = PlyData.read(path)
    vertices = data["vertex"]
    faces = len(data["face"].data) if "face" in data else 0
    found = colors(np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1))
    return f"{len(vertices.data)} vertices, {faces} triangles, {found}, {len(data.comments)} comments"


def by_trimesh(path: str) -> str:
    import trimesh

    scene = trimesh.load_scene(path, process=False)
    (shape,) = scene.geometry.values()
    if hasattr(shape, "faces"):
        visual = shape.visual
        # Of a mesh with a material trimesh keeps the floats, as an attribute.
        found = visual.vertex_colors if visual.kind == "vertex" else visual.vertex_attributes["color"] * 255
    else:
        found = shape.colors
    text = f"{len(shape.vertices)} vertices, {len(getattr(shape, 'faces', ()))} triangles, {colors(np.asarray(found))}"
    return text + (f", camera of {scene.camera.fov.round(1).tolist()} degrees" if scene.has_camera else "")


def colors(values: np.ndarray) -> str:
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
                    seen = read(path)
                except Exception as error:  # what the reader says is the row
                    seen = f"not opened: {error}"
                print(json.dumps({"client": name, "version": version(name), "path": path, "seen": seen}), flush=True)
