import numpy as np
import pytest

from fourdnex.io.resizing import center_crop, resize_and_crop, resize_frame


def test_a_wide_image_loses_both_sides_evenly():
    crop = center_crop((10, 40), 5, 10)
    assert (crop.scale_y, crop.scale_x, crop.top, crop.left) == (0.5, 0.5, 0, 10)
    assert crop.box == (10, 0, 30, 10)


def test_the_scales_differ_where_the_ratio_is_not_that_of_the_size():
    crop = center_crop((10, 40), 5, 10, ratio=(10, 40))
    assert (crop.scale_y, crop.scale_x) == (0.5, 0.25)
    assert crop.box == (0, 0, 40, 10)


@pytest.mark.parametrize("source", [(1344, 488), (428, 615), (1011, 82)])
def test_rounding_never_moves_the_box_out_of_the_image(source):
    for ratio in ((2, 3), source, (1.0, 1.0)):
        left, top, right, bottom = center_crop(source, 480, 720, ratio=ratio).box
        assert 0 <= left < right <= source[1] and 0 <= top < bottom <= source[0]


def test_shrinking_by_area_gives_means():
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 2:4] = 200
    assert resize_and_crop(image, 2, 2, shrink="area")[..., 0].tolist() == [[200, 0], [200, 0]]
    assert resize_frame(image, 2, 4)[..., 0].tolist() == [[0, 200, 0, 0]] * 2
    assert resize_frame(image, 4, 8) is image
