import json

import numpy as np
import pytest

from fourdnex.rendering import CameraPath, load_path, look_at

K = np.array([[10.0, 0, 4.5], [0, 12, 3.5], [0, 0, 1]])
SIZE = {"height": 8, "width": 10}


def write(tmp_path, frames, **fields):
    file = tmp_path / "path.json"
    file.write_text(json.dumps({"frames": frames, **fields}))
    return file


def test_a_path_comes_back_as_it_was_saved(tmp_path):
    poses = np.stack([look_at(np.array([x, 1.0, -2]), np.zeros(3), np.array([0.0, 1, 0])) for x in (0, 1, 2)])
    lenses = np.stack([K, 2 * K, K])
    lenses[1, 2, 2] = 1
    path = CameraPath(camera_to_world=poses, intrinsics=lenses, times=np.array([0.0, 0.25, 1]))
    path.save(tmp_path / "path.json", **SIZE)
    back = load_path(tmp_path / "path.json", intrinsics=np.eye(3), **SIZE)
    assert back.camera_to_world == pytest.approx(poses)
    assert back.intrinsics == pytest.approx(lenses)
    assert back.times.tolist() == [0, 0.25, 1]
    assert back.frames(5).tolist() == [0, 1, 4]


def test_axes_are_those_of_nerfstudio_unless_the_file_says_opencv(tmp_path):
    pose = np.eye(4)
    pose[:3, 3] = 1, 2, 3
    file = write(tmp_path, [{"transform_matrix": pose.tolist()}])
    # OpenGL's y and z axes point the other way; the place is the same.
    assert load_path(file, intrinsics=K, **SIZE).camera_to_world[0] == pytest.approx(
        np.array([[1, 0, 0, 1], [0, -1, 0, 2], [0, 0, -1, 3], [0, 0, 0, 1]])
    )
    file = write(tmp_path, [{"transform_matrix": pose.tolist()}], axes="OpenCV: x right, y down, z forward")
    assert (load_path(file, intrinsics=K, **SIZE).camera_to_world[0] == pose).all()


def test_lens_and_time_are_optional_and_lenses_follow_the_picture_size(tmp_path):
    frame = {"transform_matrix": np.eye(4).tolist()}
    plain = load_path(write(tmp_path, [frame] * 3), intrinsics=K, **SIZE)
    assert (plain.intrinsics == K).all() and plain.times.tolist() == [0, 0.5, 1]
    # For pictures twice as large: half the focal length; borders at -0.5 stay, so cx 9.5 is 4.5.
    file = write(tmp_path, [frame, frame | {"fl_x": 40, "time": 0.1}], fl_x=30, cx=9.5, w=20, h=16)
    path = load_path(file, intrinsics=K, **SIZE)
    assert path.intrinsics[0] == pytest.approx(np.array([[15, 0, 4.5], [0, 15, 3.5], [0, 0, 1]]))
    assert path.intrinsics[1, 0, 0] == 20 and path.times.tolist() == [0, 0.1]


SCALED, MIRRORED = np.diag([2.0, 2, 2, 1]).tolist(), np.diag([-1.0, 1, 1, 1]).tolist()


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (SCALED, "rigid"),
        (MIRRORED, "determinant -1"),
        ([[float("nan")] * 4] * 4, "finite"),
        (np.eye(3).tolist(), r"4 x 4.*\(3, 3\)"),
        ([[1, 2], [3]], "4 rows of 4"),
        ("identity", "4 rows of 4"),
        (np.ones((4, 4)).tolist(), "last row"),
    ],
)
def test_a_bad_matrix_is_named_with_file_and_frame(tmp_path, matrix, said):
    good = {"transform_matrix": np.eye(4).tolist()}
    file = write(tmp_path, [good, {"transform_matrix": matrix}])
    with pytest.raises(
        ValueError, match=rf"path\.json: frames\[1\]\.transform_matrix: expected .*{said}|{said}"
    ) as error:
        load_path(file, intrinsics=K, **SIZE)
    assert "path.json: frames[1].transform_matrix" in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "list of frames"),
        ({"frames": []}, "list of frames"),
        ({"frames": [{}]}, r"frames\[0\].*transform_matrix"),
        ({"frames": [{"transform_matrix": np.eye(4).tolist(), "fl_x": "wide"}]}, r"frames\[0\]\.fl_x"),
        ({"frames": [{"transform_matrix": np.eye(4).tolist(), "fl_x": -1}]}, "positive fl_x"),
        ({"frames": [{"transform_matrix": np.eye(4).tolist(), "time": 3}]}, r"frames\[0\]\.time"),
    ],
)
def test_other_mistakes_are_named_too(tmp_path, content, said):
    file = tmp_path / "path.json"
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=said):
        load_path(file, intrinsics=K, **SIZE)


def test_a_path_checks_its_arrays():
    good = {"camera_to_world": np.eye(4)[None], "intrinsics": K[None], "times": np.zeros(1)}
    assert len(CameraPath(**good)) == 1 and CameraPath(**good).at_time(1).frames(7).tolist() == [6]
    for name, bad in (("times", np.array([2.0])), ("intrinsics", K), ("camera_to_world", np.zeros((1, 4, 4)))):
        with pytest.raises(ValueError, match=name):
            CameraPath(**good | {name: bad})
