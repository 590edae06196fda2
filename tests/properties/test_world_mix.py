import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourdnex.datasets.worlds.families import PRIMITIVES, TRAINING_FAMILIES
from fourdnex.datasets.worlds.mix import MULTIPLE, WorldMix, make_mix, ratio_size

families = st.lists(st.sampled_from(TRAINING_FAMILIES), min_size=1, max_size=4, unique=True)
ratios = st.tuples(st.integers(1, 9), st.integers(1, 9)).map(lambda pair: f"{pair[0]}:{pair[1]}")


@st.composite
def mixes(draw) -> WorldMix:
    """Mixes with any shares."""
    chosen = draw(families), draw(st.lists(st.sampled_from([(64, 96), (96, 64), (80, 80)]), min_size=1, unique=True))
    weights = [np.array(draw(st.lists(st.integers(1, 9), min_size=len(c), max_size=len(c)))) for c in chosen]
    shares = [dict(zip(c, (w / w.sum()).tolist(), strict=True)) for c, w in zip(chosen, weights, strict=True)]
    return WorldMix(families=shares[0], sizes=shares[1])


@given(mixes(), st.integers(0, 200), st.integers(0, 10**6), st.integers(1, 8))
def test_blocks_share_family_and_size_and_have_different_seeds(mix, num_worlds, first_seed, block):
    blocks = mix.choices(num_worlds, first_seed, block=block)
    worlds = [world for each in blocks for world in each]
    assert len(worlds) == num_worlds and all(1 <= len(each) <= block for each in blocks)
    assert all(len({(world.family, world.size) for world in each}) == 1 for each in blocks)
    seeds = [world.seed for world in worlds]
    assert seeds == sorted(set(seeds)) and min(seeds, default=first_seed) >= first_seed
    assert blocks == mix.choices(num_worlds, first_seed, block=block)


@given(mixes(), st.integers(1, 300))
def test_every_prefix_has_about_the_shares_of_the_mix(mix, num_worlds):
    worlds = [world for (world,) in mix.choices(num_worlds, 0)]
    kinds = len(mix.families) * len(mix.sizes)
    for family, share in mix.families.items():
        for size, size_share in mix.sizes.items():
            count = sum((world.family, world.size) == (family, size) for world in worlds)
            assert abs(count - share * size_share * num_worlds) <= max(1, (kinds - 1) / 2 + 0.5)


@given(families, st.lists(ratios, max_size=2), st.none() | st.floats(0, 1))
def test_shares_of_a_mix_sum_to_1(chosen, requested, primitives):
    sizes = {ratio_size(ratio) for ratio in requested}
    if len(sizes) < len(requested):
        with pytest.raises(ValueError, match="ratios: expected no duplicates"):
            make_mix(tuple(chosen), tuple(requested), primitives=primitives)
        return
    mix = make_mix(tuple(chosen), tuple(requested), primitives=primitives)
    assert sum(mix.families.values()) == pytest.approx(1) and sum(mix.sizes.values()) == pytest.approx(1)
    assert set(mix.families) == set(chosen) and (set(mix.sizes) == sizes or not requested)
    if primitives is not None and PRIMITIVES in chosen and len(chosen) > 1:
        assert mix.families[PRIMITIVES] == primitives


@given(ratios, st.sampled_from([(64, 96), (480, 720)]))
def test_sizes_of_ratios_are_multiples_of_16_at_about_the_area(ratio, size):
    height, width = ratio_size(ratio, height=size[0], width=size[1])
    across, down = map(int, ratio.split(":"))
    assert height % MULTIPLE == width % MULTIPLE == 0
    # Rounding changes a side by at most 8 pixels; no exact side is below 16, since ratios are at most 9.
    area = size[0] * size[1]
    assert abs(height - (area * down / across) ** 0.5) <= MULTIPLE / 2 + 1e-6
    assert abs(width - (area * across / down) ** 0.5) <= MULTIPLE / 2 + 1e-6
