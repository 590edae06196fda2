import numpy as np
import pytest

from fourdnex.geometry import invert_pose
from fourdnex.rendering import look_at, orbit, scene_pivot, swing, turntable
from fourdnex.scene import Scene4D


def make_scene() -> Scene4D:
    return Scene4D(
        rgb=np.zeros((1, 3, 3, 3), np.uint8),
        depth=np.full((1, 3, 3), 4.0),
        intrinsics=np.array([[3.0, 0, 1], [0, 3, 1], [0, 0, 1]]),
        camera_to_world=np.eye(4)[None],
    )


def is_rotation(matrix: np.ndarray) -> bool:
    return bool(np.allclose(matrix @ matrix.T, np.eye(3)) and np.linalg.det(matrix) > 0)


def test_look_at():
    # From x = 5 towards the origin, with the world's y down, right is the world's +z.
    pose = look_at(np.array([5.0, 0, 0]), np.zeros(3), np.array([0.0, 1, 0]))
    assert pose == pytest.approx(np.array([[0, 0, -1, 5], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]))
    with pytest.raises(ValueError, match="straight"):
        look_at(np.zeros(3), np.array([0.0, 1, 0]), np.array([0.0, 1, 0]))


def test_orbit_moves_left_and_up_and_keeps_the_pivot_centered():
    pivot = np.array([0.0, 0, 4])
    poses = orbit(np.eye(4), pivot, np.array([0.0, 90, 0]), np.array([0.0, 0, 90]))
    assert poses[0] == pytest.approx(np.eye(4))
    assert poses[1][:3, 3] == pytest.approx([-4, 0, 4])
    assert poses[2][:3, 3] == pytest.approx([0, -4, 4])
    for pose in poses:
        assert is_rotation(pose[:3, :3])
        assert invert_pose(pose) @ [*pivot, 1] == pytest.approx([0, 0, 4, 1])


def test_orbit_with_both_angles_keeps_distance_and_center():
    start = look_at(np.array([3.0, 1, 2]), np.array([1.0, 0, 0]), np.array([0.0, 1, 0]))
    pivot = start[:3, 3] + 5 * start[:3, 2]
    for pose in orbit(start, pivot, np.linspace(-60, 60, 5), 20.0):
        assert is_rotation(pose[:3, :3])
        assert invert_pose(pose) @ [*pivot, 1] == pytest.approx([0, 0, 5, 1])


def test_turntable_and_swing():
    scene = make_scene()
    assert scene_pivot(scene) == pytest.approx([0, 0, 4])
    around = turntable(scene, 4, elevation_deg=0)
    assert around[:, :3, 3] == pytest.approx(np.array([[0, 0, 0], [-4, 0, 4], [0, 0, 8], [4, 0, 4]]), abs=1e-9)
    assert swing(scene, 8)[0] == pytest.approx(np.eye(4))
