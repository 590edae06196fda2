"""Metrics of dynamic point clouds: accuracy, completion, Chamfer distance, end-point error, normal consistency."""

from dataclasses import dataclass

import numpy as np

from fourdnex.geometry.alignment import icp, umeyama

MAX_ICP_POINTS = 10_000


@dataclass(frozen=True)
class PointMetrics:
    """Mean (not squared) distances in units of the ground truth, averaged over frames."""

    accuracy: float
    """From each predicted point to the nearest true point of the same frame."""
    completion: float
    """From each true point to the nearest predicted point of the same frame."""
    chamfer: float
    """accuracy + completion."""
    end_point_error: float
    """From each predicted point to the true point of the same pixel."""
    normal_consistency: float
    """Mean |cosine| between the normals of nearest points, in both directions; NaN without normals."""
    extent: float
    """Largest half extent of the ground truth (2nd to 98th percentile), for scaling the distances."""


def point_metrics(
    pred: np.ndarray, gt: np.ndarray, *, valid: np.ndarray | None = None, icp_distance: float = 0.1, seed: int = 0
) -> PointMetrics:
    """Compare point maps [T, H, W, 3] of the same pixels.

    The clip is aligned once: Umeyama on corresponding valid points, then ICP. Nearest neighbors are searched per frame,
    because the clouds move.

    Args:
        pred: predicted point maps.
        gt: true point maps; only finite points are compared.
        valid: [T, H, W] bool, pixels to compare.
        icp_distance: max distance of an ICP correspondence, in half extents of `gt` (scenes are scale-ambiguous).
        seed: seed for sampling at most 10,000 points for ICP.

    Raises:
        ValueError: if a shape is wrong, a frame has no common points, or `gt` has no extent.
    """
    if gt.ndim != 4 or gt.shape[-1] != 3 or pred.shape != gt.shape:
        raise ValueError(f"pred and gt: expected two [T, H, W, 3], got {pred.shape} and {gt.shape}")
    if valid is not None and valid.shape != gt.shape[:3]:
        raise ValueError(f"valid: expected {gt.shape[:3]}, got {valid.shape}")
    in_gt = np.isfinite(gt).all(axis=-1)
    if valid is not None:
        in_gt &= valid.astype(bool)
    in_pred = np.isfinite(pred).all(axis=-1) & in_gt
    missing = np.flatnonzero(~in_pred.any(axis=(1, 2)))
    if len(missing):
        raise ValueError(f"pred: expected valid points in every frame, got none in frame {missing[0]}")

    extent = half_extent(gt[in_gt])
    if not extent > 0:
        raise ValueError("gt: expected points with some extent, got the same point everywhere")
    aligned = _align(pred, gt, in_pred, in_gt, icp_distance * extent, np.random.default_rng(seed))
    rows = np.array(
        [_compare(*frame) for frame in zip(aligned, gt.astype(np.float64), in_pred, in_gt, strict=True)]
    )  # [T, 3]
    accuracy, completion = (float(value) for value in rows[:, :2].mean(axis=0))
    normals = rows[:, 2][np.isfinite(rows[:, 2])]
    return PointMetrics(
        accuracy=accuracy,
        completion=completion,
        chamfer=accuracy + completion,
        end_point_error=float(np.linalg.norm(aligned - gt, axis=-1)[in_pred].mean()),
        normal_consistency=float(normals.mean()) if len(normals) else float("nan"),
        extent=extent,
    )


def half_extent(points: np.ndarray) -> float:
    """Largest half extent of points [N, 3], from the 2nd to the 98th percentile of each coordinate."""
    low, high = np.percentile(points, [2, 98], axis=0)
    return float((high - low).max() / 2)


def clip_similarity(
    pred: np.ndarray, gt: np.ndarray, *, icp_distance: float = 0.1, seed: int = 0
) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation [3, 3] and translation [3] with which `point_metrics` aligns point maps [T, H, W, 3] to `gt`.

    Arguments are those of `point_metrics`.
    """
    valid = np.isfinite(pred).all(axis=-1) & np.isfinite(gt).all(axis=-1)
    distance = icp_distance * half_extent(gt[valid])
    aligned = _align(pred, gt, valid, valid, distance, np.random.default_rng(seed))
    return umeyama(pred[valid], aligned[valid])


def _align(
    pred: np.ndarray,
    gt: np.ndarray,
    in_pred: np.ndarray,
    in_gt: np.ndarray,
    max_distance: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Align `pred` [T, H, W, 3] to `gt` by a similarity, then rigidly by ICP."""
    source = pred[in_pred].astype(np.float64)
    degenerate = np.ptp(source, axis=0).max() <= 1e-9 * max(1.0, float(np.abs(source).max()))
    scale, rotation, translation = umeyama(source, gt[in_pred], with_scale=not degenerate)
    aligned = scale * pred.astype(np.float64) @ rotation.T + translation

    def subsample(points: np.ndarray) -> np.ndarray:
        return points if len(points) <= MAX_ICP_POINTS else points[rng.choice(len(points), MAX_ICP_POINTS, False)]

    motion = icp(subsample(aligned[in_pred]), subsample(gt[in_gt].astype(np.float64)), max_distance=max_distance)
    return aligned @ motion[:3, :3].T + motion[:3, 3]


def _compare(pred: np.ndarray, gt: np.ndarray, in_pred: np.ndarray, in_gt: np.ndarray) -> tuple[float, float, float]:
    """Accuracy, completion and normal consistency of one frame."""
    from scipy.spatial import cKDTree

    pred_points, gt_points = pred[in_pred], gt[in_gt]
    pred_normals, gt_normals = _normals(pred, in_pred)[in_pred], _normals(gt, in_gt)[in_gt]
    to_gt, nearest_gt = cKDTree(gt_points).query(pred_points)
    to_pred, nearest_pred = cKDTree(pred_points).query(gt_points)
    cosines = np.concatenate(
        [
            np.abs((pred_normals * gt_normals[nearest_gt]).sum(axis=-1)),
            np.abs((gt_normals * pred_normals[nearest_pred]).sum(axis=-1)),
        ]
    )
    cosines = cosines[np.isfinite(cosines)]
    consistency = float(cosines.mean()) if len(cosines) else float("nan")
    return float(to_gt.mean()), float(to_pred.mean()), consistency


def _normals(points: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Unit normals [H, W, 3] from each pixel and its right and lower neighbors; NaN if one of the three is invalid."""
    points = np.where(valid[..., None], points, np.nan)
    normals = np.full(points.shape, np.nan)
    corner = points[:-1, :-1]
    cross = np.cross(points[:-1, 1:] - corner, points[1:, :-1] - corner)
    length = np.linalg.norm(cross, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        normals[:-1, :-1] = np.where(length > 0, cross / length, np.nan)
    return normals
