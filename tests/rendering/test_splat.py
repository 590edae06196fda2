import numpy as np
import pytest

from fourdnex.rendering import render_frame, render_video, splat_points
from fourdnex.scene import Scene4D

K = np.array([[10.0, 0, 4.5], [0, 10, 3.5], [0, 0, 1]])
RED, BLUE = [255, 0, 0], [0, 0, 255]


def make_scene(depth: np.ndarray | None = None) -> Scene4D:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:8, :10]
    if depth is None:
        depth = np.stack([3 + 0.1 * x + 0.05 * y + t for t in range(2)])
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = 0.5
    return Scene4D(
        rgb=rng.integers(0, 256, (2, 8, 10, 3), dtype=np.uint8), depth=depth, intrinsics=K, camera_to_world=poses
    )


def test_a_point_falls_on_its_pixel():
    # (0.35, -0.25, 1): pixel x = 10 * .35 + 4.5 = 8, y = 10 * -.25 + 3.5 = 1.
    view = splat_points(np.array([[0.35, -0.25, 1.0]]), np.array([RED], np.uint8), K, np.eye(4), height=8, width=10)
    assert np.argwhere((view.image == RED).all(-1)).tolist() == [[1, 8]]
    assert view.depth[1, 8] == 1 and np.isinf(view.depth).sum() == 79


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_the_nearer_point_wins_in_any_order(order):
    xyz = np.array([[0.0, 0, 4.0], [0.0, 0, 2.0]])[order]
    rgb = np.array([RED, BLUE], np.uint8)[order]
    footprints = np.array([[5.0, 5.0], [1.0, 1.0]])[order]
    view = splat_points(xyz, rgb, K, np.eye(4), height=8, width=10, footprints=footprints)
    assert (view.image == BLUE).all(-1).sum() == 1
    assert (view.image == RED).all(-1).sum() == 24


def test_points_behind_and_beside_the_view_are_not_drawn():
    xyz = np.array([[0.0, 0, -1.0], [50.0, 0, 1.0], [np.nan, 0, 1.0]])
    view = splat_points(xyz, np.zeros((3, 3), np.uint8), K, np.eye(4), height=8, width=10)
    assert (view.image == 255).all()


def test_a_frame_seen_from_its_own_camera_is_the_frame():
    scene = make_scene()
    for t in range(2):
        view = render_frame(scene, t, scene.camera_to_world[t])
        assert (view.image == scene.rgb[t]).all()
        assert view.depth == pytest.approx(scene.depth[t], rel=1e-5)
    doubled = render_frame(scene, 0, scene.camera_to_world[0], zoom=2).image
    assert (doubled == scene.rgb[0].repeat(2, axis=0).repeat(2, axis=1)).all()


def test_a_nearer_camera_sees_a_closed_surface():
    scene = make_scene()
    camera = np.eye(4)
    camera[2, 3] = 1.5
    assert np.isfinite(render_frame(scene, 0, camera).depth).all()


def test_surfaces_are_not_joined_across_depth_edges():
    depth = np.full((2, 8, 10), 2.0)
    depth[:, :, 5:] = 8.0
    camera = np.eye(4)
    camera[0, 3] = -1.0  # one step to the left: the edge opens by 10 * (1/2 - 1/8) = 3.75 pixels
    view = render_frame(make_scene(depth), 0, camera)
    assert np.isinf(view.depth).any(axis=1).all() or (view.depth[:, 9] < 3).all()
    camera[0, 3] = 1.0
    holes = np.isinf(render_frame(make_scene(depth), 0, camera).depth[:, :8]).sum(axis=1)
    assert (holes >= 3).all()


def test_video_runs_through_the_scene():
    scene = make_scene()
    video = render_video(scene, np.stack([scene.camera_to_world[0]] * 3))
    assert video.shape == (3, 8, 10, 3)
    assert (video[0] == scene.rgb[0]).all()
    fixed = render_video(scene, scene.camera_to_world[[1, 1]], frames=np.array([1, 1]))
    assert (fixed == scene.rgb[1]).all()
    with pytest.raises(ValueError, match="cameras"):
        render_video(scene, np.eye(4))
