import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fourdnex.rendering.camera_path import pose_problem
from fourdnex.rendering.named_paths import PATH_NAMES, named_path
from fourdnex.rendering.trajectories import look_at, orbit, scene_pivot
from fourdnex.scene import Scene4D
from tests.properties.strategies import depths, intrinsics, poses

FEW = settings(max_examples=10)
LOOPS = ("swing", "dolly", "truck", "spiral")
points = hnp.arrays(np.float64, (3,), elements=st.floats(-10, 10))


@st.composite
def moving_scenes(draw) -> Scene4D:
    """Scenes of one to three frames with depth in the first."""
    num_frames, height, width = draw(st.integers(1, 3)), 12, 16
    depth = np.repeat(draw(depths((num_frames, 3, 4), low=0.5, high=20, invalid=False)), 4, axis=1).repeat(4, axis=2)
    rgb = np.full((num_frames, height, width, 3), 128, np.uint8)
    return Scene4D(
        rgb=rgb,
        depth=depth,
        intrinsics=draw(intrinsics(height, width)),
        camera_to_world=draw(poses(num_frames)),
    )


@pytest.mark.parametrize("name", PATH_NAMES)
@FEW
@given(scene=moving_scenes(), num_views=st.integers(1, 9), strength=st.floats(-1, 2))
def test_named_paths_have_rigid_poses_and_positive_focal_lengths(name, scene, num_views, strength):
    path = named_path(scene, name, num_views, strength=strength)
    assert len(path) == num_views
    assert [problem for pose in path.camera_to_world if (problem := pose_problem(pose, tolerance=1e-5))] == []
    assert (path.intrinsics[:, [0, 1], [0, 1]] > 0).all()
    assert ((path.frames(scene.num_frames) >= 0) & (path.frames(scene.num_frames) < scene.num_frames)).all()


@pytest.mark.parametrize("name", [*LOOPS, "dolly-zoom", "static"])
@FEW
@given(scene=moving_scenes(), num_views=st.integers(1, 9))
def test_paths_start_at_the_first_camera(name, scene, num_views):
    path = named_path(scene, name, num_views)
    position = scene.camera_to_world[0, :3, 3]
    assert path.camera_to_world[0, :3, 3] == pytest.approx(position, abs=1e-4)
    assert path.camera_to_world[0, :3, 2] == pytest.approx(scene.camera_to_world[0, :3, 2], abs=1e-4)


@pytest.mark.parametrize("name", sorted({*PATH_NAMES} - {"turntable", "follow", "input"}))
@FEW
@given(scene=moving_scenes())
def test_no_strength_is_no_motion_of_paths_around_the_pivot(name, scene):
    path = named_path(scene, name, 5, strength=0)
    for pose in path.camera_to_world:
        assert pose == pytest.approx(scene.camera_to_world[0], abs=1e-4)


@given(pose=poses(1), pivot=points, azimuth=st.lists(st.floats(-720, 720), min_size=1, max_size=4),
       elevation=st.floats(-89, 89))  # fmt: skip
def test_an_orbit_keeps_the_position_of_the_pivot_in_the_camera(pose, pivot, azimuth, elevation):
    cameras = orbit(pose[0], pivot, np.array(azimuth), elevation)
    before = pose[0, :3, :3].T @ (pivot - pose[0, :3, 3])
    for camera in cameras:
        assert pose_problem(camera, tolerance=1e-9) == ""
        assert camera[:3, :3].T @ (pivot - camera[:3, 3]) == pytest.approx(before, abs=1e-8)


@given(eye=points, target=points, down=points)
def test_a_camera_looks_at_its_target_with_the_image_upright(eye, target, down):
    forward = target - eye
    assume(np.linalg.norm(np.cross(down, forward)) > 1e-3 * np.linalg.norm(forward) > 1e-6)
    pose = look_at(eye, target, down)
    assert pose_problem(pose, tolerance=1e-9) == ""
    x, y, z = pose[:3, :3].T @ forward
    assert (x, y) == pytest.approx((0, 0), abs=1e-6) and z > 0
    assert pose[:3, 1] @ down > 0


@given(moving_scenes())
def test_the_pivot_is_on_the_optical_axis_at_the_median_depth(scene):
    local = np.linalg.inv(scene.camera_to_world[0].astype(np.float64)) @ [*scene_pivot(scene), 1]
    assert local[:3] == pytest.approx([0, 0, np.median(scene.depth[0])], rel=1e-4, abs=1e-4)
