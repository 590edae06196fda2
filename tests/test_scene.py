import json
import os
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from fourdnex import Scene4D


def make_scene(num_frames: int = 3, height: int = 18, width: int = 22) -> Scene4D:
    rng = np.random.default_rng(0)
    poses = np.tile(np.eye(4, dtype=np.float32), (num_frames, 1, 1))
    poses[:, 0, 3] = np.arange(num_frames) / 3
    depth = np.exp(rng.uniform(np.log(0.1), np.log(1000), (num_frames, height, width))).astype(np.float32)
    depth[0, 0, 1] = np.nan
    return Scene4D(
        rgb=rng.integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8),
        depth=depth,
        intrinsics=np.array([[20.1, 0, 10.5], [0, 20.1, 8.5], [0, 0, 1]]),
        camera_to_world=poses,
        confidence=rng.uniform(size=(num_frames, height, width)),
        fps=12.5,
        provenance={"commit": "abc", "adapter": {"digest": "def"}},
        name="a scene",
    )


def test_round_trip(tmp_path):
    scene = make_scene()
    scene.save(tmp_path / "s")
    back = Scene4D.load(tmp_path / "s")
    assert (back.rgb == scene.rgb).all()
    assert (np.isnan(back.depth) == np.isnan(scene.depth)).all()
    assert np.nanmax(np.abs(back.depth / scene.depth - 1)) < 5.1e-4
    assert np.abs(back.confidence - scene.confidence).max() <= 0.5 / 255 + 1e-6
    assert (back.intrinsics == scene.intrinsics).all() and (back.camera_to_world == scene.camera_to_world).all()
    assert (back.fps, back.provenance, back.name) == (scene.fps, scene.provenance, scene.name)


def test_one_frame_can_be_read_alone(tmp_path):
    make_scene(num_frames=7).save(tmp_path / "s")
    whole = Scene4D.load(tmp_path / "s")
    for t in (0, 3, 6):
        one = Scene4D.load(tmp_path / "s", frame=t)
        assert one.num_frames == 1
        assert (one.rgb[0] == whole.rgb[t]).all()
        assert np.array_equal(one.depth[0], whole.depth[t], equal_nan=True)
        assert (one.confidence[0] == whole.confidence[t]).all()
        assert (one.camera_to_world[0] == whole.camera_to_world[t]).all()
    for t in (-1, 7):
        with pytest.raises(IndexError, match=f"expected a frame from 0 to 6, got {t}"):
            Scene4D.load(tmp_path / "s", frame=t)


def test_a_changed_frame_raises(tmp_path):
    make_scene(num_frames=2).save(tmp_path / "s")
    path = tmp_path / "s" / "rgb.mkv"
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"rgb\.mkv"):
        Scene4D.load(tmp_path / "s", frame=0)
    with pytest.raises(ValueError, match=r"rgb\.mkv"):
        Scene4D.load(tmp_path / "s")


def test_origin_round_trip_and_default(tmp_path):
    scene = make_scene()
    origin = np.random.default_rng(1).integers(0, 4, scene.depth.shape)
    marked = replace(scene, origin=origin)
    assert marked.origin.dtype == np.uint8
    marked.save(tmp_path / "a")
    scene.save(tmp_path / "b")
    assert (Scene4D.load(tmp_path / "a").origin == origin).all()
    assert (Scene4D.load(tmp_path / "a", frame=1).origin[0] == origin[1]).all()
    assert (replace(marked, fps=5).origin == origin).all()
    assert Scene4D.load(tmp_path / "b").origin is None
    for name in ("rgb.mkv", "depth.mkv", "confidence.mkv", "cameras.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert not (tmp_path / "b" / "origin.mkv").exists()


@pytest.mark.parametrize("origin", [np.zeros((3, 18, 21), int), np.full((3, 18, 22), 4), np.zeros((3, 18, 22))])
def test_an_origin_of_another_shape_type_or_range_raises(origin):
    with pytest.raises(ValueError, match=r"origin: expected \(3, 18, 22\) integers from 0 to 3"):
        replace(make_scene(), origin=origin)


def test_saving_a_loaded_scene_changes_nothing(tmp_path):
    make_scene().save(tmp_path / "a")
    first = Scene4D.load(tmp_path / "a")
    first.save(tmp_path / "b")
    assert np.nanmax(np.abs(Scene4D.load(tmp_path / "b").depth / first.depth - 1)) < 1e-6


@pytest.mark.parametrize("depth", [np.full((3, 18, 22), 2.5), np.full((3, 18, 22), np.nan)])
def test_constant_and_empty_depth(tmp_path, depth):
    replace(make_scene(), depth=depth, confidence=None).save(tmp_path / "s")
    back = Scene4D.load(tmp_path / "s")
    assert back.depth == pytest.approx(depth, nan_ok=True)
    assert back.confidence is None


def test_points_in_row_major_order_by_hand():
    scene = Scene4D(
        rgb=np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3),
        depth=np.array([[[2.0, -1.0], [4.0, np.inf]]]),
        intrinsics=np.array([[2.0, 0, 0], [0, 2, 0], [0, 0, 1]]),
        camera_to_world=np.array([[[1.0, 0, 0, 10], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]]),
    )
    xyz, rgb = scene.points(0)
    # Pixel (0, 0) at depth 2 and pixel (x=0, y=1) at depth 4; the other two have no valid depth.
    assert xyz.tolist() == [[10, 0, 2], [10, 2, 4]] and xyz.dtype == np.float32
    assert rgb.tolist() == [[0, 1, 2], [6, 7, 8]] and rgb.dtype == np.uint8


