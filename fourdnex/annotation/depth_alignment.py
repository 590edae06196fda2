"""Aligns the depth of a depth network with a reconstruction: with its points, then with its dense depth."""

from __future__ import annotations

import numpy as np

from fourdnex.annotation.base import AnnotationError
from fourdnex.annotation.dense_depth import ERROR_SCALE
from fourdnex.annotation.structure_from_motion import Structure
from fourdnex.geometry.cameras import project

SMOOTHNESS = 20.0
"""Weight of the change of a correction from one frame to the next, in observations of points."""
MIN_POINTS = 30
"""Min number of observations of points, over all frames."""
MAX_ERROR = 0.3
"""Max median relative difference between the aligned depth and the points."""
MAX_FAR = 3.0
"""Max ratio of the depth of a pixel to that of the farthest points (98th percentile)."""
_ITERATIONS = 15
_FINE, _COARSE = 1 / 40, 1 / 8  # standard deviations of the neighborhoods, in heights of the image
_COARSE_WEIGHT, _FRAME_WEIGHT = 0.1, 0.01


def align_depth(depth: np.ndarray, structure: Structure, *, relative: bool) -> np.ndarray:
    """Depth in the unit of a reconstruction, consistent over time.

    Every frame has a correction: of metric depth a factor, of relative depth a factor and an offset of inverse depth.
    The corrections of all frames are fitted together to the points that each frame observes, by iteratively reweighted
    least squares of the relative error (Cauchy weights). Their change over time is penalized, so that a frame with few
    points takes the correction of its neighbors.

    Args:
        depth: [T, H, W] float32 of the network; invalid where it is not finite or not positive.
        structure: cameras and points; intrinsics at the size of `depth`.
        relative: whether only inverse depth up to a factor and an offset is known.

    Returns:
        [T, H, W] float32, NaN where `depth` is invalid.

    Raises:
        AnnotationError: there are fewer than `MIN_POINTS` observations, or the depth does not agree with the points.
    """
    frames, predicted, true = _observations(depth, structure)
    if len(true) < MIN_POINTS:
        raise AnnotationError(f"depth network: expected depth at {MIN_POINTS} points at least, got {len(true)}")
    valid = np.isfinite(depth) & (depth > 0)
    if relative:
        ratio = np.median(predicted / true)  # of inverse depths: true = ratio * predicted, so that factors are about 1
        inverse, offset = ratio / predicted, 1 / np.median(true)
        fitted = _fit(frames, np.stack([inverse * true, offset * true], axis=1), np.ones(len(true)), len(depth))
        factor, shift = fitted[:, 0, None, None] * ratio, fitted[:, 1, None, None] * offset
        with np.errstate(divide="ignore", invalid="ignore"):
            nearness = factor / depth + shift
    else:
        fitted = _fit(frames, np.ones((len(true), 1)), np.log(true / predicted), len(depth))
        with np.errstate(divide="ignore", invalid="ignore"):
            nearness = np.exp(-fitted[:, 0, None, None]) / depth
    far = MAX_FAR * np.percentile(true, 98)
    aligned = np.where(valid, 1 / np.maximum(nearness, 1 / far, where=valid, out=np.ones_like(nearness)), np.nan)
    aligned = aligned.astype(np.float32)
    _, predicted, true = _observations(aligned, structure)
    if (error := float(np.median(np.abs(predicted / true - 1)))) > MAX_ERROR:
        raise AnnotationError(
            f"depth network: its depth does not fit the points of structure from motion: expected a median difference "
            f"of at most {MAX_ERROR:.0%}, got {error:.0%}"
        )
    return aligned


