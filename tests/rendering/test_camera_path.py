import numpy as np
import pytest

from fourdnex.rendering import CameraPath, load_path, look_at

K = np.array([[10.0, 0, 4.5], [0, 12, 3.5], [0, 0, 1]])
SIZE = {"height": 8, "width": 10}


def test_path_round_trips(tmp_path):
    poses = np.stack([look_at(np.array([x, 1.0, -2]), np.zeros(3), np.array([0.0, 1, 0])) for x in (0, 1, 2)])
    intrinsics = np.stack([K, 2 * K, K])
    intrinsics[1, 2, 2] = 1
    path = CameraPath(camera_to_world=poses, intrinsics=intrinsics, times=np.array([0.0, 0.25, 1]), fps=12.5)
    path.save(tmp_path / "path.json", **SIZE)
    back = load_path(tmp_path / "path.json", intrinsics=np.eye(3), **SIZE)
    assert back.camera_to_world == pytest.approx(poses)
    assert back.intrinsics == pytest.approx(intrinsics)
    assert back.times.tolist() == [0, 0.25, 1] and back.fps == 12.5
    assert back.frames(5).tolist() == [0, 1, 4]


def test_invalid_arrays_are_rejected():
    valid = {"camera_to_world": np.eye(4)[None], "intrinsics": K[None], "times": np.zeros(1)}
    assert len(CameraPath(**valid)) == 1 and CameraPath(**valid).at_time(1).frames(7).tolist() == [6]
    invalid = {"times": np.array([2.0]), "fps": 0.0, "intrinsics": K, "camera_to_world": np.zeros((1, 4, 4))}
    for name, value in invalid.items():
        with pytest.raises(ValueError, match=name):
            CameraPath(**valid | {name: value})
