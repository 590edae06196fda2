import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fourdnex.evaluation import pose_metrics


def wandering(seed: int, num_frames: int = 12) -> np.ndarray:
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (num_frames, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(np.cumsum(rng.normal(0, 0.1, (num_frames, 3)), axis=0)).as_matrix()
    poses[:, :3, 3] = np.cumsum(rng.normal(0, 0.2, (num_frames, 3)), axis=0)
    return poses


def noisy(poses: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(9)
    out = poses.copy()
    out[:, :3, :3] = out[:, :3, :3] @ Rotation.from_rotvec(rng.normal(0, 0.03, (len(poses), 3))).as_matrix()
    out[:, :3, 3] = 3 * out[:, :3, 3] + rng.normal(0, 0.1, (len(poses), 3))
    return out


def test_matches_evo():
    pytest.importorskip("evo")
    from evo.core import metrics, trajectory

    gt, pred = wandering(0), noisy(wandering(0))
    stamps = np.arange(len(gt), dtype=float)
    reference = trajectory.PoseTrajectory3D(poses_se3=list(gt), timestamps=stamps)
    estimate = trajectory.PoseTrajectory3D(poses_se3=list(pred), timestamps=stamps)
    estimate.align(reference, correct_scale=True)

    def evo_rmse(metric) -> float:
        metric.process_data((reference, estimate))
        return metric.get_statistic(metrics.StatisticsType.rmse)

    def rpe(relation) -> float:
        return evo_rmse(metrics.RPE(relation, delta=1, delta_unit=metrics.Unit.frames, all_pairs=False))

    ours = pose_metrics(pred, gt)
    assert ours.ate == pytest.approx(evo_rmse(metrics.APE(metrics.PoseRelation.translation_part)), rel=1e-6)
    assert ours.rpe_translation == pytest.approx(rpe(metrics.PoseRelation.translation_part), rel=1e-6)
    assert ours.rpe_rotation_deg == pytest.approx(rpe(metrics.PoseRelation.rotation_angle_deg), rel=1e-5)
    assert ours.gt_length == pytest.approx(reference.path_length)


def test_metrics_are_invariant_to_a_similarity():
    gt = wandering(1)
    world = np.eye(4)
    world[:3, :3] = Rotation.from_euler("xyz", [1, 2, 3]).as_matrix()
    world[:3, 3] = [5, 6, 7]
    pred = gt.copy()
    pred[:, :3, 3] *= 4
    metrics = pose_metrics(world @ pred, gt)
    assert metrics.ate == pytest.approx(0, abs=1e-9)
    assert metrics.rpe_translation == pytest.approx(0, abs=1e-9)
    assert metrics.rpe_rotation_deg == pytest.approx(0, abs=1e-5)
    assert metrics.length_ratio == pytest.approx(4)
    assert pose_metrics(world @ pred, gt, scale=0.25).length_ratio == pytest.approx(1)


def test_static_prediction_has_zero_length_ratio():
    gt = np.tile(np.eye(4), (3, 1, 1))
    gt[:, 0, 3] = [-1, 0, 1]
    metrics = pose_metrics(np.tile(np.eye(4), (3, 1, 1)), gt)
    assert metrics.length_ratio == 0 and metrics.gt_length == 2
    assert metrics.ate == pytest.approx(np.sqrt(2 / 3))
    assert metrics.rpe_translation == pytest.approx(1)


def test_static_ground_truth_is_not_scaled_to_zero():
    gt = np.tile(np.eye(4), (3, 1, 1))
    pred = gt.copy()
    pred[:, 0, 3] = [-1, 0, 1]
    metrics = pose_metrics(pred, gt)
    assert metrics.ate == pytest.approx(np.sqrt(2 / 3)) and np.isnan(metrics.length_ratio)


def test_total_rotation():
    poses = np.tile(np.eye(4), (4, 1, 1))
    poses[:, :3, :3] = Rotation.from_euler("y", [[0], [10], [0], [10]], degrees=True).as_matrix()
    assert pose_metrics(poses, poses).total_rotation_deg == pytest.approx(30)


def test_invalid_input_raises():
    with pytest.raises(ValueError, match="T >= 2"):
        pose_metrics(np.eye(4)[None], np.eye(4)[None])
    with pytest.raises(ValueError, match="finite"):
        pose_metrics(np.full((2, 4, 4), np.nan), np.tile(np.eye(4), (2, 1, 1)))
