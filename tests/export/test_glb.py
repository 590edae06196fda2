"""GLB files, read by trimesh."""

from dataclasses import replace

import numpy as np
import pytest

from fourdnex.export import ExportOptions, export_glb

trimesh = pytest.importorskip("trimesh")


def test_points_and_colors_match_the_scene(scene, tmp_path):
    paths = export_glb(scene, tmp_path / "out")
    assert [path.name for path in paths] == ["frame_0000.glb", "frame_0001.glb", "frame_0002.glb"]
    for t, path in enumerate(paths):
        (cloud,) = trimesh.load_scene(path).dump()
        xyz, rgb = scene.points(t)
        assert np.array(cloud.vertices) == pytest.approx(xyz * [1, -1, -1], abs=1e-6)  # glTF: y up
        # Linear RGB: half of the sRGB range, 128, is 0.2159.
        linear = np.array(cloud.colors)[:, :3] / np.iinfo(cloud.colors.dtype).max
        expected = np.where(rgb / 255 <= 0.04045, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
        assert linear == pytest.approx(expected, abs=0.6 / 255)  # trimesh keeps 8 bits


def parse(path) -> tuple[dict, bytes]:
    import json

    data = path.read_bytes()
    assert data[:4] == b"glTF" and np.frombuffer(data[4:12], "<u4").tolist() == [2, len(data)]
    length = int.from_bytes(data[12:16], "little")
    assert data[16:20] == b"JSON" and length % 4 == 0
    return json.loads(data[20 : 20 + length]), data[20 + length + 8 :]


def test_linear_colors_preserve_all_256_levels(scene, tmp_path):
    document, binary = parse(export_glb(scene, tmp_path / "out")[0])
    view = document["bufferViews"][document["accessors"][1]["bufferView"]]
    linear = np.frombuffer(binary[view["byteOffset"] :], "<f4").reshape(-1, 3).astype(float)
    assert view["byteOffset"] % 4 == 0
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert (np.round(encoded * 255) == scene.points(0)[1]).all()


def test_camera_projects_every_point_to_its_pixel(scene, tmp_path, pixel_grid):
    intrinsics = np.array([[15.0, 0, 5.5], [0, 14, 3.5], [0, 0, 1]])  # glTF has no principal point
    scene = replace(scene, intrinsics=intrinsics)
    path = export_glb(scene, tmp_path / "out", ExportOptions(scale=2))[2]
    document, _ = parse(path)
    (cloud,) = trimesh.load_scene(path).dump()
    pose = np.array(document["nodes"][0]["matrix"]).reshape(4, 4).T
    local = (np.array(cloud.vertices) - pose[:3, 3]) @ pose[:3, :3]
    perspective = document["cameras"][0]["perspective"]
    tangent = np.tan(perspective["yfov"] / 2)
    device = local[:, :2] / -local[:, 2:] / [tangent * perspective["aspectRatio"], tangent]
    assert (device * [1, -1] + 1) / 2 * [12, 8] - 0.5 == pytest.approx(pixel_grid(scene, 2), abs=1e-3)
    assert perspective["znear"] < (-local[:, 2]).min()


def test_frame_without_points_is_a_valid_file(scene, tmp_path):
    depth = scene.depth.copy()
    depth[1] = np.nan
    document, binary = parse(export_glb(replace(scene, depth=depth), tmp_path / "out")[1])
    assert document["scenes"] == [{"nodes": [0]}] and "meshes" not in document and binary == b""


def test_mesh_is_unlit_and_faces_the_camera(scene, tmp_path):
    path = export_glb(scene, tmp_path / "out", ExportOptions(mesh=True, normals=True))[0]
    document, binary = parse(path)
    (primitive,) = document["meshes"][0]["primitives"]
    assert primitive["mode"] == 4 and set(primitive["attributes"]) == {"POSITION", "COLOR_0", "NORMAL"}
    assert document["extensionsUsed"] == ["KHR_materials_unlit"]
    assert document["materials"][primitive["material"]]["extensions"] == {"KHR_materials_unlit": {}}
    assert sum(view["byteLength"] for view in document["bufferViews"]) == document["buffers"][0]["byteLength"]
    assert len(binary) == document["buffers"][0]["byteLength"]

    (mesh,) = trimesh.load_scene(path, process=False).dump()
    assert np.array(mesh.vertices) == pytest.approx(scene.points(0)[0] * [1, -1, -1], abs=1e-6)
    assert len(mesh.faces) == 7 * 10 * 2  # all cells except the column across the depth edge
    # The first camera is at the origin.
    assert (np.einsum("ij,ij->i", mesh.face_normals, -mesh.triangles_center) > 0).all()
    normals = np.array(mesh.vertex_normals)
    assert np.linalg.norm(normals, axis=1) == pytest.approx(1) and (normals[:, 2] > 0.9).all()


def test_normals_of_points_are_rejected(scene, tmp_path):
    with pytest.raises(ValueError, match="normals: not supported by this format"):
        export_glb(scene, tmp_path / "out", ExportOptions(normals=True))
