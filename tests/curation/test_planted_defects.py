"""A small version of benchmarks/planted_defects.py: planted defects are caught for the right reason."""

import pytest

from benchmarks.planted_defects import REASONS, evaluate, good_clips, planted_clips
from fourdnex.curation.text import can_detect_text


def check(tmp_path, num_good: int, num_planted: int, num_videos: int) -> None:
    good = good_clips(num_good, num_videos=num_videos)
    planted = planted_clips(good, num_planted)
    caught, rejected = evaluate(good, planted, tmp_path)
    total = sum(count for defect, count in caught.items() if defect != "text" or can_detect_text())
    expected = num_planted * (len(REASONS) - (not can_detect_text()))
    assert total >= 0.95 * expected, caught
    assert len(rejected) <= 0.05 * num_good, rejected


def test_one_of_each_defect_is_caught(tmp_path):
    check(tmp_path, 16, 1, 0)


@pytest.mark.slow
def test_defects_in_worlds_and_rendered_videos_are_caught(tmp_path):
    check(tmp_path, 100, 6, 3)
