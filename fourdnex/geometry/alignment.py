"""Alignment of two reconstructions of the same scene: similarity transform, depth scale, ICP."""

import numpy as np


def umeyama(
    source: np.ndarray, target: np.ndarray, with_scale: bool = True, weights: np.ndarray | None = None
) -> tuple[float, np.ndarray, np.ndarray]:
    """Least-squares similarity (or rigid) transform between corresponding points: target ~ scale * R @ source + t.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991.

    Args:
        source, target: [N, 3], finite.
        with_scale: False for a rigid transform.
        weights: [N], non-negative; equal weights by default.

    Returns:
        scale (1.0 without scale), R [3, 3] (a proper rotation), t [3]; float64.

    Raises:
        ValueError: shapes are wrong, values are not finite, all weights are 0, or all source points coincide.
    """
    if source.ndim != 2 or source.shape[1] != 3 or source.shape != target.shape or len(source) == 0:
        raise ValueError(f"source and target: expected two [N, 3] of one length, got {source.shape}, {target.shape}")
    source, target = source.astype(np.float64), target.astype(np.float64)
    weight = np.ones(len(source)) if weights is None else np.asarray(weights, np.float64)
    if not (np.isfinite(source).all() and np.isfinite(target).all() and np.isfinite(weight).all()):
        raise ValueError("source, target and weights: expected finite values")
    if weight.shape != (len(source),) or weight.min() < 0 or weight.sum() == 0:
        raise ValueError(f"weights: expected [{len(source)}], non-negative and not all zero, got shape {weight.shape}")
    weight = weight / weight.sum()

    source_mean, target_mean = weight @ source, weight @ target
    a, b = source - source_mean, target - target_mean
    variance = float(weight @ (a * a).sum(axis=1))
    u, singular, vt = np.linalg.svd((b * weight[:, None]).T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * sign) @ vt
    scale = 1.0
    if with_scale:
        if variance <= np.finfo(np.float64).eps * max(1.0, float(source_mean @ source_mean)):
            raise ValueError("source: expected points that do not all coincide, otherwise the scale is undefined")
        scale = float(singular @ sign) / variance
    return scale, rotation, target_mean - scale * rotation @ source_mean


def align_depth_scale(pred: np.ndarray, gt: np.ndarray, valid: np.ndarray | None = None) -> float:
    """The scale s that minimizes mean |s * pred - gt| over a sequence.

    L1 minimization by 10 iterations of iteratively reweighted least squares, starting from the ratio of the means, as
    is usual in the literature on video depth.

    Args:
        pred, gt: depth, two arrays of the same shape.
        valid: bool of that shape. Default: pred and gt are finite, and gt > 0.

    Raises:
        ValueError: the shapes differ, or pred is 0 in all valid pixels.
    """
    if pred.shape != gt.shape:
        raise ValueError(f"pred: expected the shape of gt {gt.shape}, got {pred.shape}")
    if valid is None:
        valid = np.isfinite(pred) & np.isfinite(gt) & (gt > 0)
    p, g = pred[valid].astype(np.float64), gt[valid].astype(np.float64)
    if len(p) == 0 or not p.any():
        raise ValueError("pred: expected a valid pixel with depth other than 0, got none")
    scale = g.mean() / p.mean() if p.mean() else 1.0
    floor = 1e-8 * float(np.abs(g).mean()) + np.finfo(np.float64).tiny
    for _ in range(10):
        weight = 1.0 / np.maximum(np.abs(scale * p - g), floor)
        scale = float((weight * p * g).sum() / (weight * p * p).sum())
    return float(scale)


def icp(
    source: np.ndarray, target: np.ndarray, *, max_distance: float, max_iterations: int = 30, tolerance: float = 1e-6
) -> np.ndarray:
    """Point-to-point ICP, initialized with the identity: the rigid transform that aligns `source` with `target`.

    Args:
        source: [N, 3] finite points.
        target: [M, 3] finite points.
        max_distance: max distance of a corresponding pair, in the units of the points.
        max_iterations: max number of iterations.
        tolerance: relative change of the mean distance at which the iteration stops.

    Returns:
        [4, 4] float64; the identity if fewer than three pairs are within `max_distance`.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(target)
    moved = source.astype(np.float64)
    transform = np.eye(4)
    previous = np.inf
    for _ in range(max_iterations):
        distance, nearest = tree.query(moved, distance_upper_bound=max_distance)
        near = np.isfinite(distance)
        if near.sum() < 3:
            break
        _, rotation, translation = umeyama(moved[near], target[nearest[near]], with_scale=False)
        step = np.eye(4)
        step[:3, :3], step[:3, 3] = rotation, translation
        moved = moved @ rotation.T + translation
        transform = step @ transform
        mean = float(distance[near].mean())
        if abs(previous - mean) <= tolerance * mean:
            break
        previous = mean
    return transform