def test_points_of_low_confidence_are_left_out():
    scene = make_scene()
    count = int((scene.confidence[1] >= 0.5).sum())
    assert len(scene.points(1, min_confidence=0.5)[0]) == count < len(scene.points(1)[0])


def test_the_cameras_file_uses_the_keys_of_nerfstudio(tmp_path):
    make_scene().save(tmp_path / "s")
    cameras = json.loads((tmp_path / "s" / "cameras.json").read_text())
    assert cameras["fl_x"] == pytest.approx(20.1) and (cameras["w"], cameras["h"]) == (22, 18)
    assert cameras["frames"][2]["transform_matrix"][0][3] == pytest.approx(2 / 3)
    assert "OpenCV" in cameras["axes"]


@pytest.mark.parametrize("name", ["rgb.mkv", "depth.mkv", "confidence.mkv", "cameras.json"])
def test_errors_name_missing_and_truncated_files(tmp_path, name):
    make_scene().save(tmp_path / "s")
    file = tmp_path / "s" / name
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match=name):
        Scene4D.load(tmp_path / "s")
    file.unlink()
    with pytest.raises(ValueError, match=f"{name}: no such file"):
        Scene4D.load(tmp_path / "s")


def test_a_newer_schema_and_a_missing_scene_raise(tmp_path):
    make_scene().save(tmp_path / "s")
    file = tmp_path / "s" / "scene.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema_version": 99}))
    with pytest.raises(ValueError, match="schema_version 1 to 2, got 99"):
        Scene4D.load(tmp_path / "s")
    with pytest.raises(FileNotFoundError, match=r"scene\.json"):
        Scene4D.load(tmp_path)


def test_an_edited_cameras_file_raises(tmp_path):
    make_scene().save(tmp_path / "s")
    file = tmp_path / "s" / "cameras.json"
    file.write_text(file.read_text().replace("20.1", "20.2"))
    for frame in (None, 0):
        with pytest.raises(ValueError, match=r"cameras\.json: truncated or changed"):
            Scene4D.load(tmp_path / "s", frame=frame)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_keeps_the_existing_scene(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        make_scene().save(disk / "s")
        with pytest.raises(OSError):
            make_scene(num_frames=60, height=90, width=90).save(disk / "s")
        assert Scene4D.load(disk / "s").num_frames == 3
        assert [path.name for path in disk.iterdir()] == ["s"]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_folder_without_a_scene_is_not_replaced(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "thesis.txt").write_text("years of work")
    for path in (tmp_path / "s", tmp_path / "s" / "thesis.txt"):
        with pytest.raises(FileExistsError, match=f"{path.name}: expected nothing, an empty folder or a scene"):
            make_scene().save(path)
    assert (tmp_path / "s" / "thesis.txt").read_text() == "years of work"


def test_a_failed_save_keeps_the_old_scene(tmp_path):
    make_scene().save(tmp_path / "s")
    with pytest.raises(ValueError, match="provenance"):
        replace(make_scene(), provenance={"x": object()}).save(tmp_path / "s")
    assert Scene4D.load(tmp_path / "s").name == "a scene"
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rgb", np.zeros((3, 18, 22), np.uint8)),
        ("depth", np.zeros((3, 18, 23))),
        ("intrinsics", np.zeros((3, 3))),
        ("camera_to_world", np.zeros((2, 4, 4))),
        ("camera_to_world", np.full((3, 4, 4), np.nan)),
        ("confidence", np.full((3, 18, 22), 1.5)),
        ("fps", -1.0),
    ],
)
def test_errors_name_the_field(field, value):
    with pytest.raises(ValueError, match=field):
        replace(make_scene(), **{field: value})
