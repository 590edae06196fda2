"""Camera trajectory errors as defined by the package `evo`, and lengths of the trajectories."""

from dataclasses import dataclass

import numpy as np

from fourdnex.geometry.alignment import umeyama
from fourdnex.geometry.cameras import invert_pose
from fourdnex.geometry.rotations import rotation_angle


@dataclass(frozen=True)
class PoseMetrics:
    """Errors in units of the ground truth, after Sim(3) alignment of the positions.

    A static prediction has small errors if the true camera moves little, so read errors together with the lengths.
    """

    ate: float
    """Absolute trajectory error: RMSE of the positions."""
    rpe_translation: float
    """Relative pose error from frame to frame: RMSE of the translation."""
    rpe_rotation_deg: float
    """Relative pose error from frame to frame: RMSE of the rotation angle."""
    length_ratio: float
    """Path length, predicted over true; NaN if the true camera is static."""
    total_rotation_deg: float
    """Sum of the predicted rotations from frame to frame."""
    gt_length: float
    gt_total_rotation_deg: float


def pose_metrics(pred: np.ndarray, gt: np.ndarray, *, scale: float = 1.0) -> PoseMetrics:
    """Compare camera_to_world trajectories [T, 4, 4], T >= 2.

    If both cameras move, the alignment estimates the scale from the positions. If one is static, `pred` is scaled by
    `scale` and aligned rigidly.

    Args:
        pred: predicted camera_to_world.
        gt: true camera_to_world.
        scale: units of `gt` per unit of `pred` (as from `align_depth_scale`). `length_ratio` always uses it, because
            the estimated scale would hide a path that is too short.

    Raises:
        ValueError: if a shape is wrong or a value is not finite.
    """
    if pred.ndim != 3 or pred.shape[1:] != (4, 4) or pred.shape != gt.shape or len(pred) < 2:
        raise ValueError(f"pred and gt: expected two [T, 4, 4] with T >= 2, got {pred.shape} and {gt.shape}")
    pred, gt = pred.astype(np.float64), gt.astype(np.float64)
    if not (np.isfinite(pred).all() and np.isfinite(gt).all()):
        raise ValueError("pred and gt: expected finite values")
    p, g = pred[:, :3, 3], gt[:, :3, 3]
    both_move = _moves(p) and _moves(g)
    found, rotation, translation = umeyama(p if both_move else scale * p, g, with_scale=both_move)
    aligned_scale = found if both_move else scale
    error = aligned_scale * p @ rotation.T + translation - g

    pred_steps, gt_steps = _steps(pred), _steps(gt)
    scaled = pred_steps.copy()
    scaled[:, :3, 3] *= aligned_scale
    relative = invert_pose(gt_steps) @ scaled
    gt_length = _length(g)
    return PoseMetrics(
        ate=_rms(np.linalg.norm(error, axis=-1)),
        rpe_translation=_rms(np.linalg.norm(relative[:, :3, 3], axis=-1)),
        rpe_rotation_deg=_rms(_angles_deg(relative)),
        length_ratio=scale * _length(p) / gt_length if _moves(g) else float("nan"),
        total_rotation_deg=float(_angles_deg(pred_steps).sum()),
        gt_length=gt_length,
        gt_total_rotation_deg=float(_angles_deg(gt_steps).sum()),
    )


def _steps(poses: np.ndarray) -> np.ndarray:
    """Pose of each camera in the frame of the previous one, [T - 1, 4, 4]."""
    return invert_pose(poses[:-1]) @ poses[1:]


def _moves(positions: np.ndarray) -> bool:
    """Whether positions [T, 3] differ by more than rounding."""
    return bool(np.ptp(positions, axis=0).max() > 1e-6 * max(1.0, float(np.abs(positions).max())))


def _length(positions: np.ndarray) -> float:
    """Length of the path through positions [T, 3]."""
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=-1).sum())


def _angles_deg(transforms: np.ndarray) -> np.ndarray:
    """Rotation angles [N] in degrees of transforms [N, 4, 4]."""
    return np.degrees(rotation_angle(transforms[:, :3, :3]))


def _rms(values: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(values**2)))
