"""COLMAP models, read by pycolmap in a separate process because its libraries conflict with Pillow's PNG."""

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
points = {i: {"xyz": p.xyz.tolist(), "rgb": p.color.tolist(), "observations": {}} for i, p in model.points3D.items()}
for i, point in model.points3D.items():
    for element in point.track.elements:
        observation = model.images[element.image_id].points2D[element.point2D_idx]
        assert observation.point3D_id == i
        points[i]["observations"][element.image_id - 1] = observation.xy.tolist()
images = {}
for image in model.images.values():
    images[image.name] = {
        "center": image.projection_center().tolist(),
        "points": [p.point3D_id for p in image.points2D],
        "off": [np.abs(image.project_point(model.points3D[p.point3D_id].xyz) - p.xy).max() for p in image.points2D],
    }
camera = {"model": camera.model.name, "params": camera.params.tolist(), "size": [camera.width, camera.height]}
result = {"camera": camera, "images": images, "points": list(points.values())}
if len(sys.argv) > 2:
    pycolmap.bundle_adjustment(model)
    result["adjusted"] = {image.name: image.projection_center().tolist() for image in model.images.values()}
print("result:" + json.dumps(result))
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
    """A camera with a focal length of 20 pixels moves right by 0.16 per frame in front of a textured wall; a red box, 4
    pixels wide, moves right by 5 pixels per frame in rows 4 to 7."""
    y, x = np.mgrid[:ROWS, :COLUMNS].astype(float)
    rgb, depth = np.empty((4, ROWS, COLUMNS, 3), np.uint8), np.full((4, ROWS, COLUMNS), WALL)
    poses = np.tile(np.eye(4), (4, 1, 1))
    for t in range(4):
        poses[t, 0, 3] = 0.16 * t
        position = x + 0.8 * t  # 0.16 * 20 / 4 pixels per frame
        rgb[t] = np.stack([0 * x + 20, 127 + 100 * np.sin(position / 3), 127 + 100 * np.cos(y / 3)], axis=-1)
        rgb[t, 4:8, 2 + 5 * t : 6 + 5 * t], depth[t, 4:8, 2 + 5 * t : 6 + 5 * t] = (250, 20, 20), BOX
    intrinsics = np.array([[20.0, 0, 11.5], [0, 20, 5.5], [0, 0, 1]])
    return Scene4D(rgb=rgb, depth=depth, intrinsics=intrinsics, camera_to_world=poses)


def test_static_points_are_written_once_with_all_observations(wall_and_box, tmp_path):
    export_colmap(wall_and_box, tmp_path / "out", ExportOptions(up="z", scale=2))
    model = read_model(tmp_path / "out")
    # COLMAP's pixel centers are at half-integers.
    assert model["camera"] == {"model": "PINHOLE", "params": [20, 20, 12, 6], "size": [COLUMNS, ROWS]}
    assert sorted(model["images"]) == [f"frame_{t:04d}.png" for t in range(4)]
    rotation = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    for t in range(4):
        image = model["images"][f"frame_{t:04d}.png"]
        assert image["center"] == pytest.approx(2 * rotation @ [0.16 * t, 0, 0], abs=1e-6)
        assert max(image["off"]) < 1e-3 and len(set(image["points"])) == len(image["points"])

    xyz = np.array([point["xyz"] for point in model["points"]]) @ rotation / 2
    assert xyz[:, 2] == pytest.approx(WALL)  # no points of the box
    columns, rows = (xyz[:, :2] * 20 / WALL + [11.5, 5.5]).T  # of the first frame
    lengths = np.array([len(point["observations"]) for point in model["points"]])
    # Outside of the box, a point moves left by 0.8 pixels per frame, until column -0.5.
    from_first = (abs(columns - columns.round()) < 1e-3) & (columns < COLUMNS - 0.5) & ((rows < 3.5) | (rows > 7.5))
    expected = sum((columns - 0.8 * t) > -0.5 for t in range(4))[from_first]
    assert from_first.sum() == 8 * COLUMNS - 8  # column 0 is observed by the first frame only
    assert lengths[from_first].tolist() == expected.tolist() and set(expected) == {2, 4}
    # Later frames only add points that enter from the right: 2.4 columns.
    assert len(xyz) <= ROWS * (COLUMNS + 3)
    for point, column, row in zip(model["points"], columns, rows, strict=True):
        for t, xy in point["observations"].items():
            assert xy == pytest.approx([column - 0.8 * int(t) + 0.5, row + 0.5], abs=1e-3)


