"""Mixtures of families and sizes, and image degradation."""

from collections import Counter

import numpy as np
import pytest

from fourdnex.datasets.worlds.image_degradation import degrade_image
from fourdnex.datasets.worlds.mix import WorldMix, make_mix, ratio_size


def test_every_run_of_worlds_approximates_the_shares():
    mix = WorldMix(families={"primitives": 0.5, "rooms": 0.25, "street": 0.25}, sizes={(64, 96): 1.0})
    worlds = [world for (world,) in mix.choices(80, 100)]
    assert [world.seed for world in worlds] == list(range(100, 180))
    assert Counter(world.family for world in worlds) == {"primitives": 40, "rooms": 20, "street": 20}
    for start in range(0, 80, 8):
        assert 3 <= Counter(world.family for world in worlds[start : start + 8])["primitives"] <= 5


def test_blocks_share_one_family_and_size():
    blocks = make_mix(("rooms", "street"), ("3:2", "2:3")).choices(90, 0, block=25)
    assert [len(block) for block in blocks] == [25, 25, 25, 15]
    assert all(len({(world.family, world.size) for world in block}) == 1 for block in blocks)
    assert len({(block[0].family, block[0].size) for block in blocks}) == 4


def test_ratio_sizes_keep_the_area_in_multiples_of_16():
    sizes = [ratio_size(ratio) for ratio in ("3:2", "2:3", "1:1", "16:9")]
    assert sizes == [(64, 96), (96, 64), (80, 80), (64, 112)]
    assert ratio_size("1:1", height=480, width=720) == (592, 592)


def test_primitives_share_is_configurable():
    mix = make_mix(("primitives", "rooms", "street"), primitives=0.4)
    assert mix.families == pytest.approx({"primitives": 0.4, "rooms": 0.3, "street": 0.3})


@pytest.mark.parametrize(
    ("families", "ratios", "message"),
    [
        (("courtyard",), (), "families: expected a subset of primitives"),
        (("rooms", "rooms"), (), "families: expected no duplicates"),
        (("rooms",), ("wide",), "ratios: expected width:height"),
    ],
)
def test_invalid_mixtures_raise(families, ratios, message):
    with pytest.raises(ValueError, match=message):
        make_mix(families, ratios)


def test_degradation_is_seeded_and_keeps_shape_and_dtype():
    rgb = np.random.default_rng(0).integers(0, 256, size=(16, 24, 3), dtype=np.uint8)
    images = [degrade_image(rgb, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(images[0], images[1]) and not np.array_equal(images[0], images[2])
    assert all(image.shape == rgb.shape and image.dtype == np.uint8 for image in images)
    assert np.array_equal(degrade_image(rgb, np.random.default_rng(1), strength=0.0), rgb)
