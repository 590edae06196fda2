import numpy as np
import torch

from fourdnex.io.pixels import denormalize_pixels, normalize_pixels, pointmap_colors

LEVELS = np.arange(256, dtype=np.uint8)


def test_the_range_is_minus_one_to_one():
    np.testing.assert_array_equal(normalize_pixels(np.array([0, 255], np.uint8)), [-1, 1])
    assert normalize_pixels(LEVELS).dtype == np.float32


def test_numpy_and_torch_agree_and_invert_each_other():
    values = normalize_pixels(LEVELS)
    np.testing.assert_array_equal(normalize_pixels(torch.from_numpy(LEVELS)).numpy(), values)
    np.testing.assert_array_equal(denormalize_pixels(values), LEVELS)
    np.testing.assert_array_equal(denormalize_pixels(torch.from_numpy(values)).numpy(), LEVELS)


def test_values_outside_the_range_are_clipped():
    values = np.array([-3.0, 3.0], np.float32)
    np.testing.assert_array_equal(denormalize_pixels(values), [0, 255])
    np.testing.assert_array_equal(denormalize_pixels(torch.from_numpy(values)).numpy(), [0, 255])


def test_pointmap_colors_round_down():
    np.testing.assert_array_equal(pointmap_colors(np.array([-2.0, 0.0, 2.0])), [0, 127, 255])
