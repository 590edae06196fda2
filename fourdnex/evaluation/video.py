"""Picture quality and temporal behaviour of videos."""

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


def motion_metrics(rgb: np.ndarray) -> tuple[float, float]:
    """Flow warp error and dynamic degree of a video, by DIS optical flow: read the two together.

    Args:
        rgb: [T, H, W, 3] uint8, T >= 2, H and W at least 16.

    Returns:
        Mean |frame - next frame warped back| in [0, 1] over the pixels that are visible in both (forward and backward
        flow agree to 1 pixel), and the mean length of the flow in shares of the picture's diagonal per frame. A still
        video has 0 and 0.

    Raises:
        ValueError: wrong shape or type.
    """
    import cv2

    _check(rgb, rgb)
    if rgb.ndim != 4 or rgb.shape[-1] != 3 or len(rgb) < 2 or min(rgb.shape[1:3]) < 16:
        raise ValueError(f"rgb: expected [T, H, W, 3] with T >= 2 and H, W >= 16, got {rgb.shape}")
    height, width = rgb.shape[1:3]
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    start = np.zeros((height, width, 2), np.float32)
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in rgb]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    errors, lengths = [], []
    for t in range(len(rgb) - 1):
        forward = dis.calc(gray[t], gray[t + 1], start.copy())
        backward = dis.calc(gray[t + 1], gray[t], start.copy())
        to_x, to_y = x + forward[..., 0], y + forward[..., 1]
        returned = cv2.remap(backward, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=1e6)
        visible = np.linalg.norm(forward + returned, axis=-1) < 1
        warped = cv2.remap(rgb[t + 1].astype(np.float32), to_x, to_y, cv2.INTER_LINEAR)
        if visible.any():
            errors.append(np.abs(warped - rgb[t])[visible].mean() / 255)
        lengths.append(np.linalg.norm(forward, axis=-1).mean() / np.hypot(height, width))
    return float(np.mean(errors)) if errors else 1.0, float(np.mean(lengths))


def _check(pred: np.ndarray, gt: np.ndarray) -> None:
    if pred.shape != gt.shape or pred.dtype != np.uint8 or gt.dtype != np.uint8 or gt.size == 0:
        raise ValueError(
            f"pred and gt: expected two uint8 arrays of one shape, got {pred.shape} {pred.dtype}, {gt.shape} {gt.dtype}"
        )
