"""ImageInput quality of videos."""

import numpy as np


def psnr(pred: np.ndarray, gt: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over all values of two uint8 arrays of one shape; infinite when equal.

    One mean square error for the whole video: a mean of the frames' ratios would be infinite as soon as one frame (the
    given first one, say) is perfect.

    Raises:
        ValueError: shapes differ or not uint8.
    """
    _check(pred, gt)
    mse = np.mean((pred.astype(np.float32) - gt.astype(np.float32)) ** 2, dtype=np.float64)
    return float("inf") if mse == 0 else float(10 * np.log10(255.0**2 / mse))


def ssim(pred: np.ndarray, gt: np.ndarray) -> float:
    """Structural similarity, mean over frames and channels (Wang et al., 2004: Gaussian window, sigma 1.5).

    Args:
        pred, gt: [T, H, W, 3] uint8, H and W at least 11.

    Raises:
        ValueError: shapes differ, not uint8, or smaller than the window.
    """
    from scipy.ndimage import gaussian_filter

    _check(pred, gt)
    if gt.ndim != 4 or gt.shape[-1] != 3 or min(gt.shape[1:3]) < 11:
        raise ValueError(f"pred and gt: expected [T, H, W, 3] with H and W at least 11, got {gt.shape}")

    def blur(image: np.ndarray) -> np.ndarray:
        # truncate 3.5 makes the window of the paper, 11 x 11; its border is cut away.
        return gaussian_filter(image, (1.5, 1.5, 0), truncate=3.5)[5:-5, 5:-5]

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    scores = []
    for x, y in zip(pred.astype(np.float64), gt.astype(np.float64), strict=True):
        mean_x, mean_y = blur(x), blur(y)
        var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
        covariance = blur(x * y) - mean_x * mean_y
        score = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
            (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
        )
        scores.append(score.mean())
    return float(np.mean(scores))


def _check(pred: np.ndarray, gt: np.ndarray) -> None:
    if pred.shape != gt.shape or pred.dtype != np.uint8 or gt.dtype != np.uint8 or gt.size == 0:
        raise ValueError(
            f"pred and gt: expected two uint8 arrays of one shape, got {pred.shape} {pred.dtype}, {gt.shape} {gt.dtype}"
        )
