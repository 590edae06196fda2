import json

import numpy as np
import pytest

from fourdnex.export import ExportOptions, export_nerfstudio
from fourdnex.rendering import load_path
from fourdnex.scene import Scene4D

K = np.array([[10.0, 0, 4.5], [0, 12, 3.5], [0, 0, 1]])
SIZE = {"height": 8, "width": 10}
POSE = {"transform_matrix": np.eye(4).tolist()}


def write(tmp_path, frames, **fields):
    file = tmp_path / "path.json"
    file.write_text(json.dumps({"frames": frames, **fields}))
    return file


def test_camera_axes_are_opengl_unless_the_file_names_opencv(tmp_path):
    pose = np.eye(4)
    pose[:3, 3] = 1, 2, 3
    file = write(tmp_path, [{"transform_matrix": pose.tolist()}])
    # OpenGL's y and z axes are opposite; the position is the same.
    assert load_path(file, intrinsics=K, **SIZE).camera_to_world[0] == pytest.approx(
        np.array([[1, 0, 0, 1], [0, -1, 0, 2], [0, 0, -1, 3], [0, 0, 0, 1]])
    )
    file = write(tmp_path, [{"transform_matrix": pose.tolist()}], axes="OpenCV: x right, y down, z forward")
    assert (load_path(file, intrinsics=K, **SIZE).camera_to_world[0] == pose).all()


def test_intrinsics_and_time_are_optional_and_intrinsics_scale_with_the_image_size(tmp_path):
    frame = {"transform_matrix": np.eye(4).tolist()}
    plain = load_path(write(tmp_path, [frame] * 3), intrinsics=K, **SIZE)
    assert (plain.intrinsics == K).all() and plain.times.tolist() == [0, 0.5, 1]
    # For images twice as large: half the focal length. Pixel centers are at half-integers, so cx 10 is 5, and 4.5 here.
    file = write(tmp_path, [frame, frame | {"fl_x": 40, "time": 0.1}], fl_x=30, cx=10, w=20, h=16)
    path = load_path(file, intrinsics=K, **SIZE)
    assert path.intrinsics[0] == pytest.approx(np.array([[15, 0, 4.5], [0, 15, 3.5], [0, 0, 1]]))
    assert path.intrinsics[1, 0, 0] == 20 and path.times.tolist() == [0, 0.1]


INTRINSICS = {
    "angle in the file": ({"camera_angle_x": np.pi / 2}, {}, [5, 5, 4.5, 3.5]),  # half the width of 10
    "angle in the frame": ({}, {"camera_angle_x": np.pi / 2}, [5, 5, 4.5, 3.5]),
    "both angles": ({"camera_angle_x": np.pi / 2, "camera_angle_y": np.pi / 2}, {}, [5, 4, 4.5, 3.5]),
    "angles in degrees": ({"x_fov": 90, "y_fov": 90}, {}, [5, 4, 4.5, 3.5]),
    "angle of a larger image": ({"camera_angle_x": np.pi / 2, "w": 40, "h": 32}, {}, [5, 5, 4.5, 3.5]),
    "fl_y alone": ({"fl_y": 7}, {}, [7, 7, 4.5, 3.5]),
    "fl_y alone, of an image twice as high": ({"fl_y": 8, "h": 16}, {}, [4, 4, 4.5, 3.5]),
    # Blender-NeRF's image size, 800 x 800, is scaled to a height of 8; the focal length for 45 degrees is 400.
    "a square image": ({"camera_angle_x": np.pi / 2, "w": 800, "h": 800}, {}, [4, 4, 4.5, 3.5]),
    "a square image, center to the right": ({"fl_x": 100, "cx": 500, "w": 800, "h": 800}, {}, [1, 1, 5.5, 3.5]),
    "width alone": ({"fl_x": 100, "w": 100}, {}, [10, 10, 4.5, 3.5]),
    "fl_x over angles": ({"fl_x": 20, "camera_angle_x": 1, "w": 20, "h": 16}, {}, [10, 10, 4.5, 3.5]),
    "frame over file": ({"fl_x": 20, "fl_y": 30}, {"fl_x": 6}, [6, 6, 4.5, 3.5]),
    "size of the frame": ({"fl_x": 20}, {"w": 20, "h": 16}, [10, 10, 4.5, 3.5]),
    "center alone": ({"cx": 6.0}, {}, [10, 12, 5.5, 3.5]),
    "zero distortion": ({"camera_model": "OPENCV", "k1": 0, "k2": 0.0, "p1": 0, "p2": 0}, {}, [10, 12, 4.5, 3.5]),
}


