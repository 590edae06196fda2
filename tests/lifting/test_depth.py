"""Upsampled depth: edges aligned with the image, exact planes, no flying pixels."""

import cv2
import numpy as np
import pytest

from fourdnex.lifting import upsample_depth

NEAR, FAR = 2.0, 6.0


def _step(edge: int, *, width: int = 96, height: int = 64, zoom: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Depth [h, w] with a near and a far half, and the image [H, W, 3] with a color edge at column `edge`."""
    image = np.full((height, width, 3), (200, 60, 40), np.uint8)
    image[:, edge:] = (40, 90, 210)
    fine = np.where(np.arange(width) < edge, NEAR, FAR).astype(np.float32) * np.ones((height, 1), np.float32)
    return fine[zoom // 2 :: zoom, zoom // 2 :: zoom], image


@pytest.mark.parametrize("edge", [41, 45, 48, 51])
def test_depth_edge_is_aligned_with_the_image_edge(edge):
    coarse, image = _step(edge)
    found = upsample_depth(coarse, image)
    assert found.shape == (64, 96) and found.dtype == np.float32
    np.testing.assert_allclose(found[:, : edge - 1], NEAR, rtol=1e-3)
    np.testing.assert_allclose(found[:, edge + 1 :], FAR, rtol=1e-3)


def test_interpolated_coarse_edges_give_few_flying_pixels():
    coarse, image = _step(48)
    interpolated = coarse.copy()
    interpolated[:, 5], interpolated[:, 6] = 2.8, 4.4  # as from a decoder
    found = upsample_depth(interpolated, image)
    flying = (np.abs(found - NEAR) > 0.03 * NEAR) & (np.abs(found - FAR) > 0.03 * FAR)
    cubic = cv2.resize(interpolated, (96, 64), interpolation=cv2.INTER_CUBIC)
    flying_before = (np.abs(cubic - NEAR) > 0.03 * NEAR) & (np.abs(cubic - FAR) > 0.03 * FAR)
    assert flying_before.mean() > 0.15
    assert flying.mean() < flying_before.mean() / 10


def test_planes_are_preserved():
    # Inverse depth of a plane is linear in the image: here a ground plane from 0.1 at the top to 0.5 at the bottom.
    rows = (np.arange(64) + 0.5) / 64
    fine = 1 / (0.1 + 0.4 * rows)[:, None] * np.ones((1, 96))
    coarse = 1 / (0.1 + 0.4 * (np.arange(8) + 0.5) / 8)[:, None] * np.ones((1, 12))
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)
    found = upsample_depth(coarse.astype(np.float32), image)
    np.testing.assert_allclose(found[8:-8], fine[8:-8], rtol=0.01)


def test_pixels_without_depth_are_ignored():
    coarse, image = _step(48)
    coarse = coarse.copy()
    coarse[:, 0] = np.nan
    found = upsample_depth(coarse, image)
    assert np.isfinite(found[:, 16:]).all()
    assert np.isnan(upsample_depth(np.full((8, 12), np.nan, np.float32), image)).all()
