"""Upsampled depth: edges where the image has them, planes as they are, nothing between two surfaces."""

import cv2
import numpy as np
import pytest

from fourdnex.lifting import upsample_depth

NEAR, FAR = 2.0, 6.0


def _step(edge: int, *, width: int = 96, height: int = 64, zoom: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Depth [h, w] of a near half and a far one, and the image [H, W, 3] with a colored edge at column `edge`."""
    image = np.full((height, width, 3), (200, 60, 40), np.uint8)
    image[:, edge:] = (40, 90, 210)
    fine = np.where(np.arange(width) < edge, NEAR, FAR).astype(np.float32) * np.ones((height, 1), np.float32)
    return fine[zoom // 2 :: zoom, zoom // 2 :: zoom], image


@pytest.mark.parametrize("edge", [41, 45, 48, 51])
def test_a_jump_of_depth_lies_at_the_edge_of_the_image(edge):
    coarse, image = _step(edge)
    found = upsample_depth(coarse, image)
    assert found.shape == (64, 96) and found.dtype == np.float32
    np.testing.assert_allclose(found[:, : edge - 1], NEAR, rtol=1e-3)
    np.testing.assert_allclose(found[:, edge + 1 :], FAR, rtol=1e-3)


def test_no_point_hangs_between_two_surfaces_though_the_coarse_edge_is_smeared():
    coarse, image = _step(48)
    smeared = coarse.copy()
    smeared[:, 5], smeared[:, 6] = 2.8, 4.4  # as a decoder draws it
    found = upsample_depth(smeared, image)
    hanging = (np.abs(found - NEAR) > 0.03 * NEAR) & (np.abs(found - FAR) > 0.03 * FAR)
    cubic = cv2.resize(smeared, (96, 64), interpolation=cv2.INTER_CUBIC)
    hanging_before = (np.abs(cubic - NEAR) > 0.03 * NEAR) & (np.abs(cubic - FAR) > 0.03 * FAR)
    assert hanging_before.mean() > 0.15
    assert hanging.mean() < hanging_before.mean() / 10


def test_planes_stay_planes():
    # Inverse depth of a plane is linear in the image: ground from 0.5 at the bottom row to 0.1 at the top one.
    rows = (np.arange(64) + 0.5) / 64
    fine = 1 / (0.1 + 0.4 * rows)[:, None] * np.ones((1, 96))
    coarse = 1 / (0.1 + 0.4 * (np.arange(8) + 0.5) / 8)[:, None] * np.ones((1, 12))
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)
    found = upsample_depth(coarse.astype(np.float32), image)
    np.testing.assert_allclose(found[8:-8], fine[8:-8], rtol=0.01)


def test_pixels_without_depth_are_left_out():
    coarse, image = _step(48)
    coarse = coarse.copy()
    coarse[:, 0] = np.nan
    found = upsample_depth(coarse, image)
    assert np.isfinite(found[:, 16:]).all()
    assert np.isnan(upsample_depth(np.full((8, 12), np.nan, np.float32), image)).all()
