import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fourdnex.geometry.rotations import (
    rotation_angle,
    rotation_angle_from_trace,
    rotation_from_vector,
    rotation_vector,
)

VECTORS = np.random.default_rng(0).normal(size=(20, 3))


def test_rotations_equal_those_of_scipy():
    rotations = rotation_from_vector(VECTORS)
    np.testing.assert_allclose(rotations, Rotation.from_rotvec(VECTORS).as_matrix(), atol=1e-12)
    expected = Rotation.from_matrix(rotations).magnitude()
    np.testing.assert_allclose(rotation_angle(rotations), expected, atol=1e-12)
    np.testing.assert_allclose(rotation_angle_from_trace(rotations), expected, atol=1e-7)


def test_the_vector_of_a_rotation_inverts_its_matrix():
    vectors = 0.9 * VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    np.testing.assert_allclose(rotation_vector(rotation_from_vector(vectors)), vectors, atol=1e-12)
    np.testing.assert_array_equal(rotation_vector(np.eye(3)[None]), [[0, 0, 0]])


def test_small_angles_need_sine_and_cosine():
    rotation = rotation_from_vector(np.array([[0, 1e-9, 0]]))
    assert rotation_angle(rotation)[0] == pytest.approx(1e-9)
    assert rotation_angle_from_trace(rotation)[0] == 0
