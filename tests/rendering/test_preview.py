import numpy as np
import pytest

from fourdnex.rendering import (
    colorize_depth,
    colorize_points,
    contact_sheet,
    preview_image,
)
from fourdnex.scene import Scene4D


def test_near_is_bright_and_invalid_is_gray():
    depth = np.array([[1.0, 2.0, 4.0, np.nan, -1.0]])
    colors = colorize_depth(depth)[0].astype(int)
    assert colors[0].sum() > colors[1].sum() > colors[2].sum()
    assert (colors[3:] == 128).all()


def test_limits_make_colors_comparable():
    first, second = np.array([[1.0, 2.0]]), np.array([[2.0, 9.0]])
    a, b = (colorize_depth(depth, near=1, far=10) for depth in (first, second))
    assert (a[0, 1] == b[0, 0]).all()


def test_invalid_input_is_gray():
    assert (colorize_depth(np.full((2, 2), np.nan)) == 128).all()
    assert (colorize_points(np.full((2, 2, 3), np.nan)) == 128).all()


def test_contact_sheet_places_images_in_rows():
    images = [np.full((4, 6, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = contact_sheet(images, 2, gap=1)
    assert sheet.shape == (2 * 5 + 1, 2 * 7 + 1, 3)
    assert (sheet[1:5, 1:7] == 10).all() and (sheet[1:5, 8:14] == 20).all() and (sheet[6:10, 1:7] == 30).all()
    assert (sheet[6:10, 8:14] == 255).all()


def test_contact_sheet_refuses_what_does_not_fit():
    image = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(ValueError, match="one size"):
        contact_sheet([image, image[:2]], 2)
    with pytest.raises(ValueError, match="labels"):
        contact_sheet([image], 1, labels=["a", "b"])
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], 2)


@pytest.mark.parametrize("depth", [2.0, np.nan])
def test_preview_starts_with_the_input(depth):
    rgb = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), dtype=np.uint8)
    scene = Scene4D(
        rgb=rgb,
        depth=np.full((3, 16, 24), depth),
        intrinsics=np.array([[24.0, 0, 11.5], [0, 24, 7.5], [0, 0, 1]]),
        camera_to_world=np.tile(np.eye(4), (3, 1, 1)),
    )
    image = preview_image(scene, panel_width=48)
    assert image.dtype == np.uint8
    assert (image[4 : 4 + 32, 4 : 4 + 48] == rgb[0].repeat(2, axis=0).repeat(2, axis=1)).all()


def test_point_colors_encode_distance_and_direction():
    points = np.zeros((1, 101, 3))
    points[0, :, 2] = np.arange(101)
    colors = colorize_points(points)[0].astype(int)
    assert (np.diff(colors.sum(-1)) <= 0).all() and colors[0].sum() - colors[100].sum() > 300
    points[0, :, 0] = np.arange(101)
    left, right = colorize_points(points)[0, [0, 100]].astype(int)
    assert left[1] > left[0] and right[0] > right[1]  # green, magenta
    points[0, 3] = np.nan
    assert (colorize_points(points)[0, 3] == 128).all()
