"""COLMAP models, read by pycolmap in a process of its own (its libraries and Pillow's PNG do not go together)."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from fourdnex.export import ExportOptions, export_colmap
from fourdnex.scene import Scene4D

READER = """
import json, sys
import numpy as np, pycolmap
model = pycolmap.Reconstruction(sys.argv[1])
(camera,) = model.cameras.values()
points = {i: {"xyz": p.xyz.tolist(), "rgb": p.color.tolist(), "seen": {}} for i, p in model.points3D.items()}
for i, point in model.points3D.items():
    for element in point.track.elements:
        observed = model.images[element.image_id].points2D[element.point2D_idx]
        assert observed.point3D_id == i
        points[i]["seen"][element.image_id - 1] = observed.xy.tolist()
images = {}
for image in model.images.values():
    images[image.name] = {
        "center": image.projection_center().tolist(),
        "points": [p.point3D_id for p in image.points2D],
        "off": [np.abs(image.project_point(model.points3D[p.point3D_id].xyz) - p.xy).max() for p in image.points2D],
    }
camera = {"model": camera.model.name, "params": camera.params.tolist(), "size": [camera.width, camera.height]}
known = {"camera": camera, "images": images, "points": list(points.values())}
if len(sys.argv) > 2:
    pycolmap.bundle_adjustment(model)
    known["adjusted"] = {image.name: image.projection_center().tolist() for image in model.images.values()}