def refine(depth: np.ndarray, dense: np.ndarray, dense_confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correct depth by dense depth nearby; returns depth and its confidence, both [T, H, W] float32.

    The correction of a pixel is a factor: the weighted geometric mean of the ratio of dense depth to `depth` over its
    neighborhood, or over a larger one where dense depth is unknown nearby; 1 far from any. It follows the network
    within the neighborhood, so that edges and details stay.

    The confidence is exp(-e / `ERROR_SCALE`), with the mean relative difference e to dense depth: after the correction
    in the neighborhood, before it in the larger one and in the frame. It is 0 where `depth` is invalid, and in frames
    without dense depth.

    Args:
        depth: [T, H, W] in the unit of `dense`, NaN where it is invalid.
        dense: [T, H, W], NaN where it is unknown.
        dense_confidence: [T, H, W] in [0, 1], the weights.
    """
    refined, confidence = depth.copy(), np.zeros(depth.shape, np.float32)
    for t, (own, other, weights) in enumerate(zip(depth, dense, dense_confidence, strict=True)):
        known = np.isfinite(own) & np.isfinite(other) & (weights > 0)
        if not known.any():
            continue
        weight = np.where(known, weights, 0).astype(np.float32)
        ratio = np.log(np.divide(other, own, out=np.ones_like(own), where=known))
        correction = _blend(weight, ratio, ratio, 0.0)
        refined[t] = own * np.exp(correction)
        before, after = np.abs(ratio), np.abs(ratio - np.where(known, correction, 0))
        error = _blend(weight, after, before, float((weight * before).sum() / weight.sum()))
        confidence[t] = np.where(np.isfinite(own), np.exp(-error / ERROR_SCALE), 0)
    return refined, confidence


def _blend(weight: np.ndarray, fine: np.ndarray, coarse: np.ndarray, default: float) -> np.ndarray:
    """Weighted means [H, W] of `fine` over the neighborhood, of `coarse` over the larger one, and the default.

    Each has a share that falls with the weight that the closer ones have at a pixel.
    """
    import cv2

    total = np.full(weight.shape, _FRAME_WEIGHT, np.float32)
    value = total * np.float32(default)
    for values, sigma, share in ((fine, _FINE, 1.0), (coarse, _COARSE, _COARSE_WEIGHT)):
        size = sigma * len(weight)
        value += share * np.asarray(cv2.GaussianBlur(weight * values.astype(np.float32), (0, 0), size))
        total += share * np.asarray(cv2.GaussianBlur(weight, (0, 0), size))
    return value / total


def _observations(depth: np.ndarray, structure: Structure) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frame, depth of the network and depth of the point, for every point in every frame that observes it."""
    frames, points = np.nonzero(structure.observed)
    everywhere = np.broadcast_to(structure.points, (len(depth), *structure.points.shape))
    pixels, true = project(everywhere, structure.intrinsics, structure.camera_to_world)
    pixels, true = pixels[frames, points], true[frames, points]
    height, width = depth.shape[1:]
    x, y = np.nan_to_num(np.rint(pixels), nan=-1).astype(np.int64).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (true > 0)
    frames, true = frames[inside], true[inside]
    predicted = depth[frames, y[inside], x[inside]].astype(np.float64)
    valid = np.isfinite(predicted) & (predicted > 0)
    return frames[valid], predicted[valid], true[valid]


def _fit(frames: np.ndarray, features: np.ndarray, target: np.ndarray, num_frames: int) -> np.ndarray:
    """Parameters [T, K] with features [N, K] * parameters[frame] ~ target [N], smooth over time and robust."""
    count = features.shape[1]
    smooth = np.zeros((num_frames, num_frames))
    steps = np.arange(num_frames - 1)
    smooth[steps, steps] += 1
    smooth[steps + 1, steps + 1] += 1
    smooth[steps, steps + 1] = smooth[steps + 1, steps] = -1
    prior = np.kron(SMOOTHNESS * smooth, np.eye(count))
    weight = np.ones(len(target))
    columns = frames[:, None] * count + np.arange(count)
    for _ in range(_ITERATIONS):
        normal = prior.copy()
        outer = weight[:, None, None] * features[:, :, None] * features[:, None, :]
        np.add.at(normal, (columns[:, :, None], columns[:, None, :]), outer)
        right = np.zeros(num_frames * count)
        np.add.at(right, columns, (weight * target)[:, None] * features)
        solution = np.linalg.lstsq(normal, right, rcond=1e-10)[0]
        residual = (features * solution[columns]).sum(axis=1) - target
        scale = max(1.4826 * float(np.median(np.abs(residual))), 1e-6)
        weight = 1 / (1 + (residual / (2 * scale)) ** 2)
    return solution.reshape(num_frames, count)
