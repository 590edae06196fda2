import numpy as np
import pytest

from fourdnex.evaluation import depth_metrics


def test_values_without_alignment_match_hand_computation():
    gt = np.array([[[1.0, 2.0, 4.0, 0.0]]])
    pred = np.array([[[1.2, 2.0, 6.0, 5.0]]])
    metrics = depth_metrics(pred, gt, align="none")
    # Errors .2, 0 and .5; ratios 1.2, 1 and 1.5 (< 1.25^2 = 1.5625).
    assert metrics.abs_rel == pytest.approx(0.7 / 3)
    assert (metrics.delta1, metrics.delta2, metrics.delta3) == pytest.approx((2 / 3, 1, 1))
    assert metrics.num_valid == 3


def test_scale_and_shift_alignment_removes_both():
    gt = np.random.default_rng(0).uniform(1, 5, (2, 6, 6))
    assert depth_metrics(gt / 7, gt).abs_rel == pytest.approx(0, abs=1e-9)
    assert depth_metrics(gt / 7 + 1, gt).abs_rel > 0.05
    assert depth_metrics(gt / 7 + 1, gt, align="scale&shift").abs_rel == pytest.approx(0, abs=1e-6)


def test_one_scale_is_used_for_the_sequence():
    gt = np.ones((2, 6, 6))
    pred = np.stack([gt[0], 2 * gt[1]])
    assert depth_metrics(pred, gt).abs_rel > 0.2, "a scale a frame would hide this"


def test_missing_predictions_count_as_errors():
    gt = np.ones((1, 2, 2))
    pred = np.array([[[1.0, 1.0], [np.nan, -1.0]]])
    metrics = depth_metrics(pred, gt)
    assert (metrics.abs_rel, metrics.delta3, metrics.num_valid) == (0.5, 0.5, 4)


def test_masked_and_far_pixels_are_ignored():
    gt = np.array([1.0, 2.0, 3.0, 100.0])
    metrics = depth_metrics(np.array([1.0, 2.0, 9.0, 9.0]), gt, np.array([True, True, False, True]), max_depth=80)
    assert (metrics.abs_rel, metrics.num_valid) == (pytest.approx(0), 2)


def test_invalid_input_raises():
    with pytest.raises(ValueError, match="shape"):
        depth_metrics(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="none"):
        depth_metrics(np.full(3, np.nan), np.ones(3))
    with pytest.raises(ValueError, match="align"):
        depth_metrics(np.ones(3), np.ones(3), align="median")