print("result:" + json.dumps(known))
"""
WALL, BOX = 4.0, 2.0  # depths
ROWS, COLUMNS = 12, 24


def read_model(folder, *options) -> dict:
    command = [sys.executable, "-c", READER, str(folder / "sparse" / "0"), *options]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.partition("result:")[2])


@pytest.fixture
def wall_and_box() -> Scene4D:
    """A camera with a focal length of 20 pixels goes 0.16 to the right a frame, in front of a wall with a pattern; a
    red box, 4 pixels wide, goes through rows 4 to 7 by 5 pixels a frame."""
    y, x = np.mgrid[:ROWS, :COLUMNS].astype(float)
    rgb, depth = np.empty((4, ROWS, COLUMNS, 3), np.uint8), np.full((4, ROWS, COLUMNS), WALL)
    poses = np.tile(np.eye(4), (4, 1, 1))
    for t in range(4):
        poses[t, 0, 3] = 0.16 * t
        place = x + 0.8 * t  # 0.16 * 20 / 4 pixels a frame
        rgb[t] = np.stack([0 * x + 20, 127 + 100 * np.sin(place / 3), 127 + 100 * np.cos(y / 3)], axis=-1)
        rgb[t, 4:8, 2 + 5 * t : 6 + 5 * t], depth[t, 4:8, 2 + 5 * t : 6 + 5 * t] = (250, 20, 20), BOX
    lens = np.array([[20.0, 0, 11.5], [0, 20, 5.5], [0, 0, 1]])
    return Scene4D(rgb=rgb, depth=depth, intrinsics=lens, camera_to_world=poses)


def test_still_points_are_there_once_and_seen_by_all_frames_that_see_them(wall_and_box, tmp_path):
    export_colmap(wall_and_box, tmp_path / "out", ExportOptions(up="z", scale=2))
    model = read_model(tmp_path / "out")
    # COLMAP's pixel centers lie at halves.
    assert model["camera"] == {"model": "PINHOLE", "params": [20, 20, 12, 6], "size": [COLUMNS, ROWS]}
    assert sorted(model["images"]) == [f"frame_{t:04d}.png" for t in range(4)]
    turn = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    for t in range(4):
        image = model["images"][f"frame_{t:04d}.png"]
        assert image["center"] == pytest.approx(2 * turn @ [0.16 * t, 0, 0], abs=1e-6)
        assert max(image["off"]) < 1e-3 and len(set(image["points"])) == len(image["points"])

    xyz = np.array([point["xyz"] for point in model["points"]]) @ turn / 2
    assert xyz[:, 2] == pytest.approx(WALL)  # nothing of the box
    columns, rows = (xyz[:, :2] * 20 / WALL + [11.5, 5.5]).T  # of the first frame
    lengths = np.array([len(point["seen"]) for point in model["points"]])
    # Away from the box: a point leaves to the left by 0.8 pixels a frame, past column -0.5.
    start = (abs(columns - columns.round()) < 1e-3) & (columns < COLUMNS - 0.5) & ((rows < 3.5) | (rows > 7.5))
    expected = sum((columns - 0.8 * t) > -0.5 for t in range(4))[start]
    assert start.sum() == 8 * COLUMNS - 8  # column 0 is seen by the first frame alone
    assert lengths[start].tolist() == expected.tolist() and set(expected) == {2, 4}
    # Frames after the first add what comes in from the right alone: 2.4 columns.
    assert len(xyz) <= ROWS * (COLUMNS + 3)
    for point, column, row in zip(model["points"], columns, rows, strict=True):
        for t, xy in point["seen"].items():
            assert xy == pytest.approx([column - 0.8 * int(t) + 0.5, row + 0.5], abs=1e-3)


def test_what_one_frame_alone_sees_is_left_out_unless_asked_for(wall_and_box, tmp_path):
    export_colmap(wall_and_box, tmp_path / "still")
    assert min(len(point["seen"]) for point in read_model(tmp_path / "still")["points"]) == 2
    export_colmap(wall_and_box, tmp_path / "all", ExportOptions(moving=True))
    points = read_model(tmp_path / "all")["points"]
    box = [point for point in points if abs(point["xyz"][2] - BOX) < 1e-5]
    assert len(box) == 4 * 4 * 4 and all(point["rgb"] == [250, 20, 20] for point in box)
    # Each is of the frame that it comes from.
    assert [sum(list(point["seen"]) == [str(t)] for point in box) for t in range(4)] == [16, 16, 16, 16]


def test_bundle_adjustment_takes_the_model_and_leaves_it(wall_and_box, tmp_path):
    export_colmap(wall_and_box, tmp_path / "out")
    model = read_model(tmp_path / "out", "adjust")
    for name, image in model["images"].items():
        assert model["adjusted"][name] == pytest.approx(image["center"], abs=1e-4)


def test_filters_and_stride_hold_for_observations(wall_and_box, tmp_path):
    confidence = np.ones(wall_and_box.depth.shape)
    confidence[1] = 0
    scene = replace(wall_and_box, confidence=confidence)
    export_colmap(scene, tmp_path / "out", ExportOptions(stride=2, min_confidence=0.5))
    points = read_model(tmp_path / "out")["points"]
    assert {t for point in points for t in point["seen"]} == {"0", "2", "3"}
    assert len(points) <= (ROWS // 2) * (COLUMNS // 2 + 2)


def test_points_are_kept_where_there_are_none_but_those_of_one_frame(wall_and_box, tmp_path):
    cut = {"rgb": wall_and_box.rgb[:1], "depth": wall_and_box.depth[:1], "intrinsics": wall_and_box.intrinsics}
    export_colmap(Scene4D(**cut, camera_to_world=wall_and_box.camera_to_world[:1]), tmp_path / "one")
    assert len(read_model(tmp_path / "one")["points"]) == ROWS * COLUMNS
    growing = replace(wall_and_box, depth=wall_and_box.depth * np.array([1, 2, 4, 8])[:, None, None])
    export_colmap(growing, tmp_path / "none")
    points = read_model(tmp_path / "none")["points"]
    assert len(points) == 4 * ROWS * COLUMNS and all(len(point["seen"]) == 1 for point in points)


def test_images_are_the_scenes(scene, tmp_path):
    import cv2

    export_colmap(scene, tmp_path / "out")
    for t in range(3):
        image = cv2.imread(str(tmp_path / "out" / "images" / f"frame_{t:04d}.png"))
        assert (image[..., ::-1] == scene.rgb[t]).all()
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["bild"] == "Müller.png"


def test_skew_is_refused(scene, tmp_path):
    intrinsics = scene.intrinsics.copy()
    intrinsics[0, 1] = 0.5
    with pytest.raises(ValueError, match=r"intrinsics: expected no skew for this format, got 0\.5"):
        export_colmap(replace(scene, intrinsics=intrinsics), tmp_path / "out")
    assert not list(tmp_path.iterdir())
