import numpy as np
import pytest

from fourdnex.export import ExportOptions, export_ply, write_ply


def read_ply(path) -> tuple[list[str], np.ndarray]:
    """A reader of its own: header lines and the packed vertices."""
    header, _, body = path.read_bytes().partition(b"end_header\n")
    return header.decode("ascii").splitlines(), np.frombuffer(body, np.uint8).reshape(-1, 15)


def test_bytes_by_hand(tmp_path):
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


def test_bad_clouds_are_refused(tmp_path):
    rgb = np.zeros((2, 3), np.uint8)
    for xyz, colours, field in (
        (np.zeros((2, 2)), rgb, "xyz"),
        (np.full((2, 3), np.nan), rgb, "xyz"),
        (np.zeros((2, 3)), rgb[:1], "rgb"),
        (np.zeros((2, 3)), rgb.astype(float), "rgb"),
    ):
        with pytest.raises(ValueError, match=field):
            write_ply(tmp_path / "a.ply", xyz, colours)
    assert list(tmp_path.iterdir()) == []


def test_one_file_a_frame_with_the_scenes_points(scene, tmp_path):
    paths = export_ply(scene, tmp_path / "cloud")
    assert [path.name for path in paths] == ["frame_0000.ply", "frame_0001.ply", "frame_0002.ply"]
    for t, path in enumerate(paths):
        header, body = read_ply(path)
        xyz, rgb = scene.points(t)
        assert body[:, :12].copy().view("<f4") == pytest.approx(xyz, abs=1e-6) and (body[:, 12:] == rgb).all()
        assert any(line.startswith("comment provenance {") and '"adapter_digest": "abc"' in line for line in header)


def test_normals_and_axes_on_demand(scene, tmp_path):
    path = export_ply(scene, tmp_path / "cloud", ExportOptions(normals=True, up="y", scale=0.5))[0]
    header, _, body = path.read_bytes().partition(b"end_header\n")
    names = [line.split()[-1] for line in header.decode("ascii").splitlines() if line.startswith("property")]
    assert names == ["x", "y", "z", "nx", "ny", "nz", "red", "green", "blue"]
    rows = np.frombuffer(body, np.uint8).reshape(-1, 27)
    xyz, normals = (rows[:, k : k + 12].copy().view("<f4") for k in (0, 12))
    assert xyz == pytest.approx(0.5 * scene.points(0)[0] * [1, -1, -1], abs=1e-6)
    assert np.linalg.norm(normals, axis=1) == pytest.approx(1)
    assert (normals[:, 2] > 0.9).all()  # with y up the first camera looks along -z: towards it is +z
    assert (rows[:, 24:] == scene.points(0)[1]).all()


def test_trimesh_reads_what_we_write(scene, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    path = export_ply(scene, tmp_path / "cloud", ExportOptions(normals=True))[1]
    cloud = trimesh.load(path)
    assert np.array(cloud.vertices) == pytest.approx(scene.points(1)[0], abs=1e-6)
    assert (np.array(cloud.colors)[:, :3] == scene.points(1)[1]).all()
