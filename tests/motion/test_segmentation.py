import numpy as np
import pytest

from fourdnex.motion import moving_pixels, static_points
from fourdnex.scene import Scene4D

WALL = (40, 120, 200)


def test_the_box_moves_and_the_wall_does_not(small_moving_box):
    scene = small_moving_box
    assert (moving_pixels(scene) == (scene.depth == 2)).all()


def test_standing_points_are_the_wall_each_pixel_once(small_moving_box):
    points = static_points(small_moving_box)
    assert (points.rgb == WALL).all()
    assert points.xyz[:, 2] == pytest.approx(4) and points.size == pytest.approx(4 / 16)
    assert len(np.unique(points.xyz.round(3), axis=0)) == len(points.xyz) == 9 * 16


def test_a_frame_does_not_know_what_its_box_hides(small_moving_box):
    scene = small_moving_box
    points = static_points(scene)
    hidden = points.xyz[points.unobserved_by(scene, 1)]
    columns, rows = hidden[:, 0] / 4 * 16 + 7.5, hidden[:, 1] / 4 * 16 + 4
    assert sorted(zip(rows.round().tolist(), columns.round().tolist(), strict=True)) == [
        (row, column)
        for row in range(2, 7)  # and a pixel around it, as edges are
        for column in range(5, 10)
    ]


def test_a_camera_that_moves_is_no_motion():
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = 0, 0.25, 0.5
    x = np.arange(16) * 15
    rgb = np.stack([np.tile((x + 15 * t)[None, :, None] % 256, (9, 1, 3)) for t in range(3)]).astype(np.uint8)
    scene = Scene4D(
        rgb=rgb,
        depth=np.full((3, 9, 16), 4.0),
        intrinsics=np.array([[16.0, 0, 7.5], [0, 16, 4], [0, 0, 1]]),  # a step of 0.25 is a pixel
        camera_to_world=poses,
    )
    assert not moving_pixels(scene).any()
    points = static_points(scene)
    # 16 columns of the first frame, but its first, which no other sees; then one more of the second.
    assert len(points.xyz) == 9 * 16
    assert points.unobserved_by(scene, 0).sum() == 9


def worlds_that_move(count: int) -> list:
    from fourdnex.datasets.worlds import render_world
    from fourdnex.datasets.worlds.scenes import sample_world

    seeds = (seed for seed in range(200, 400) if "dynamic" in sample_world(seed).tags)
    clips = (render_world(seed, num_frames=9, height=48, width=72) for seed in seeds)
    seen = (clip for clip in clips if 0.01 < clip.dynamic_mask.mean() < 0.5)
    return [next(seen) for _ in range(count)]


@pytest.mark.parametrize(("noise", "least"), [(0.0, 0.7), (0.01, 0.55)])
def test_what_moves_in_worlds_is_found_and_nothing_else(noise, least):
    found, true, both = 0, 0, 0
    for clip in worlds_that_move(3):
        error = np.random.default_rng(0).standard_normal(clip.depth.shape, dtype=np.float32)
        scene = Scene4D(
            rgb=clip.rgb,
            depth=clip.depth * (1 + noise * error),
            intrinsics=clip.intrinsics,
            camera_to_world=clip.camera_to_world,
        )
        moving = moving_pixels(scene)
        found, true = found + moving.sum(), true + clip.dynamic_mask.sum()
        both += (moving & clip.dynamic_mask).sum()
    assert both / found > 0.97
    assert both / true > least
