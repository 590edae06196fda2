"""Relative inverse depth: exact where the prior is right, the same for any scale and shift."""

import numpy as np
import pytest

from fourdnex.annotation.relative_depth import FAR_TO_NEAR, MEDIAN_DEPTH, depth_of_inverse


@pytest.fixture(scope="module")
def depth():
    """Depth whose 2nd and 98th percentiles are as the prior says: 1/depth is level in between."""
    inverse = np.linspace(1, FAR_TO_NEAR, 97)
    inverse = np.concatenate([[1, 1], inverse, [FAR_TO_NEAR] * 2])[None].repeat(3, axis=0)
    return 10 / inverse


def test_depth_that_keeps_the_prior_comes_back_but_for_its_scale(depth):
    found = depth_of_inverse(1 / depth)
    assert found.dtype == np.float32
    assert found == pytest.approx(depth * MEDIAN_DEPTH / np.median(depth), rel=1e-2)


def test_scale_and_shift_of_the_inverse_do_not_matter(depth):
    assert depth_of_inverse(7 / depth - 3) == pytest.approx(depth_of_inverse(1 / depth), rel=1e-5)


def test_an_endless_sky_ends():
    inverse = np.linspace(0.5, 1.0, 1000).reshape(10, 100)
    inverse[0, :10] = -50.0
    found = depth_of_inverse(inverse)
    assert found.max() == pytest.approx(3 * np.percentile(found, 97), rel=0.1)


def test_unknown_pixels_stay_unknown_and_a_level_image_is_a_wall():
    inverse = np.array([[1.0, np.nan], [1.0, 1.0]])
    found = depth_of_inverse(inverse)
    assert np.isnan(found[0, 1]) and found[1, 1] == MEDIAN_DEPTH
    assert np.isnan(depth_of_inverse(np.full((2, 2), np.nan))).all()
