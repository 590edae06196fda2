"""Undistortion: pixels of the pinhole image show what the distorted image shows there."""

import numpy as np
import pytest

from fourdnex.annotation.undistortion import RadialCamera, undistort


@pytest.mark.parametrize("k1", [-0.12, 0.08])
def test_every_pixel_comes_from_inside_the_distorted_image(k1):
    camera = RadialCamera(focal=80.0, center_x=59.5, center_y=39.5, k1=k1, height=80, width=120)
    intrinsics = camera.pinhole()
    x, y = (0 - intrinsics[0, 2]) / intrinsics[0, 0], (0 - intrinsics[1, 2]) / intrinsics[1, 1]
    scale = 1 + k1 * (x * x + y * y)
    assert 80 * x * scale + 59.5 >= -0.5 and 80 * y * scale + 39.5 >= -0.5


def test_a_radial_gradient_is_undistorted():
    camera = RadialCamera(focal=100.0, center_x=79.5, center_y=59.5, k1=-0.1, height=120, width=160)
    y, x = np.mgrid[:120, :160]
    image = np.repeat((2 * np.hypot(x - 79.5, y - 59.5))[..., None], 3, axis=-1).clip(0, 255).astype(np.uint8)
    (found,) = undistort(image[None], camera)
    intrinsics = camera.pinhole()
    radius = 60 / intrinsics[0, 0]  # at column 139.5, on the axis
    expected = 2 * camera.focal * radius * (1 - 0.1 * radius**2)
    assert found[59:61, 139:141].mean() == pytest.approx(expected, abs=2)


def test_a_resized_camera_keeps_its_field_of_view():
    camera = RadialCamera(focal=100.0, center_x=79.5, center_y=59.5, k1=0.0, height=120, width=160)
    small = camera.resized(60, 80)
    assert (small.focal, small.center_x, small.center_y) == (50, 39.5, 29.5)
