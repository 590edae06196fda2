"""Video depth metrics, following the video depth literature: one alignment for the whole sequence."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fourdnex.geometry.alignment import align_depth_scale


@dataclass(frozen=True)
class DepthMetrics:
    """Means over the valid pixels of a sequence; weight by `num_valid` to average over sequences."""

    abs_rel: float
    """Mean |p - g| / g."""
    delta1: float
    """Share of pixels with max(p / g, g / p) < 1.25; delta2 and delta3: below 1.25^2 and 1.25^3."""
    delta2: float
    delta3: float
    num_valid: int


def depth_metrics(
    pred: np.ndarray,
    gt: np.ndarray,
    valid: np.ndarray | None = None,
    *,
    align: Literal["scale", "scale&shift", "none"] = "scale",
    max_depth: float = np.inf,
) -> DepthMetrics:
    """Compare depth [T, H, W] (or any common shape) after one alignment of the whole sequence.

    A pixel that is valid in `gt` but not in `pred` (NaN or not positive) counts as depth 0: a relative error of 1,
    outside of every delta. It is excluded from the alignment.

    Args:
        pred: predicted depth.
        gt: true depth; only pixels in (0, max_depth) are compared.
        valid: bool mask of pixels to compare.
        align: "scale" (L1, see `align_depth_scale`), "scale&shift" (also L1) or "none".
        max_depth: upper limit of true depth.

    Raises:
        ValueError: if shapes differ, `align` is unknown, or no pixel is valid in both.
    """
    if pred.shape != gt.shape or (valid is not None and valid.shape != gt.shape):
        raise ValueError(f"pred and valid: expected the shape of gt {gt.shape}, got {pred.shape}")
    with np.errstate(invalid="ignore"):
        counts = (gt > 0) & (gt < max_depth)
        if valid is not None:
            counts &= valid.astype(bool)
        p, g = pred[counts].astype(np.float64), gt[counts].astype(np.float64)
        predicted = np.isfinite(p) & (p > 0)
    if not predicted.any():
        raise ValueError(f"pred: expected depth at some of the {len(g)} valid pixels of gt, got none")
    if align == "scale":
        p = p * align_depth_scale(p[predicted], g[predicted])
    elif align == "scale&shift":
        scale, shift = _scale_and_shift(p[predicted], g[predicted])
        p = p * scale + shift
    elif align != "none":
        raise ValueError(f"align: expected 'scale', 'scale&shift' or 'none', got {align!r}")
    p = np.where(predicted & (p > 0), p, 0.0)
    with np.errstate(divide="ignore"):
        ratio = np.maximum(p / g, g / p)
    delta1, delta2, delta3 = (float((ratio < 1.25**k).mean()) for k in (1, 2, 3))
    return DepthMetrics(float((np.abs(p - g) / g).mean()), delta1, delta2, delta3, len(g))


def _scale_and_shift(p: np.ndarray, g: np.ndarray) -> tuple[float, float]:
    """L1 fit g ~ scale * p + shift: least squares, then 10 iterations of reweighted least squares."""
    design = np.stack([p, np.ones_like(p)], axis=-1)
    weight = np.ones_like(p)
    floor = 1e-8 * float(g.mean())
    solution = np.zeros(2)
    for _ in range(11):
        root = np.sqrt(weight)[:, None]
        solution = np.linalg.lstsq(design * root, g * root[:, 0], rcond=None)[0]
        weight = 1.0 / np.maximum(np.abs(design @ solution - g), floor)
    return float(solution[0]), float(solution[1])
