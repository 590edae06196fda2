"""Image and motion scores against hand-derived values."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from fourdnex.clip import Clip
from fourdnex.curation.image import image_scores
from fourdnex.curation.motion import motion_scores
from fourdnex.datasets.worlds import render_world


def still(image: np.ndarray, frames: int = 5) -> Clip:
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    return Clip(name="clip", rgb=np.repeat(image[None].astype(np.uint8), frames, axis=0))


def steps(noise: float = 0.0) -> np.ndarray:
    """Vertical bands of 40 and 200, 20 pixels wide."""
    image = np.where(np.arange(240) // 20 % 2, 200.0, 40.0) * np.ones((160, 1))
    return np.clip(image + np.random.default_rng(0).normal(0, noise, image.shape), 0, 255)


def test_brightness_contrast_and_bright_share():
    scores = image_scores(still(np.where(np.arange(240) < 60, 255, 55) * np.ones((160, 1))))
    assert scores.brightness == pytest.approx(105) and scores.bright_share == pytest.approx(0.25)
    # A quarter at 255 and the rest at 55: 200 * sqrt(0.25 * 0.75).
    assert scores.contrast == pytest.approx(86.6, abs=0.1)
    assert scores.frames == 5


@pytest.mark.parametrize("sigma", [2.0, 4.0])
def test_sharpness_is_the_ratio_of_edge_widths(sigma):
    # Variances add: smoothing by 0.8 and a central difference over 2 pixels (4 / 12) at each scale, the blur in
    # pixels of the scale, and at the coarse scale the mean of 4 pixels (16 / 12 / 16).
    fine = 0.8**2 + 4 / 12 + sigma**2
    coarse = 0.8**2 + 4 / 12 + sigma**2 / 16 + 1 / 12
    expected = (coarse / fine) ** 0.5
    assert image_scores(still(cv2.GaussianBlur(steps(), (0, 0), sigma))).sharpness == pytest.approx(expected, abs=0.06)


def test_sharpness_of_steps_is_high_and_robust_to_noise():
    assert image_scores(still(steps())).sharpness > 0.8
    blurred = cv2.GaussianBlur(steps(), (0, 0), 3)
    noisy = np.clip(blurred + np.random.default_rng(1).normal(0, 6, blurred.shape), 0, 255)
    first, second = image_scores(still(blurred)), image_scores(still(noisy))
    assert second.sharpness == pytest.approx(first.sharpness, abs=0.06)
    assert first.noise < 0.5 and second.noise == pytest.approx(6, rel=0.15)


def test_flat_image_has_no_sharpness():
    assert np.isnan(image_scores(still(np.full((160, 240), 90.0))).sharpness)


def test_bar_share_of_bars_on_two_sides():
    image = np.full((160, 240), 120.0)
    image[:16] = image[-16:] = 3
    assert image_scores(still(image)).bar_share == pytest.approx(0.2)
    image[:, :24] = image[:, -24:] = 3
    assert image_scores(still(image)).bar_share == pytest.approx(1 - 0.8 * 0.8)


def test_dark_scenery_and_black_clips_have_no_bars():
    rows, columns = np.mgrid[:160, :240]
    scenery = np.where(rows > 130 - 25 * np.sin(columns / 20), 4.0, 120.0)
    assert image_scores(still(scenery)).bar_share == 0
    assert image_scores(still(np.zeros((160, 240)))).bar_share == 0


def test_sky_share_counts_smooth_blue_areas_at_the_top():
    image = np.zeros((160, 240, 3))
    image[:80], image[80:] = (120, 160, 230), (90, 80, 40)
    assert image_scores(still(image)).sky_share == pytest.approx(0.5, abs=0.05)
    assert image_scores(still(image[::-1])).sky_share == 0


def test_shake_is_the_change_of_global_motion():
    texture = cv2.GaussianBlur(np.random.default_rng(2).uniform(0, 255, (104, 136, 3)), (0, 0), 2)
    texture = (texture - texture.min()) / np.ptp(texture) * 255
    offsets = np.arange(9) % 2 * 4  # 4 pixels to and fro: the motion changes by 8 of 96 pixels
    shaking = np.stack([texture[20:84, 20 + x : 116 + x] for x in offsets]).astype(np.uint8)
    panning = np.stack([texture[20:84, 20 + 2 * x : 116 + 2 * x] for x in range(9)]).astype(np.uint8)
    assert motion_scores(Clip(name="shaking", rgb=shaking)).shake == pytest.approx(800 / 96, rel=0.1)
    scores = motion_scores(Clip(name="panning", rgb=panning))
    assert scores.shake < 0.5 and scores.flow == pytest.approx(2, rel=0.15)


def test_frozen_share_and_cut_of_a_world():
    world = render_world(100_003)
    frozen = np.concatenate([world.rgb[:5], np.repeat(world.rgb[5:6], 12, axis=0)])
    # 11 of 16 pairs repeat the sixth frame, and the twelve copies of it make 11 pairs without change.
    assert motion_scores(replace(world, rgb=frozen)).frozen_share == pytest.approx(11 / 16)
    assert motion_scores(world).frozen_share == 0
    cut = np.concatenate([world.rgb[:8], render_world(100_007).rgb[8:]])
    assert motion_scores(replace(world, rgb=cut)).cut > 0.3 > 3 * motion_scores(world).cut


def test_one_frame_has_no_motion():
    assert motion_scores(still(steps(), frames=1)).motion == 0
