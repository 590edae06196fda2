"""PLY files, read by a reference reader, plyfile, trimesh, and in the slow suite by Open3D and MeshLab."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from fourdnex.export import ExportOptions, export_ply, write_ply

PIPELINE_PROVENANCE = {
    "adapter_digest": "a" * 64,
    "adapter_identity": {"git_commit": "c" * 40, "data_md5": "d" * 32 + ".dir", "config_hash": "e" * 64},
    "base_digest": "b" * 64,
    "mlflow_run": None,
    "image": "Küche mit Hund.png",
    "prompt": 'A quiet kitchen, "still life", seen  by a camera that moves   slowly. ' * 9 + " " * 500,
    "recovery_rmse": 0.0123456789,
    "sampling": {"steps": 50, "guidance": 5.0, "interval": [0.5, 1.0], "lora": "x" * 700},
}


def read_ply(path) -> tuple[list[str], np.ndarray]:
    """Reference reader: header lines and packed vertices."""
    header, _, body = path.read_bytes().partition(b"end_header\n")
    return header.decode("ascii").splitlines(), np.frombuffer(body, np.uint8).reshape(-1, 15)


def test_bytes_of_a_point(tmp_path):
    write_ply(tmp_path / "a.ply", np.array([[1.0, -2.0, 0.5]]), np.array([[255, 0, 7]], np.uint8))
    header, body = read_ply(tmp_path / "a.ply")
    assert header == [
        "ply",
        "format binary_little_endian 1.0",
        "element vertex 1",
        "property float x",
        "property float y",
        "property float z",
        "property uchar red",
        "property uchar green",
        "property uchar blue",
    ]
    # IEEE 754: 1.0 = 3f800000, -2.0 = c0000000, 0.5 = 3f000000, little endian.
    assert body.tobytes() == bytes.fromhex("0000803f 000000c0 0000003f ff0007")


def test_empty_cloud_is_a_valid_file(tmp_path):
    write_ply(tmp_path / "a.ply", np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    assert "element vertex 0" in read_ply(tmp_path / "a.ply")[0]


def test_invalid_arrays_are_rejected(tmp_path):
    rgb = np.zeros((2, 3), np.uint8)
    for xyz, colors, field in (
        (np.zeros((2, 2)), rgb, "xyz"),
        (np.full((2, 3), np.nan), rgb, "xyz"),
        (np.zeros((2, 3)), rgb[:1], "rgb"),
        (np.zeros((2, 3)), rgb.astype(float), "rgb"),
    ):
        with pytest.raises(ValueError, match=field):
            write_ply(tmp_path / "a.ply", xyz, colors)
    assert list(tmp_path.iterdir()) == []


def test_export_writes_one_file_per_frame(scene, tmp_path):
    paths = export_ply(scene, tmp_path / "cloud")
    assert [path.name for path in paths] == ["frame_0000.ply", "frame_0001.ply", "frame_0002.ply"]
    for t, path in enumerate(paths):
        header, body = read_ply(path)
        xyz, rgb = scene.points(t)
        assert body[:, :12].copy().view("<f4") == pytest.approx(xyz * [1, -1, -1], abs=1e-6)  # y up
        assert (body[:, 12:] == rgb).all()
        assert "comment up y" in header
        assert any(line.startswith("comment provenance {") and '"adapter_digest": "abc"' in line for line in header)


def test_normals_axes_and_scale(scene, tmp_path):
    path = export_ply(scene, tmp_path / "cloud", ExportOptions(normals=True, scale=0.5))[0]
    header, _, body = path.read_bytes().partition(b"end_header\n")
    names = [line.split()[-1] for line in header.decode("ascii").splitlines() if line.startswith("property")]
    assert names == ["x", "y", "z", "nx", "ny", "nz", "red", "green", "blue"]
    rows = np.frombuffer(body, np.uint8).reshape(-1, 27)
    xyz, normals = (rows[:, k : k + 12].copy().view("<f4") for k in (0, 12))
    assert xyz == pytest.approx(0.5 * scene.points(0)[0] * [1, -1, -1], abs=1e-6)
    assert np.linalg.norm(normals, axis=1) == pytest.approx(1)
    assert (normals[:, 2] > 0.9).all()  # with y up, the first camera looks along -z: towards it is +z
    assert (rows[:, 24:] == scene.points(0)[1]).all()


def test_header_lines_are_short_and_provenance_round_trips(scene, tmp_path):
    scene = replace(scene, provenance=PIPELINE_PROVENANCE)
    header, _ = read_ply(export_ply(scene, tmp_path / "cloud", ExportOptions(stride=4))[0])
    assert max(map(len, header)) <= 200
    # Like a reader that strips both ends of a line.
    texts: list[str] = []
    for line in header:
        keyword, _, comment = line.strip().partition(" ")
        if keyword != "comment":
            continue
        if comment.startswith("+ "):
            texts[-1] += comment.removeprefix("+ ")
        elif comment.startswith("provenance "):
            texts.append(comment.removeprefix("provenance "))
    parsed = [json.loads(text) for text in texts]
    assert all(len(one) == 1 for one in parsed)
    joined = {key: value for one in parsed for key, value in one.items()}
    assert joined == {"name": "kleine Szene", **PIPELINE_PROVENANCE}


@pytest.mark.parametrize("comment", ["x" * 193, "two\nlines"])
def test_long_and_multiline_comments_are_rejected(comment, tmp_path):
    with pytest.raises(ValueError, match="comments: expected lines of at most 200 bytes"):
        write_ply(tmp_path / "a.ply", np.zeros((1, 3)), np.zeros((1, 3), np.uint8), comments=[comment])
    assert not list(tmp_path.iterdir())
    write_ply(tmp_path / "a.ply", np.zeros((1, 3)), np.zeros((1, 3), np.uint8), comments=["x" * 192])


def test_bytes_of_a_triangle(tmp_path):
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    write_ply(tmp_path / "a.ply", corners, np.zeros((3, 3), np.uint8), triangles=np.array([[0, 1, 2]]))
    header, _, body = (tmp_path / "a.ply").read_bytes().partition(b"end_header\n")
    assert header.endswith(b"element face 1\nproperty list uchar int vertex_indices\n")
    assert body[3 * 15 :] == bytes.fromhex("03 00000000 01000000 02000000")


def test_plyfile_and_trimesh_read_points(scene, tmp_path):
    import trimesh
    from plyfile import PlyData

    scene = replace(scene, provenance=PIPELINE_PROVENANCE)
    path = export_ply(scene, tmp_path / "cloud", ExportOptions(normals=True))[1]
    xyz, rgb = scene.points(1)
    vertices = PlyData.read(path)["vertex"]
    assert np.stack([vertices[name] for name in "xyz"], axis=1) == pytest.approx(xyz * [1, -1, -1], abs=1e-6)
    assert (np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1) == rgb).all()
    cloud = trimesh.load(path)
    assert np.array(cloud.vertices) == pytest.approx(xyz * [1, -1, -1], abs=1e-6)
    assert (np.array(cloud.colors)[:, :3] == rgb).all()


def test_plyfile_and_trimesh_read_a_mesh(scene, tmp_path):
    import trimesh
    from plyfile import PlyData

    path = export_ply(scene, tmp_path / "mesh", ExportOptions(mesh=True))[0]
    # 7 rows and 11 columns of cells, without the column across the depth edge.
    assert len(PlyData.read(path)["face"].data) == 7 * 10 * 2
    mesh = trimesh.load(path, process=False)
    assert (len(mesh.vertices), len(mesh.faces)) == (96, 140)
    assert (np.array(mesh.visual.vertex_colors)[:, :3] == scene.rgb[0].reshape(-1, 3)).all()
    # The camera is at the origin, in front of every face.
    assert (np.einsum("ij,ij->i", mesh.face_normals, -mesh.triangles_center) > 0).all()


READER = """
import sys
import numpy as np, open3d, pymeshlab
cloud = open3d.io.read_point_cloud(sys.argv[1])
mesh = open3d.io.read_triangle_mesh(sys.argv[2])
print(len(cloud.points), cloud.has_colors(), len(mesh.vertices), len(mesh.triangles), mesh.has_vertex_colors())
meshes = pymeshlab.MeshSet()
for path in sys.argv[1:]:
    meshes.load_new_mesh(path)
    mesh = meshes.current_mesh()
    color = np.round(mesh.vertex_color_matrix()[0, :3] * 255).astype(int).tolist()
    print(mesh.vertex_number(), mesh.face_number(), color)
"""


@pytest.mark.slow
def test_open3d_and_meshlab_read_both(scene, tmp_path):
    """In a separate environment: together they take 500 MB."""
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    install = [python, "-m", "pip", "install", "--quiet", "open3d==0.20.0", "pymeshlab==2025.7.post1"]
    installed = subprocess.run(install, capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"Open3D and pymeshlab cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
    scene = replace(scene, provenance=PIPELINE_PROVENANCE)
    points = export_ply(scene, tmp_path / "points")[0]
    mesh = export_ply(scene, tmp_path / "mesh", ExportOptions(mesh=True))[0]
    ran = subprocess.run([python, "-c", READER, points, mesh], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    color = scene.rgb[0, 0, 0].tolist()
    assert ran.stdout.splitlines()[-3:] == ["96 True 96 140 True", f"96 0 {color}", f"96 140 {color}"]
