from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fourdnex.geometry import denormalize_pointmaps, normalize_pointmaps, sloped_plane

GOLDEN = Path(__file__).parents[1] / "golden"


def test_sloped_plane_equals_the_reference_implementation():
    golden = load_file(GOLDEN / "uniform_pointmap.safetensors")["uniform_pointmap"]  # [H, W, 3] in [0, 1]
    assert np.abs(sloped_plane(48, 64) - (2 * golden - 1)).max() < 1e-6


def test_sloped_plane_of_one_pixel_is_finite():
    assert np.isfinite(sloped_plane(1, 1)).all()


def ramp(num_frames: int = 3) -> np.ndarray:
    """x increases from 0 to 100 over the columns, y from 0 to 10 over the rows; z is the frame index."""
    points = np.zeros((num_frames, 101, 101, 3), np.float32)
    points[..., 0] = np.arange(101)
    points[..., 1] = np.linspace(0, 10, 101)[:, None]
    points[..., 2] = np.arange(num_frames)[:, None, None]
    return points


def test_clip_normalization_by_hand():
    normalized, n = normalize_pointmaps(ramp())
    # Percentiles of 0..100 are 2 and 98: center 50, half extent 48; of z (0, 1, 2): center 1.
    assert n.center == pytest.approx([50, 5, 1])
    assert n.scale == pytest.approx(48)
    assert normalized[0, 0, 100, 0] == pytest.approx(50 / 48), "values outside the percentiles are not clipped"
    assert normalized[2, 0, 0, 2] - normalized[0, 0, 0, 2] == pytest.approx(2 / 48), "motion between frames survives"


def test_clip_normalization_round_trip_is_exact():
    points = np.random.default_rng(0).normal(3, 20, (4, 8, 9, 3)).astype(np.float32)
    assert np.abs(denormalize_pointmaps(*normalize_pointmaps(points)) - points).max() < 1e-4


def test_frame_normalization_clips_and_centers_each_frame():
    normalized, n = normalize_pointmaps(ramp(), per="frame")
    assert n.center.shape == (3, 3)
    assert n.center[:, 2] == pytest.approx([0, 1, 2])
    assert n.scale == pytest.approx(48)
    assert normalized[..., 0].min() == pytest.approx(-1) and normalized[..., 0].max() == pytest.approx(1)
    restored = denormalize_pointmaps(normalized, n)
    assert restored == pytest.approx(np.clip(ramp(), [2, 0.2, 0], [98, 9.8, 2]), abs=1e-4)


def test_invalid_and_masked_pixels_are_ignored():
    points = ramp()
    points[:, :50] = 1e6
    points[0, 0, 0] = np.nan
    mask = np.ones(points.shape[:3], bool)
    mask[:, :50] = False
    normalized, n = normalize_pointmaps(points, mask=mask)
    assert n.scale == pytest.approx(48)
    assert np.isnan(normalized[0, 0, 0]).all() and np.isfinite(normalized[1:]).all()


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((4, 4, 3)), "T, H, W, 3"),
        (np.full((1, 4, 4, 3), np.nan), "valid pixel"),
        (np.ones((1, 4, 4, 3)), "extent"),
    ],
)
def test_invalid_pointmaps_raise(points, message):
    with pytest.raises(ValueError, match=message):
        normalize_pointmaps(points)


def test_unknown_normalization_raises():
    with pytest.raises(ValueError, match="'clip' or 'frame'"):
        normalize_pointmaps(ramp(), per="pixel")