@pytest.mark.parametrize(("fields", "frame", "expected"), INTRINSICS.values(), ids=INTRINSICS)
def test_intrinsics_in_all_notations(fields, frame, expected, tmp_path):
    k = load_path(write(tmp_path, [POSE | frame], **fields), intrinsics=K, **SIZE).intrinsics[0]
    assert [k[0, 0], k[1, 1], k[0, 2], k[1, 2]] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"camera_model": "OPENCV_FISHEYE", "fl_x": 9, "k1": 0.1}, r"frames\[0\]: camera_model: .*'OPENCV_FISHEYE'"),
        ({"camera_model": "EQUIRECTANGULAR"}, "camera_model: expected a pinhole camera, got 'EQUIRECTANGULAR'"),
        ({"camera_model": "ORTHOPHOTO"}, "ORTHOPHOTO"),
        ({"is_fisheye": True}, "is_fisheye"),
        ({"camera_model": "OPENCV", "k1": -0.3}, r"frames\[0\]\.k1: expected 0, got -0\.3.*undistort"),
        ({"p2": 1e-4}, r"p2: expected 0"),
        ({"k1": "0.1"}, r"k1: expected a finite number"),
        ({"distortion_params": [0, 0.2]}, r"distortion_params: expected 0"),
    ],
)
def test_unsupported_cameras_are_rejected(fields, message, tmp_path):
    for frame, file in ((POSE | fields, {}), (POSE, fields)):
        with pytest.raises(ValueError, match=message):
            load_path(write(tmp_path, [frame], **file), intrinsics=K, **SIZE)


@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (16,), (12,)])
def test_matrix_shapes(shape, tmp_path):
    matrix = np.eye(4)
    matrix[:3, 3] = 1, 2, 3
    rows = matrix.ravel()[: np.prod(shape)].reshape(shape).tolist()
    path = load_path(write(tmp_path, [{"transform_matrix": rows}]), intrinsics=K, **SIZE)
    assert path.camera_to_world[0, :3].tolist() == [[1, 0, 0, 1], [0, -1, 0, 2], [0, 0, -1, 3]]


def test_rounded_rotation_is_orthogonalized(tmp_path):
    angle = np.radians(33)
    exact = np.eye(4)
    exact[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    rounded = np.round(exact, 3)  # 0.839, 0.545: R R^T is 1.0009 times the identity
    rounded[:2, :2] *= 1.002
    path = load_path(write(tmp_path, [{"transform_matrix": rounded.tolist()}], axes="OpenCV"), intrinsics=K, **SIZE)
    rotation = path.camera_to_world[0, :3, :3]
    assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.degrees(np.arctan2(rotation[1, 0], rotation[0, 0])) == pytest.approx(33, abs=0.05)


def test_camera_path_of_the_nerfstudio_viewer(tmp_path):
    views = [
        {"camera_to_world": np.eye(4).ravel().tolist(), "fov": 90, "aspect": 1.78, "render_time": 0.0},
        {"camera_to_world": np.eye(4)[:3].tolist(), "fov": 2 * np.degrees(np.arctan(0.5)), "render_time": 0.25},
    ]
    content = {"camera_type": "perspective", "render_height": 1080, "render_width": 1920, "camera_path": views}
    file = tmp_path / "path.json"
    file.write_text(json.dumps(content))
    path = load_path(file, intrinsics=np.array([[10.0, 0, 7], [0, 12, 2], [0, 0, 1]]), **SIZE)
    # 90 degrees over 8 rows: focal length 4. Pixels are square, and the principal point is the image center.
    assert path.intrinsics[0] == pytest.approx(np.array([[4, 0, 4.5], [0, 4, 3.5], [0, 0, 1]]))
    assert path.intrinsics[1, 1, 1] == pytest.approx(8) and path.times.tolist() == [0, 0.25]
    assert path.camera_to_world[0].tolist() == np.diag([1, -1, -1, 1]).tolist()
    file.write_text(json.dumps(content | {"camera_type": "equirectangular"}))
    with pytest.raises(ValueError, match="camera_type: expected a pinhole camera, got 'equirectangular'"):
        load_path(file, intrinsics=K, **SIZE)


def test_applied_transform_and_scale_are_inverted(tmp_path):
    """nerfstudio's z up: (x, y, z) maps to (x, z, -y), here followed by a translation of (0, 0, 1) and a scale of 2."""
    applied = [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 1]]
    matrix = np.array([[1.0, 0, 0, 2], [0, 0, -1, 6], [0, 1, 0, -6], [0, 0, 0, 1]])  # looks along the file's y
    file = write(tmp_path, [{"transform_matrix": matrix.tolist()}], applied_transform=applied, applied_scale=2)
    # Scaled back: (1, 3, -3), translated back: (1, 3, -4), rotated back: (1, 4, 3); it looks along the scene's z.
    expected = np.eye(4)
    expected[:3, 3] = 1, 4, 3
    assert load_path(file, intrinsics=K, **SIZE).camera_to_world[0] == pytest.approx(expected)


@pytest.fixture
def scene() -> Scene4D:
    rotation = np.array([[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]])
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[1, :3, 3] = 0.5, -0.25, 1
    poses[2, :3, :3], poses[2, :3, 3] = rotation, (-1, 2, 3)
    intrinsics = np.array([[15.0, 0, 4.1], [0, 14, 3.9], [0, 0, 1]])
    rgb, depth = np.zeros((3, 8, 10, 3), np.uint8), np.full((3, 8, 10), 2.0, np.float32)
    return Scene4D(rgb=rgb, depth=depth, intrinsics=intrinsics, camera_to_world=poses)


