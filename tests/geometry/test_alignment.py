import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fourdnex.geometry import align_depth_scale, icp, umeyama

TURN = Rotation.from_euler("xyz", [0.3, -0.5, 1.1]).as_matrix()


def test_umeyama_finds_the_similarity():
    source = np.random.default_rng(0).normal(size=(20, 3))
    scale, rotation, translation = umeyama(source, 2.5 * source @ TURN.T + [1, 2, 3])
    assert scale == pytest.approx(2.5)
    assert rotation == pytest.approx(TURN)
    assert translation == pytest.approx([1, 2, 3])


def test_umeyama_never_mirrors():
    source = np.random.default_rng(0).normal(size=(20, 3))
    _, rotation, _ = umeyama(source, source * [-1, 1, 1])
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_umeyama_ignores_points_with_weight_0():
    source = np.random.default_rng(0).normal(size=(20, 3))
    target = source @ TURN.T
    target[:5] += 100
    weights = np.r_[np.zeros(5), np.ones(15)]
    assert umeyama(source, target, weights=weights)[1] == pytest.approx(TURN)


def test_umeyama_without_scale_keeps_lengths():
    source = np.random.default_rng(0).normal(size=(20, 3))
    scale, rotation, _ = umeyama(source, 3 * source @ TURN.T, with_scale=False)
    assert scale == 1.0 and rotation == pytest.approx(TURN)


def test_umeyama_raises_for_coincident_points_and_wrong_shapes():
    with pytest.raises(ValueError, match="do not all coincide"):
        umeyama(np.ones((5, 3)), np.ones((5, 3)))
    with pytest.raises(ValueError, match="two"):
        umeyama(np.ones((5, 3)), np.ones((4, 3)))
    with pytest.raises(ValueError, match="finite"):
        umeyama(np.full((5, 3), np.nan), np.ones((5, 3)))


def test_depth_scale_is_the_l1_optimum_and_robust():
    gt = np.random.default_rng(0).uniform(1, 5, (2, 10, 10))
    pred = gt / 3
    pred[0, 0] *= 5  # 5 % outliers: least squares gives 1.6
    assert align_depth_scale(pred, gt) == pytest.approx(3, rel=1e-3)


def test_depth_scale_ignores_invalid_pixels():
    gt = np.array([2.0, 4.0, 0.0, np.nan])
    assert align_depth_scale(np.array([1.0, 2.0, 9.0, 9.0]), gt) == pytest.approx(2)
    with pytest.raises(ValueError, match="a valid pixel with depth"):
        align_depth_scale(np.ones(2), np.zeros(2))


def test_icp_inverts_a_small_motion():
    target = np.random.default_rng(0).uniform(size=(2000, 3))
    turn = Rotation.from_euler("z", 1, degrees=True).as_matrix()
    source = (target[:1500] - [0.01, 0, 0.01]) @ turn
    transform = icp(source, target, max_distance=0.1, max_iterations=50)
    assert source @ transform[:3, :3].T + transform[:3, 3] == pytest.approx(target[:1500], abs=1e-6)


def test_icp_without_near_points_is_the_identity():
    assert (icp(np.zeros((5, 3)), np.full((5, 3), 9.0), max_distance=0.1) == np.eye(4)).all()
