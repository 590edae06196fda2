import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fourdnex.evaluation import point_metrics


def wall(num_frames: int = 2, size: int = 21) -> np.ndarray:
    """A square [-1, 1]^2 of points at depth 3, with a step in depth at its middle."""
    axis = np.linspace(-1, 1, size)
    x, y = np.meshgrid(axis, axis)
    points = np.stack([x, y, np.where(x > 0.3, 2.0, 3.0) + 0.2 * y], axis=-1)
    return np.tile(points, (num_frames, 1, 1, 1))


def test_metrics_are_invariant_to_a_similarity():
    gt = wall()
    turn = Rotation.from_euler("xyz", [0.4, 1, 2]).as_matrix()
    metrics = point_metrics(5 * gt @ turn.T + [1, 2, 3], gt)
    assert metrics.chamfer == pytest.approx(0, abs=1e-6)
    assert metrics.normal_consistency == pytest.approx(1)
    # 21 columns from -1 to 1: the 2nd percentile of x lies on the outermost column.
    assert metrics.extent == pytest.approx(1, abs=1e-9)


def test_values_match_hand_computation():
    """A grid of spacing 1 in a plane; of its eight columns some stand 0.1 behind it and as many 0.1 before, so that no
    tilt and no shift makes that smaller: each point lies 0.1 from the nearest of the other cloud, both ways."""
    y, x = np.mgrid[-4.0:5.0, -4.0:4.0]
    gt = np.stack([x + 0.5, y, np.full_like(x, 10.0)], axis=-1)[None]
    pred = gt.copy()
    pred[..., 2] += 0.1 * np.array([1, -1, -1, 1, 1, -1, -1, 1])
    metrics = point_metrics(pred, gt)
    assert metrics.accuracy == pytest.approx(0.1, abs=2e-3)
    assert metrics.completion == pytest.approx(0.1, abs=2e-3)
    assert metrics.chamfer == pytest.approx(0.2, abs=4e-3)
    assert metrics.end_point_error == pytest.approx(0.1, abs=2e-3)
    # Four of the seven steps go 1 across and 0.2 back: there normals lean by atan(0.2), whose cosine is 1 / sqrt(1.04).
    assert metrics.normal_consistency == pytest.approx((4 / np.sqrt(1.04) + 3) / 7, abs=1e-4)


def test_permuted_points_affect_only_the_end_point_error():
    gt = wall()
    gt[..., 2] += np.hypot(gt[..., 0], gt[..., 1] + 0.5)  # no symmetry that an alignment could use
    pred = gt.copy()
    pred[:, 3, 4], pred[:, 9, 12] = gt[:, 9, 12], gt[:, 3, 4]
    metrics = point_metrics(pred, gt)
    far = np.linalg.norm(gt[0, 3, 4] - gt[0, 9, 12])
    assert metrics.chamfer < 0.02
    assert metrics.end_point_error == pytest.approx(2 * far / gt[0, ..., 0].size, rel=0.2, abs=0.01)


def test_missing_half_affects_only_completion():
    gt = wall()
    pred = gt.copy()
    pred[:, :, 11:] = np.nan
    metrics = point_metrics(pred, gt)
    assert metrics.accuracy == pytest.approx(0, abs=1e-6)
    assert metrics.completion > 0.2
    assert metrics.chamfer == metrics.accuracy + metrics.completion


def test_clouds_are_compared_per_frame():
    gt = wall(2)
    gt[1, :7, :7, 2] -= 1.0  # a part of the second frame moves towards the camera
    frozen = np.stack([gt[0], gt[0]])
    assert point_metrics(gt, gt).chamfer == pytest.approx(0, abs=1e-6)
    assert point_metrics(frozen, gt).chamfer > 0.05


def test_distances_are_in_ground_truth_units():
    rng = np.random.default_rng(0)
    gt = wall(1, 41)
    pred = gt + rng.normal(0, 0.02, gt.shape)
    small, large = point_metrics(pred, gt), point_metrics(pred, 10 * gt)
    assert large.chamfer == pytest.approx(10 * small.chamfer, rel=1e-3)
    assert large.extent == pytest.approx(10 * small.extent)


def test_masked_pixels_are_ignored():
    gt = wall()
    pred = gt.copy()
    pred[:, :5] += 7
    valid = np.ones(gt.shape[:3], bool)
    valid[:, :5] = False
    assert point_metrics(pred, gt, valid=valid).chamfer == pytest.approx(0, abs=1e-6)


def test_invalid_input_raises():
    gt = wall()
    empty = gt.copy()
    empty[1] = np.nan
    with pytest.raises(ValueError, match="frame 1"):
        point_metrics(empty, gt)
    with pytest.raises(ValueError, match="two"):
        point_metrics(gt[0], gt)
    with pytest.raises(ValueError, match="extent"):
        point_metrics(gt, np.ones_like(gt))
