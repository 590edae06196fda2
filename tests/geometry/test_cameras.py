import numpy as np
import pytest

from fourdnex.geometry import invert_pose, project, relative_to_first, transform_points, unproject

K = np.array([[100.0, 0, 7.5], [0, 80.0, 4.5], [0, 0, 1]])


def turned_left_at(x: float) -> np.ndarray:
    """A camera at (x, 0, 0) that looks along the -x axis of the world: its z axis is -x, its x axis is z."""
    pose = np.eye(4)
    pose[:3, :3] = [[0, 0, -1], [0, 1, 0], [1, 0, 0]]
    pose[0, 3] = x
    return pose


def test_unproject_by_hand():
    depth = np.full((1, 10, 16), 2.0, np.float32)
    points = unproject(depth, K, turned_left_at(5.0)[None])
    # Pixel (x=12, y=9): camera coordinates ((12-7.5)/100*2, (9-4.5)/80*2, 2) = (0.09, 0.1125, 2).
    assert points[0, 9, 12] == pytest.approx([5 - 2, 0.1125, 0.09], abs=1e-6)
    assert points.dtype == np.float32


def test_project_inverts_unproject():
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 5, (2, 10, 16))
    poses = np.stack([turned_left_at(5.0), np.eye(4)])
    pixels, z = project(unproject(depth, K, poses), K, poses)
    y, x = np.mgrid[:10, :16]
    assert np.abs(pixels - np.stack([x, y], axis=-1)).max() < 1e-3
    assert np.abs(z - depth).max() < 1e-5


def test_points_behind_the_camera_have_no_pixel():
    pixels, depth = project(np.array([[[0.0, 0, -1], [0, 0, 1]]]), K, np.eye(4)[None])
    assert np.isnan(pixels[0, 0]).all() and depth[0, 0] == -1
    assert pixels[0, 1] == pytest.approx([7.5, 4.5])


def test_relative_to_first_preserves_local_points():
    poses = np.stack([turned_left_at(5.0), turned_left_at(1.0)])
    relative = relative_to_first(poses)
    assert (relative[0] == np.eye(4)).all()
    # The second camera stands 4 units ahead of the first.
    assert relative[1] == pytest.approx(np.block([[np.eye(3), np.array([[0], [0], [4]])], [np.array([0, 0, 0, 1])]]))


def test_invert_pose_inverts_transform_points():
    points = np.random.default_rng(0).normal(size=(5, 3))
    pose = turned_left_at(2.0)
    assert transform_points(transform_points(points, pose), invert_pose(pose)) == pytest.approx(points)


def test_errors_name_wrong_shapes():
    with pytest.raises(ValueError, match="camera_to_world"):
        unproject(np.ones((2, 4, 4)), K, np.eye(4)[None])
    with pytest.raises(ValueError, match="intrinsics"):
        unproject(np.ones((1, 4, 4)), np.eye(4), np.eye(4)[None])
    with pytest.raises(ValueError, match="points"):
        project(np.ones((1, 4, 2)), K, np.eye(4)[None])
