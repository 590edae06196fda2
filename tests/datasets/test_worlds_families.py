"""Families of worlds: exact, seeded, at any ratio, and held-out ones kept out of training."""

import numpy as np
import pytest

from fourdnex.datasets.worlds import render_world, world_family, world_name, world_seed
from fourdnex.datasets.worlds.families import FAMILIES, HELD_OUT_FAMILIES, SAMPLERS, TRAINING_FAMILIES, sample_scene
from fourdnex.geometry.cameras import invert_pose, transform_points


@pytest.mark.parametrize("family", SAMPLERS)
def test_a_family_gives_the_same_clear_images_again(family):
    size = {"num_frames": 2, "height": 32, "width": 48}
    one, two = (render_world(3, family=family, **size) for _ in range(2))
    assert np.array_equal(one.rgb, two.rgb) and np.array_equal(one.depth, two.depth)
    assert one.name == world_name(3, family) and family in one.tags and one.caption.count("The camera") == 1
    for seed in range(4):
        clip = render_world(seed, family=family, **size)
        assert np.isfinite(clip.depth).all() and 0.1 < clip.depth.min() < clip.depth.max() < 100
        assert clip.rgb.std() > 5


@pytest.mark.parametrize("family", ["rooms", "terrain", "jumble"])
def test_points_stay_where_they_are_while_the_camera_moves(family):
    """A still point of the last frame, projected into the first, is rendered there, or hidden by what is nearer."""
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


def test_other_ratios_see_the_same_world_as_large():
    wide, high = (render_world(5, family="rooms", num_frames=1, height=h, width=w) for h, w in ((64, 96), (96, 64)))
    assert wide.intrinsics[0, 0] == pytest.approx(high.intrinsics[0, 0])
    # The middle 64x64 of both images is the same image, as both have their axis in the middle.
    assert np.array_equal(wide.rgb[0][:, 16:80], high.rgb[0][16:80])
    assert np.array_equal(wide.depth[0][:, 16:80], high.depth[0][16:80])


def test_names_tell_the_family():
    name = world_name(12, "terrain")
    assert name == "world-terrain-000000012"
    assert (world_family(name), world_seed(name)) == ("terrain", 12)
    assert (world_family("world-000000012"), world_seed("world-000000012")) == ("primitives", 12)
    with pytest.raises(ValueError, match="name: expected 'world-"):
        world_family("world-nowhere-000000012")
    with pytest.raises(ValueError, match="family: expected one of rooms"):
        render_world(1, family="nowhere")


def test_training_has_no_held_out_family():
    assert set(HELD_OUT_FAMILIES) | set(TRAINING_FAMILIES) == set(FAMILIES)
    assert not set(HELD_OUT_FAMILIES) & set(TRAINING_FAMILIES)
