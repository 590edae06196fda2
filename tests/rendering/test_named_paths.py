import numpy as np
import pytest

from fourdnex.geometry import invert_pose
from fourdnex.rendering import PATH_NAMES, named_path, scene_pivot
from fourdnex.scene import Scene4D

K = np.array([[6.0, 0, 2.5], [0, 6, 2], [0, 0, 1]])


def static_scene() -> Scene4D:
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = 0, 0.1, 0.3
    rgb = np.zeros((3, 5, 6, 3), np.uint8)
    return Scene4D(rgb=rgb, depth=np.full((3, 5, 6), 4.0), intrinsics=K, camera_to_world=poses)


@pytest.mark.parametrize("name", PATH_NAMES)
def test_every_path_sees_the_pivot_and_runs_through_time(name):
    scene = static_scene()
    path = named_path(scene, name, 9)
    assert len(path) == 9 and path.frames(3).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for pose, k in zip(path.camera_to_world, path.intrinsics, strict=True):
        x, y, z = k @ (invert_pose(pose) @ [*scene_pivot(scene), 1])[:3]
        assert z > 0 and -0.5 < x / z < 5.5 and -0.5 < y / z < 4.5


@pytest.mark.parametrize("name", ["swing", "dolly", "truck", "spiral", "static"])
def test_paths_start_at_the_first_camera(name):
    assert named_path(static_scene(), name, 4).camera_to_world[0] == pytest.approx(np.eye(4), abs=1e-9)


def test_positions_of_paths():
    scene = static_scene()  # the pivot is at distance 4
    assert named_path(scene, "dolly", 3).camera_to_world[1, :3, 3] == pytest.approx([0, 0, 4 / 3])
    assert named_path(scene, "truck", 5).camera_to_world[1, :3, 3] == pytest.approx([-0.6, 0, 0])
    orbit = named_path(scene, "orbit", 3, strength=2)
    assert orbit.camera_to_world[:, 0, 3] == pytest.approx(
        4 * np.cos(np.radians(10)) * np.sin(np.radians([60, 0, -60]))
    )
    assert named_path(scene, "input", 5).camera_to_world[:, 0, 3] == pytest.approx([0, 0.05, 0.1, 0.2, 0.3])


def test_dolly_zoom_keeps_the_size_at_the_pivot():
    scene = static_scene()
    path = named_path(scene, "dolly-zoom", 5)
    distance = 4 - path.camera_to_world[:, 2, 3]
    assert path.intrinsics[:, 0, 0] / distance == pytest.approx(6 / 4)
    assert distance[-1] == pytest.approx(4 * 1.8)


def test_follow_keeps_moving_objects_centered(moving_box):
    scene = moving_box
    path = named_path(scene, "follow", 3)
    # The box is at depth 2 with its center at columns 3, 7 and 11 of 16, before the running mean with repeated ends.
    x = np.array([(c - 7.5) / 16 * 2 for c in (3 + 4 / 3, 7, 11 - 4 / 3)])
    for pose, center in zip(path.camera_to_world, x, strict=True):
        local = invert_pose(pose) @ [center, 0, 2, 1]
        assert local[0] == pytest.approx(0, abs=0.02)
    assert path.camera_to_world[2, 0, 3] == pytest.approx((x[2] - x[0]) / 2, abs=0.02)


def test_invalid_arguments_are_rejected():
    scene = static_scene()
    with pytest.raises(ValueError, match="swing, orbit"):
        named_path(scene, "zigzag", 4)
    with pytest.raises(ValueError, match="num_views"):
        named_path(scene, "orbit", 0)
    with pytest.raises(ValueError, match="strength"):
        named_path(scene, "orbit", 2, strength=np.nan)
    with pytest.raises(ValueError, match="strength"):
        named_path(scene, "dolly-zoom", 2, strength=-2)