def test_points_of_a_single_frame_are_omitted_without_the_moving_option(wall_and_box, tmp_path):
    export_colmap(wall_and_box, tmp_path / "static")
    assert min(len(point["observations"]) for point in read_model(tmp_path / "static")["points"]) == 2
    export_colmap(wall_and_box, tmp_path / "all", ExportOptions(moving=True))
    points = read_model(tmp_path / "all")["points"]
    box = [point for point in points if abs(point["xyz"][2] - BOX) < 1e-5]
    assert len(box) == 4 * 4 * 4 and all(point["rgb"] == [250, 20, 20] for point in box)
    # Each is observed by its own frame.
    assert [sum(list(point["observations"]) == [str(t)] for point in box) for t in range(4)] == [16, 16, 16, 16]


def test_bundle_adjustment_accepts_the_model_and_keeps_its_poses(wall_and_box, tmp_path):
    export_colmap(wall_and_box, tmp_path / "out")
    model = read_model(tmp_path / "out", "adjust")
    for name, image in model["images"].items():
        assert model["adjusted"][name] == pytest.approx(image["center"], abs=1e-4)


def test_filters_and_stride_apply_to_observations(wall_and_box, tmp_path):
    confidence = np.ones(wall_and_box.depth.shape)
    confidence[1] = 0
    scene = replace(wall_and_box, confidence=confidence)
    export_colmap(scene, tmp_path / "out", ExportOptions(stride=2, min_confidence=0.5))
    points = read_model(tmp_path / "out")["points"]
    assert {t for point in points for t in point["observations"]} == {"0", "2", "3"}
    assert len(points) <= (ROWS // 2) * (COLUMNS // 2 + 2)


def test_points_of_single_frames_are_kept_when_there_are_no_others(wall_and_box, tmp_path):
    fields = {"rgb": wall_and_box.rgb[:1], "depth": wall_and_box.depth[:1], "intrinsics": wall_and_box.intrinsics}
    export_colmap(Scene4D(**fields, camera_to_world=wall_and_box.camera_to_world[:1]), tmp_path / "one")
    assert len(read_model(tmp_path / "one")["points"]) == ROWS * COLUMNS
    growing = replace(wall_and_box, depth=wall_and_box.depth * np.array([1, 2, 4, 8])[:, None, None])
    export_colmap(growing, tmp_path / "none")
    points = read_model(tmp_path / "none")["points"]
    assert len(points) == 4 * ROWS * COLUMNS and all(len(point["observations"]) == 1 for point in points)


def test_images_equal_the_scene(scene, tmp_path):
    import cv2

    export_colmap(scene, tmp_path / "out")
    for t in range(3):
        image = cv2.imread(str(tmp_path / "out" / "images" / f"frame_{t:04d}.png"))
        assert (image[..., ::-1] == scene.rgb[t]).all()
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["bild"] == "Müller.png"


def test_skew_is_rejected(scene, tmp_path):
    intrinsics = scene.intrinsics.copy()
    intrinsics[0, 1] = 0.5
    with pytest.raises(ValueError, match=r"intrinsics: expected no skew for this format, got 0\.5"):
        export_colmap(replace(scene, intrinsics=intrinsics), tmp_path / "out")
    assert not list(tmp_path.iterdir())
