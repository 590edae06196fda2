import numpy as np
import pytest

from fourdnex.motion import moving_pixels, static_points
from fourdnex.scene import Scene4D

WALL = (40, 120, 200)


def test_box_is_moving_and_wall_is_static(small_moving_box):
    scene = small_moving_box
    assert (moving_pixels(scene) == (scene.depth == 2)).all()


def test_static_points_are_the_wall_without_duplicates(small_moving_box):
    points = static_points(small_moving_box)
    assert (points.rgb == WALL).all()
    assert points.xyz[:, 2] == pytest.approx(4) and points.size == pytest.approx(4 / 16)
    assert len(np.unique(points.xyz.round(3), axis=0)) == len(points.xyz) == 9 * 16


def test_points_behind_the_box_are_unobserved(small_moving_box):
    scene = small_moving_box
    points = static_points(scene)
    unobserved = points.xyz[points.unobserved_by(scene, 1)]
    columns, rows = unobserved[:, 0] / 4 * 16 + 7.5, unobserved[:, 1] / 4 * 16 + 4
    assert sorted(zip(rows.round().tolist(), columns.round().tolist(), strict=True)) == [
        (row, column)
        for row in range(2, 7)  # with a margin of one pixel for edges
        for column in range(5, 10)
    ]


def test_camera_motion_is_not_object_motion():
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = 0, 0.25, 0.5
    x = np.arange(16) * 15
    rgb = np.stack([np.tile((x + 15 * t)[None, :, None] % 256, (9, 1, 3)) for t in range(3)]).astype(np.uint8)
    scene = Scene4D(
        rgb=rgb,
        depth=np.full((3, 9, 16), 4.0),
        intrinsics=np.array([[16.0, 0, 7.5], [0, 16, 4], [0, 0, 1]]),  # 0.25 is one pixel
        camera_to_world=poses,
    )
    assert not moving_pixels(scene).any()
    points = static_points(scene)
    # 15 of the 16 columns of the first frame, as no other frame observes its first column, and one of the second.
    assert len(points.xyz) == 9 * 16
    assert points.unobserved_by(scene, 0).sum() == 9


def dynamic_worlds(count: int) -> list:
    from fourdnex.datasets.worlds import render_world
    from fourdnex.datasets.worlds.scenes import sample_world

    seeds = (seed for seed in range(200, 400) if "dynamic" in sample_world(seed).tags)
    clips = (render_world(seed, num_frames=9, height=48, width=72) for seed in seeds)
    visible = (clip for clip in clips if 0.01 < clip.dynamic_mask.mean() < 0.5)
    return [next(visible) for _ in range(count)]


@pytest.mark.parametrize(("noise", "min_recall"), [(0.0, 0.7), (0.01, 0.55)])
def test_moving_pixels_of_worlds(noise, min_recall):
    detected, expected, correct = 0, 0, 0
    for clip in dynamic_worlds(3):
        error = np.random.default_rng(0).standard_normal(clip.depth.shape, dtype=np.float32)
        scene = Scene4D(
            rgb=clip.rgb,
            depth=clip.depth * (1 + noise * error),
            intrinsics=clip.intrinsics,
            camera_to_world=clip.camera_to_world,
        )
        moving = moving_pixels(scene)
        detected, expected = detected + moving.sum(), expected + clip.dynamic_mask.sum()
        correct += (moving & clip.dynamic_mask).sum()
    assert correct / detected > 0.97
    assert correct / expected > min_recall
