import numpy as np
import pytest

from fourdnex.metrics.ssim import ssim


def image(seed: int = 0, shape: tuple[int, ...] = (2, 32, 48, 3)) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), (0, 3, 3, 0))
    return np.clip(128 + 40 * noise / noise.std(), 0, 255).astype(np.uint8)


def test_ssim_equals_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    gt = image()
    pred = np.clip(gt.astype(int) + np.random.default_rng(1).integers(-30, 30, gt.shape), 0, 255).astype(np.uint8)
    expected = np.mean(
        [
            metrics.structural_similarity(
                p, g, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
            )
            for p, g in zip(pred, gt, strict=True)
        ]
    )
    assert ssim(pred, gt) == pytest.approx(expected, abs=1e-6)
    assert ssim(gt, gt) == pytest.approx(1)


def test_refuses_frames_smaller_than_the_window():
    with pytest.raises(ValueError, match="11"):
        ssim(np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3), np.uint8))
