import numpy as np
import pytest

from fourdnex.rendering import CameraPath, load_path, look_at

K = np.array([[10.0, 0, 4.5], [0, 12, 3.5], [0, 0, 1]])
SIZE = {"height": 8, "width": 10}


def test_a_path_comes_back_as_it_was_saved(tmp_path):
    poses = np.stack([look_at(np.array([x, 1.0, -2]), np.zeros(3), np.array([0.0, 1, 0])) for x in (0, 1, 2)])
    lenses = np.stack([K, 2 * K, K])
    lenses[1, 2, 2] = 1
    path = CameraPath(camera_to_world=poses, intrinsics=lenses, times=np.array([0.0, 0.25, 1]), fps=12.5)
    path.save(tmp_path / "path.json", **SIZE)
    back = load_path(tmp_path / "path.json", intrinsics=np.eye(3), **SIZE)
    assert back.camera_to_world == pytest.approx(poses)
    assert back.intrinsics == pytest.approx(lenses)
    assert back.times.tolist() == [0, 0.25, 1] and back.fps == 12.5
    assert back.frames(5).tolist() == [0, 1, 4]


def test_a_path_checks_its_arrays():
    good = {"camera_to_world": np.eye(4)[None], "intrinsics": K[None], "times": np.zeros(1)}
    assert len(CameraPath(**good)) == 1 and CameraPath(**good).at_time(1).frames(7).tolist() == [6]
    bad_ones = {"times": np.array([2.0]), "fps": 0.0, "intrinsics": K, "camera_to_world": np.zeros((1, 4, 4))}
    for name, bad in bad_ones.items():
        with pytest.raises(ValueError, match=name):
            CameraPath(**good | {name: bad})
