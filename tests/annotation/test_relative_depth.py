"""Depth from relative inverse depth: exact where the prior holds, and invariant to scale and shift."""

import numpy as np
import pytest

from fourdnex.annotation.relative_depth import FAR_TO_NEAR, MEDIAN_DEPTH, depth_from_inverse


@pytest.fixture(scope="module")
def depth():
    """Depth whose 2nd and 98th percentiles fit the prior; 1/depth is uniform between them."""
    inverse = np.linspace(1, FAR_TO_NEAR, 97)
    inverse = np.concatenate([[1, 1], inverse, [FAR_TO_NEAR] * 2])[None].repeat(3, axis=0)
    return 10 / inverse


def test_depth_that_fits_the_prior_is_recovered_up_to_scale(depth):
    found = depth_from_inverse(1 / depth)
    assert found.dtype == np.float32
    assert found == pytest.approx(depth * MEDIAN_DEPTH / np.median(depth), rel=1e-2)


def test_scale_and_shift_of_the_inverse_depth_have_no_effect(depth):
    assert depth_from_inverse(7 / depth - 3) == pytest.approx(depth_from_inverse(1 / depth), rel=1e-5)


def test_the_depth_of_the_sky_is_bounded():
    inverse = np.linspace(0.5, 1.0, 1000).reshape(10, 100)
    inverse[0, :10] = -50.0
    found = depth_from_inverse(inverse)
    assert found.max() == pytest.approx(3 * np.percentile(found, 97), rel=0.1)


def test_invalid_pixels_stay_invalid_and_a_constant_image_is_a_plane():
    inverse = np.array([[1.0, np.nan], [1.0, 1.0]])
    found = depth_from_inverse(inverse)
    assert np.isnan(found[0, 1]) and found[1, 1] == MEDIAN_DEPTH
    assert np.isnan(depth_from_inverse(np.full((2, 2), np.nan))).all()
