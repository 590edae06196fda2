"""Rules on the data set as a whole: duplicates, tags, quotas, splits."""

import numpy as np
import pandas as pd
import pytest

from fourdnex.curation.duplicates import best_of_groups, duplicate_groups
from fourdnex.curation.fingerprints import SIZE, fingerprint
from fourdnex.curation.set_rules import DuplicateRules, TagRules
from fourdnex.curation.splits import leak_groups, over_quota, split_clips
from fourdnex.curation.tags import scenario_tags, tag_lists


def random_prints(count: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, SIZE, dtype=np.uint8).tobytes() for _ in range(count)]


def flipped(data: bytes, bits: list[int]) -> bytes:
    """Fingerprint with some bits of its hashes changed."""
    array = np.unpackbits(np.frombuffer(data, np.uint8))
    array[bits] ^= 1
    return np.packbits(array).tobytes()


def test_duplicates_are_found_within_the_distance():
    prints = random_prints(400)
    prints[7] = flipped(prints[300], list(range(1, 190, 19)))  # 10 bits in different bands
    prints[8] = flipped(prints[301], list(range(1, 188, 17)))  # 11 bits
    prints[9] = prints[302] = None
    groups = duplicate_groups(prints, DuplicateRules(max_distance=10))
    assert np.flatnonzero(groups >= 0).tolist() == [7, 300] and groups[7] == groups[300] == 0
    assert (duplicate_groups(prints, DuplicateRules(max_distance=None)) == -1).all()


def test_other_colors_are_no_duplicates():
    (data,) = random_prints(1)
    colors = np.frombuffer(data[24:], np.uint8).copy()
    brighter, other = np.minimum(colors, 235) + 20, colors[::-1]
    prints = [data, data[:24] + brighter.tobytes(), data[:24] + other.tobytes()]
    assert duplicate_groups(prints, DuplicateRules()).tolist() == [0, 0, -1]


def test_fingerprint_survives_scaling_and_brightness():
    from fourdnex.datasets.worlds import render_world

    clip, other = render_world(100_003), render_world(100_004)
    changed = np.clip(clip.resized(48, 72).rgb * 1.05 + 3, 0, 255).astype(np.uint8)
    prints = [fingerprint(rgb) for rgb in (clip.rgb, changed, other.rgb)]
    assert duplicate_groups(prints, DuplicateRules()).tolist() == [0, 0, -1]


def test_the_best_of_a_group_stays():
    groups, names = np.array([0, -1, 0, 1, 1]), np.array(list("abcde"), object)
    quality = np.array([0.2, 0.9, 0.5, 0.4, 0.4])
    assert best_of_groups(groups, quality, names).tolist() == [2, 1, 2, 3, 3]
    assert best_of_groups(groups, np.where(quality == 0.5, -np.inf, quality), names).tolist() == [0, 1, 0, 3, 3]


def tags_of(given: str = "", caption: str = "", **scores: float) -> list[str]:
    values = {"depth_spread": 5.0, "sky_share": 0.0, "flow": 0.5, "fps": 24.0} | scores
    tags = scenario_tags(pd.Series([given]), pd.Series([caption]), pd.DataFrame([values]), TagRules())
    return tag_lists(tags)[0]


def test_tags_by_scores():
    assert tags_of() == ["indoor"]
    assert tags_of(sky_share=0.2, depth_spread=30.0) == ["outdoor", "far-range"]
    assert tags_of(depth_spread=2.0) == ["indoor", "close-range"]
    # 1.2 pixels at a width of 96, 24 times a second: 0.3 image widths per second.
    assert tags_of(flow=1.2) == ["indoor", "high-speed"] and tags_of(flow=1.2, fps=12.0) == ["indoor"]
    assert tags_of(depth_spread=float("nan"), sky_share=float("nan")) == []


def test_captions_go_before_scores_and_given_tags_before_both():
    assert tags_of(caption="Two People cross a street.") == ["outdoor", "human-centric"]
    assert tags_of(caption="A room with a view of the sky", sky_share=0.3) == ["outdoor"]  # ambiguous: scores decide
    assert tags_of(given="indoor\nfar", caption="A man in the street") == ["indoor", "far-range", "human-centric"]


def test_share_quota_holds_for_what_remains():
    accepted = np.array([True] * 10)
    has_tag = np.array([True] * 8 + [False] * 2)
    names = np.array([f"clip-{number}" for number in range(10)], object)
    over = over_quota(accepted, has_tag, 0.5, np.arange(10.0), names)
    # 2 of the 8 may stay beside the 2 others: those of the best quality.
    assert np.flatnonzero(over).tolist() == [0, 1, 2, 3, 4, 5]
    assert over_quota(accepted, has_tag, 3, np.arange(10.0), names).sum() == 5
    assert not over_quota(accepted, has_tag, 0.8, np.arange(10.0), names).any()
    with pytest.raises(ValueError, match="expected clips without the tag, but all 10"):
        over_quota(accepted, accepted, 0.5, np.arange(10.0), names)


def test_clips_that_share_a_video_or_a_duplicate_are_in_one_split():
    videos = np.array(["a", "a", "b", "", "", "c"], object)
    duplicates = np.array([-1, 0, 0, -1, 1, 1])
    groups = leak_groups([videos, np.array([""] * 6, object), duplicates])
    assert groups[0] == groups[1] == groups[2] and groups[4] == groups[5]
    assert len(set(groups.tolist())) == 3


def test_splits_are_stable_and_near_their_shares():
    names = np.array([f"clip-{number:05d}" for number in range(4000)], object)
    shares = {"train": 0.8, "val": 0.1, "test": 0.1}
    splits = split_clips(np.arange(4000), names, shares)
    counts = {split: int((splits == split).sum()) for split in shares}
    # The standard deviation of a share of 0.1 of 4,000 clips is 19.
    assert abs(counts["val"] - 400) < 80 and abs(counts["test"] - 400) < 80
    order = np.random.default_rng(0).permutation(2000)
    assert (split_clips(order, names[order], shares) == splits[order]).all()
    assert set(split_clips(np.arange(9), names[:9], {"train": 1.0})) == {"train"}
