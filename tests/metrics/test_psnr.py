import numpy as np
import pytest

from fourdnex.metrics.psnr import psnr


def test_psnr_by_hand():
    gt = np.full((1, 4, 4, 3), 100, np.uint8)
    assert psnr(gt + np.uint8(5), gt) == pytest.approx(10 * np.log10(255**2 / 25))
    assert psnr(gt, gt) == float("inf")
    assert psnr(gt, gt, max_db=60.0) == 60.0


def test_floating_point_needs_a_data_range():
    gt = np.zeros((2, 4, 4, 3), np.float32)
    assert psnr(gt + 0.1, gt, data_range=1.0) == pytest.approx(20)
    assert psnr(gt + 0.1, gt, data_range=2.0) == pytest.approx(20 + 20 * np.log10(2))
    with pytest.raises(ValueError, match="data_range"):
        psnr(gt, gt)


def test_refuses_arrays_of_different_shapes_or_kinds():
    with pytest.raises(ValueError, match="pred and gt"):
        psnr(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))
    with pytest.raises(ValueError, match="pred and gt"):
        psnr(np.zeros((2, 2), np.uint8), np.zeros((2, 2)), data_range=1.0)
