"""Denormalization of generated point maps to world units."""

import numpy as np
import pytest

from fourdnex.geometry.pointmaps import normalize_pointmaps
from fourdnex.model.adapter_files import AdapterInfo
from fourdnex.model.denormalization import denormalize_to_world

POINTS = np.random.default_rng(0).normal(size=(3, 8, 12, 3)).astype(np.float32) * 2 + np.float32([0, 1, 9])


def test_median_center_and_scale_without_a_first_pointmap():
    info = AdapterInfo(rank=1, alpha=1.0, center=(1.0, 2.0, 3.0), scale=4.0)
    xyz, _ = normalize_pointmaps(POINTS)
    assert np.allclose(denormalize_to_world(xyz, info), xyz * 4 + np.array([1, 2, 3]), atol=1e-5)
    assert denormalize_to_world(xyz, None) is xyz


def test_first_pointmap_sets_position_and_unit():
    """Exact normalized points are recovered exactly, for any median center and scale."""
    info = AdapterInfo(rank=1, alpha=1.0, center=(50.0, 0.0, 0.0), scale=0.1, xyz_init="pointmap")
    xyz, _ = normalize_pointmaps(POINTS)
    assert np.allclose(denormalize_to_world(xyz, info, POINTS[0]), POINTS, atol=1e-4)
    holes = POINTS[0].copy()
    holes[:2, :3] = np.nan
    assert np.allclose(denormalize_to_world(xyz, info, holes), POINTS, atol=0.8)
    with pytest.raises(ValueError, match=r"expected points with .* extent"):
        denormalize_to_world(np.zeros_like(xyz), info, POINTS[0])
