"""Peak signal-to-noise ratio."""

import numpy as np

UINT8_RANGE = 255.0


def psnr(pred: np.ndarray, gt: np.ndarray, *, data_range: float | None = None, max_db: float = float("inf")) -> float:
    """Peak signal-to-noise ratio in dB over all values of two arrays of one shape.

    The mean squared error is taken over all values at once. A mean of per-frame ratios would be infinite as soon as one
    frame (for example the conditioning frame) is exact.

    Args:
        pred, gt: uint8 or floating point, of the same shape and kind.
        data_range: difference between the largest and the smallest possible value: 1 for [0, 1], 2 for [-1, 1].
            Default for uint8: 255. Required for floating point.
        max_db: upper limit of the result. Without it, the PSNR of equal arrays is infinite.

    Raises:
        ValueError: the arrays are empty, their shapes or kinds differ, or `data_range` is missing.
    """
    if pred.shape != gt.shape or {pred.dtype.kind, gt.dtype.kind} not in ({"f"}, {"u"}) or gt.size == 0:
        raise ValueError(
            "pred and gt: expected two arrays of one shape, both uint8 or both floating point, "
            f"got {pred.shape} {pred.dtype}, {gt.shape} {gt.dtype}"
        )
    if gt.dtype == np.uint8 and pred.dtype == np.uint8:
        pred, gt = pred.astype(np.float32), gt.astype(np.float32)
        data_range = data_range or UINT8_RANGE
    if data_range is None:
        raise ValueError(f"data_range: expected a number for arrays that are not uint8, got None for {gt.dtype}")
    mse = np.mean((pred - gt) ** 2, dtype=np.float64)
    return max_db if mse == 0 else min(float(10 * np.log10(data_range**2 / mse)), max_db)
