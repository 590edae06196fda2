"""Worlds of the family `primitives`: determinism, exact geometry, variety and held-out seeds."""

import numpy as np
import pytest

from fourdnex.datasets.worlds import HELD_OUT_SEEDS, is_held_out, render_world, training_seeds, world_name, world_seed
from fourdnex.datasets.worlds.raycast import cast
from fourdnex.datasets.worlds.scenes import CAMERA_MOTIONS, OBJECT_MOTIONS, SHAPES, sample_world
from fourdnex.geometry.cameras import invert_pose, transform_points


def test_rendering_is_deterministic_per_seed():
    one, two = render_world(7), render_world(7)
    assert np.array_equal(one.rgb, two.rgb)
    assert np.array_equal(one.depth, two.depth)
    assert one.caption == two.caption
    assert not np.array_equal(one.rgb, render_world(8).rgb)


def test_every_pixel_has_finite_positive_depth():
    for seed in range(12):
        clip = render_world(seed)
        assert np.isfinite(clip.depth).all()
        assert clip.depth.min() > 0.05
        assert clip.depth.max() < 100


def test_static_points_reproject_into_the_first_frame():
    """Unoccluded static points of the last frame have the rendered depth of the first frame."""
    seed = next(s for s in range(100) if "camera-truck" in sample_world(s).tags)
    clip = render_world(seed)
    points = clip.pointmaps[-1][~clip.dynamic_mask[-1]]
    in_first = transform_points(points, invert_pose(clip.camera_to_world[0]))
    pixels = in_first[:, :2] / in_first[:, 2:] * clip.intrinsics[0, 0] + clip.intrinsics[:2, 2]
    column, row = np.round(pixels).astype(int).T
    inside = (column >= 1) & (column < clip.width - 1) & (row >= 1) & (row < clip.height - 1)
    around = np.stack([clip.depth[0][row[inside] + i, column[inside] + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
    z = in_first[inside, 2]
    agrees = (z > around.min(axis=0) * 0.97) & (z < around.max(axis=0) * 1.03)
    assert agrees.mean() > 0.9


def test_dynamic_mask_marks_exactly_the_moving_objects():
    still = next(s for s in range(300) if "static" in sample_world(s).tags)
    assert not render_world(still).dynamic_mask.any()
    moving = next(s for s in range(300) if {"dynamic", "camera-still"} <= set(sample_world(s).tags))
    clip = render_world(moving)
    changed = (np.abs(clip.depth[0] - clip.depth[-1]) > 1e-3) & np.isfinite(clip.depth[0])
    assert changed.any()
    assert clip.dynamic_mask[0][changed].any() or clip.dynamic_mask[-1][changed].any()
    # With a static camera, depth changes only where a moving object is or was.
    assert (clip.dynamic_mask[0] | clip.dynamic_mask[-1])[changed].mean() > 0.999


def test_sphere_depth_matches_the_analytic_intersection():
    """The nearest point of a sphere straight ahead is at its distance minus its radius."""
    from dataclasses import replace

    world = next(w for w in map(sample_world, range(500)) if w.objects and w.objects[0].shape == "sphere")
    radius = 0.5
    sphere = replace(world.objects[0], motion="rest", half=np.full(3, radius), center=np.array([0.0, -1.0, 4.0]))
    camera = replace(world.camera, position=np.array([0.0, -1.0, 0.0]), pitch=0.0, yaw=0.0, motion="still")
    frames = cast(replace(world, objects=(sphere,), camera=camera), num_frames=1, height=65, width=97)
    assert frames.depth[0, 32, 48] == pytest.approx(4.0 - radius, abs=1e-4)


def test_worlds_cover_all_shapes_motions_and_tags():
    worlds = [sample_world(seed) for seed in range(400)]
    assert {item.shape for w in worlds for item in w.objects} == set(SHAPES)
    assert {item.motion for w in worlds for item in w.objects} == set(OBJECT_MOTIONS)
    assert {w.camera.motion for w in worlds} == set(CAMERA_MOTIONS)
    tags = {tag for w in worlds for tag in w.tags}
    assert {"indoor", "outdoor", "close", "far", "fast", "static", "dynamic"} <= tags
    assert len({w.caption for w in worlds}) > 390


def test_captions_name_the_camera_motion():
    for seed in range(30):
        world = sample_world(seed)
        word = {"still": "still", "dolly": "dollies", "truck": "trucks", "pan": "pans", "orbit": "orbits"}[
            world.camera.motion
        ]
        assert word in world.caption.rsplit("The camera", 1)[1]


def test_training_seeds_exclude_held_out_seeds():
    start = HELD_OUT_SEEDS[0] - 3
    seeds = list(training_seeds(start, 10))
    assert len(seeds) == 10
    assert not any(is_held_out(seed) for seed in seeds)
    assert seeds[:3] == [start, start + 1, start + 2]
    assert seeds[3] == HELD_OUT_SEEDS[-1] + 1


def test_world_names_round_trip_and_invalid_values_raise():
    assert world_seed(world_name(123)) == 123
    with pytest.raises(ValueError, match="name: expected 'world-"):
        world_seed("video-12")
    with pytest.raises(ValueError, match="num_frames: expected at least 1, got 0"):
        render_world(1, num_frames=0)
    with pytest.raises(ValueError, match="seed: expected a non-negative integer"):
        render_world(-1)
