"""Families of worlds: determinism, exact geometry, aspect ratios and held-out families."""

import numpy as np
import pytest

from fourdnex.datasets.worlds import render_world, world_family, world_name, world_seed
from fourdnex.datasets.worlds.families import FAMILIES, HELD_OUT_FAMILIES, SAMPLERS, TRAINING_FAMILIES, sample_scene
from fourdnex.geometry.cameras import invert_pose, transform_points


@pytest.mark.parametrize("family", SAMPLERS)
def test_families_are_deterministic_and_unobstructed(family):
    size = {"num_frames": 2, "height": 32, "width": 48}
    one, two = (render_world(3, family=family, **size) for _ in range(2))
    assert np.array_equal(one.rgb, two.rgb) and np.array_equal(one.depth, two.depth)
    assert one.name == world_name(3, family) and family in one.tags and one.caption.count("The camera") == 1
    for seed in range(4):
        clip = render_world(seed, family=family, **size)
        assert np.isfinite(clip.depth).all() and 0.1 < clip.depth.min() < clip.depth.max() < 100
        assert clip.rgb.std() > 5


@pytest.mark.parametrize("family", ["rooms", "terrain", "jumble"])
def test_static_points_reproject_into_the_first_frame(family):
    """Static points of the last frame have the rendered depth of the first frame, or are occluded there."""
    seed = next(s for s in range(100) if sample_scene(family, s).camera.motion in ("truck", "orbit"))
    clip = render_world(seed, family=family, num_frames=5)
    points = clip.pointmaps[-1][~clip.dynamic_mask[-1]]
    local = transform_points(points, invert_pose(clip.camera_to_world[0]))
    pixels = local[:, :2] / local[:, 2:] * clip.intrinsics[0, 0] + clip.intrinsics[:2, 2]
    column, row = np.round(pixels).astype(int).T
    inside = (column >= 1) & (column < clip.width - 1) & (row >= 1) & (row < clip.height - 1) & (local[:, 2] > 0.1)
    around = np.stack([clip.depth[0][row[inside] + i, column[inside] + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
    z = local[inside, 2]
    agrees = (z > around.min(axis=0) * 0.97) & (z < around.max(axis=0) * 1.03)
    assert inside.sum() > 500 and agrees.mean() > 0.6
    assert not (z < around.min(axis=0) * 0.97).any()


def test_portrait_and_landscape_show_objects_at_the_same_size():
    landscape, portrait = (
        render_world(5, family="rooms", num_frames=1, height=h, width=w) for h, w in ((64, 96), (96, 64))
    )
    assert landscape.intrinsics[0, 0] == pytest.approx(portrait.intrinsics[0, 0])
    # Both principal points are centered, so the central 64x64 crops are equal.
    assert np.array_equal(landscape.rgb[0][:, 16:80], portrait.rgb[0][16:80])
    assert np.array_equal(landscape.depth[0][:, 16:80], portrait.depth[0][16:80])


def test_world_names_encode_the_family():
    name = world_name(12, "terrain")
    assert name == "world-terrain-000000012"
    assert (world_family(name), world_seed(name)) == ("terrain", 12)
    assert (world_family("world-000000012"), world_seed("world-000000012")) == ("primitives", 12)
    with pytest.raises(ValueError, match="name: expected 'world-"):
        world_family("world-nowhere-000000012")
    with pytest.raises(ValueError, match="family: expected one of rooms"):
        render_world(1, family="nowhere")


def test_training_families_exclude_held_out_families():
    assert set(HELD_OUT_FAMILIES) | set(TRAINING_FAMILIES) == set(FAMILIES)
    assert not set(HELD_OUT_FAMILIES) & set(TRAINING_FAMILIES)
