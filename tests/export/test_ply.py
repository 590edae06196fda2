import numpy as np
import pytest

from fourdnex.export import export_ply, write_ply
from fourdnex.scene import Scene4D


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


def make_scene(num_frames: int) -> Scene4D:
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 2, (num_frames, 4, 5))
    depth[0, 0, 0] = np.nan
    return Scene4D(
        rgb=rng.integers(0, 256, (num_frames, 4, 5, 3), dtype=np.uint8),
        depth=depth,
        intrinsics=np.array([[5.0, 0, 2], [0, 5, 1.5], [0, 0, 1]]),
        camera_to_world=np.tile(np.eye(4), (num_frames, 1, 1)),
    )


def test_one_file_a_frame_with_the_scenes_points(tmp_path):
    scene = make_scene(3)
    paths = export_ply(scene, tmp_path / "cloud")
    assert [path.name for path in paths] == ["frame_0000.ply", "frame_0001.ply", "frame_0002.ply"]
    for t, path in enumerate(paths):
        body = read_ply(path)[1]
        xyz, rgb = scene.points(t)
        assert (body[:, :12].copy().view("<f4") == xyz).all() and (body[:, 12:] == rgb).all()
    assert len(read_ply(paths[0])[1]) == 19


def test_shorter_scene_leaves_no_stale_frames(tmp_path):
    export_ply(make_scene(3), tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    export_ply(make_scene(2), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frame_0000.ply", "frame_0001.ply", "notes.txt"]
