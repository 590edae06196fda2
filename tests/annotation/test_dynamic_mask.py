"""Dynamic masks: a square that crosses the epipolar lines is marked, a still scene is not."""

import numpy as np

from fourdnex.annotation.dense_depth import DenseDepth
from fourdnex.annotation.dynamic_mask import dynamic_mask
from tests.annotation.test_dense_depth import DEPTH, HEIGHT, WIDTH, plane_clip


def moving_square(rgb: np.ndarray) -> np.ndarray:
    """Draw a square that moves down by 3 pixels a frame into the frames, and return its mask."""
    rng = np.random.default_rng(1)
    patch = rng.integers(0, 255, (6, 6, 3)).repeat(4, axis=0).repeat(4, axis=1)
    mask = np.zeros(rgb.shape[:3], bool)
    for t in range(len(rgb)):
        rgb[t, 8 + 3 * t : 32 + 3 * t, 36:60] = patch
        mask[t, 8 + 3 * t : 32 + 3 * t, 36:60] = True
    return mask


def known_depth(unknown: np.ndarray) -> DenseDepth:
    """The depth of the plane, NaN where unknown."""
    depth = np.where(unknown, np.nan, DEPTH).astype(np.float32)
    return DenseDepth(depth, (~unknown).astype(np.float32))


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union."""
    return float((mask & truth).sum() / (mask | truth).sum())


def test_a_moving_square_is_marked_where_its_depth_is_unknown():
    rgb, structure = plane_clip(5)
    truth = moving_square(rgb)
    assert overlap(dynamic_mask(rgb, structure, known_depth(truth)), truth) > 0.6


def test_a_moving_square_is_marked_where_depth_is_known():
    rgb, structure = plane_clip(5)
    truth = moving_square(rgb)
    assert overlap(dynamic_mask(rgb, structure, known_depth(np.zeros_like(truth))), truth) > 0.6


def test_a_still_scene_is_not_marked_whether_its_depth_is_known_or_not():
    rgb, structure = plane_clip(5)
    for unknown in (False, True):
        still = np.full((5, HEIGHT, WIDTH), unknown)
        assert not dynamic_mask(rgb, structure, known_depth(still)).any()
