"""The fill of unknown points and the weights of latent cells, against values by hand."""

import numpy as np
import pytest

from fourdnex.latents.unknown_points import cell_weights, fill_unknown


def ramp(frames: int, height: int, width: int) -> np.ndarray:
    """Points whose coordinates are linear in frame, row and column."""
    t, y, x = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
    return np.stack([x / width, y / height, t / frames], axis=-1).astype(np.float32)


def test_known_points_do_not_change_and_a_fully_known_clip_is_returned_as_it_is():
    points, known = ramp(5, 16, 24), np.ones((5, 16, 24), bool)
    assert fill_unknown(points, known) is points
    known[:, 4:9, 6:15] = False
    filled = fill_unknown(np.where(known[..., None], points, np.nan), known)
    assert np.array_equal(filled[known], points[known])
    assert np.isfinite(filled).all()


def test_one_unknown_pixel_takes_the_value_around_it():
    points, known = np.full((1, 4, 4, 3), 0.5, np.float32), np.ones((1, 4, 4), bool)
    known[0, 1, 2] = False
    points[0, 1, 2] = 77  # whatever is stored there is ignored
    assert fill_unknown(points, known)[0, 1, 2] == pytest.approx([0.5] * 3)


def test_a_hole_in_a_ramp_is_filled_without_a_cliff():
    points, known = ramp(5, 32, 48), np.ones((5, 32, 48), bool)
    known[:, 10:22, 12:36] = False
    filled = fill_unknown(np.where(known[..., None], points, np.nan), known)
    assert np.abs(filled - points).max() < 0.25
    zeroed = np.where(known[..., None], points, 0)
    step, cliff = (np.abs(np.diff(array, axis=2)).max() for array in (filled, zeroed))
    assert step < 0.5 * cliff


def test_a_frame_without_known_pixels_is_filled_from_other_frames():
    points, known = np.zeros((5, 8, 8, 3), np.float32), np.ones((5, 8, 8), bool)
    points[:] = np.array([0.1, 0.2, 0.3], np.float32)
    known[2] = False
    assert fill_unknown(points, known)[2] == pytest.approx(np.broadcast_to([0.1, 0.2, 0.3], (8, 8, 3)), abs=1e-6)
    with pytest.raises(ValueError, match="known: expected at least one pixel, got none"):
        fill_unknown(points, np.zeros((5, 8, 8), bool))


def test_a_cell_has_the_mean_weight_of_its_pixels_and_the_first_frame_stands_alone():
    weight = np.ones((5, 4, 4), np.float32)
    weight[0, :2, :2] = 0.5
    weight[0, 0, 0] = 0.1  # the first cell of the first frame: (0.1 + 3 * 0.5) / 4
    weight[3, 2:, 2:] = 0.0  # one of four frames of the last cell
    cells = cell_weights(weight, num_latent_frames=2, height=2, width=2, temporal_factor=4)
    assert cells.shape == (2, 2, 2)
    assert cells[0] == pytest.approx(np.array([[0.4, 1.0], [1.0, 1.0]]))
    assert cells[1] == pytest.approx(np.array([[1.0, 1.0], [1.0, 0.75]]))
    with pytest.raises(
        ValueError, match=r"weight: expected a size that fits \(2, 3, 2\) latent cells, got \(5, 4, 4\)"
    ):
        cell_weights(weight, num_latent_frames=2, height=3, width=2, temporal_factor=4)