@pytest.mark.parametrize("scale", [0.5, 1, 3])
@pytest.mark.parametrize("up", ["-y", "y", "z", None])
def test_nerfstudio_export_round_trips(up, scale, scene, tmp_path):
    export_nerfstudio(scene, tmp_path / "out", ExportOptions(up=up, scale=scale))
    path = load_path(tmp_path / "out" / "transforms.json", intrinsics=np.eye(3), height=8, width=10)
    assert path.camera_to_world == pytest.approx(scene.camera_to_world, abs=1e-6)
    assert path.intrinsics == pytest.approx(np.stack([scene.intrinsics] * 3), abs=1e-6)
    assert path.times.tolist() == [0, 0.5, 1]


def test_cameras_json_of_a_scene_is_read_in_opencv_axes(scene, tmp_path):
    scene.save(tmp_path / "scene")
    path = load_path(tmp_path / "scene" / "cameras.json", intrinsics=np.eye(3), height=16, width=20)
    assert path.camera_to_world == pytest.approx(scene.camera_to_world, abs=1e-6)
    # In a scene twice as large; pixel centers are at integers, so the border stays at -0.5.
    assert path.intrinsics[0] == pytest.approx(np.array([[30, 0, 8.7], [0, 28, 8.3], [0, 0, 1]]), abs=1e-5)


def test_frame_rate_is_read_from_the_file(tmp_path):
    rates = {"none": ({}, None), "fps": ({"fps": 24, "seconds": 9}, 24), "seconds": ({"seconds": 0.5}, 6)}
    for fields, expected in rates.values():
        assert load_path(write(tmp_path, [POSE] * 3, **fields), intrinsics=K, **SIZE).fps == expected


def test_byte_order_mark_is_skipped(tmp_path):
    file = write(tmp_path, [POSE])
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(load_path(file, intrinsics=K, **SIZE)) == 1


SCALED, MIRRORED = np.diag([2.0, 2, 2, 1]).tolist(), np.diag([-1.0, 1, 1, 1]).tolist()


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (SCALED, "rigid"),
        (MIRRORED, "determinant -1"),
        ([[float("nan")] * 4] * 4, "finite"),
        (np.eye(3).tolist(), r"4 x 4.*\(3, 3\)"),
        (np.eye(4).ravel().tolist()[:9], r"4 x 4.*\(9,\)"),
        (np.eye(4).astype(str).tolist(), "4 rows of 4"),
        (np.diag([1.01, 1.01, 1.01, 1]).tolist(), "rigid"),
        (np.block([[np.eye(3), np.zeros((3, 1))], [1, 2, 3, 1]]).tolist(), "last row"),  # column-major
        ([[1, 2], [3]], "4 rows of 4"),
        ("identity", "4 rows of 4"),
        (np.ones((4, 4)).tolist(), "last row"),
    ],
)
def test_invalid_matrix_names_file_and_frame(tmp_path, matrix, message):
    good = {"transform_matrix": np.eye(4).tolist()}
    file = write(tmp_path, [good, {"transform_matrix": matrix}])
    with pytest.raises(
        ValueError, match=rf"path\.json: frames\[1\]\.transform_matrix: expected .*{message}|{message}"
    ) as error:
        load_path(file, intrinsics=K, **SIZE)
    assert "path.json: frames[1].transform_matrix" in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "list of frames"),
        ({"frames": []}, "list of frames"),
        ({"frames": [{}]}, r"frames\[0\].*transform_matrix"),
        ({"frames": [{"transform_matrix": np.eye(4).tolist(), "fl_x": "wide"}]}, r"frames\[0\]\.fl_x"),
        ({"frames": [{"transform_matrix": np.eye(4).tolist(), "fl_x": -1}]}, "positive fl_x"),
        ({"frames": [{"transform_matrix": np.eye(4).tolist(), "time": 3}]}, r"frames\[0\]\.time.*seconds"),
        ({"frames": [POSE | {"camera_angle_x": 58.5}]}, r"frames\[0\]\.camera_angle_x: expected 0 to 3\.14159 radians"),
        ({"frames": [POSE], "w": 0}, "positive w and h"),
        ({"frames": [POSE], "axes": "Blender"}, 'axes: expected "OpenCV" .* or "OpenGL" .*, got \'Blender\''),
        ({"frames": [POSE], "axes": ["OpenCV"]}, "axes: expected"),
        ({"frames": [POSE], "fps": 0}, "fps: expected a positive number, got 0"),
        ({"frames": [POSE], "seconds": "4"}, "seconds: expected a finite number"),
        ({"frames": [POSE], "applied_scale": 0}, "positive applied_scale"),
        ({"frames": [POSE], "applied_transform": np.diag([2.0, 2, 2, 1]).tolist()}, "applied_transform: .*rigid"),
        ({"camera_path": [{"camera_to_world": "here"}]}, r"camera_path\[0\]\.camera_to_world: expected 4 rows"),
        ({"camera_path": [POSE]}, r"camera_path\[0\]: expected an object with a camera_to_world"),
    ],
)
def test_invalid_fields_are_named(tmp_path, content, message):
    file = tmp_path / "path.json"
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load_path(file, intrinsics=K, **SIZE)
