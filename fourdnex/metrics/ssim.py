"""Structural similarity."""

import numpy as np

WINDOW = 11
"""Side of the Gaussian window, in pixels."""


def ssim(pred: np.ndarray, gt: np.ndarray) -> float:
    """Structural similarity, mean over frames and channels (Wang et al., 2004: Gaussian window, sigma 1.5).

    Args:
        pred, gt: [T, H, W, 3] uint8, H and W at least 11.

    Raises:
        ValueError: the shapes differ, the arrays are not uint8, or the frames are smaller than the window.
    """
    from scipy.ndimage import gaussian_filter

    if pred.shape != gt.shape or pred.dtype != np.uint8 or gt.dtype != np.uint8 or gt.size == 0:
        raise ValueError(
            f"pred and gt: expected two uint8 arrays of one shape, got {pred.shape} {pred.dtype}, {gt.shape} {gt.dtype}"
        )
    if gt.ndim != 4 or gt.shape[-1] != 3 or min(gt.shape[1:3]) < WINDOW:
        raise ValueError(f"pred and gt: expected [T, H, W, 3] with H and W at least {WINDOW}, got {gt.shape}")
    border = WINDOW // 2

    def blur(image: np.ndarray) -> np.ndarray:
        # truncate=3.5 gives the 11x11 window of the paper. Pixels whose window leaves the image are dropped.
        return gaussian_filter(image, (1.5, 1.5, 0), truncate=3.5)[border:-border, border:-border]

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
