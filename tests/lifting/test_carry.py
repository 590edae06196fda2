"""The first frame's surface, seen by another camera."""

import numpy as np
import torch

from fourdnex.lifting.carry import FirstSurface

LENS = np.array([[40.0, 0, 23.5], [0, 40.0, 15.5], [0, 0, 1]])
DEPTH = 4.0


def _camera(x: float) -> np.ndarray:
    pose = np.eye(4)
    pose[0, 3] = x
    return pose


def test_a_wall_slides_by_the_parallax():
    surface = FirstSurface(torch.full((32, 48), DEPTH), LENS, np.eye(4))
    seen = surface.seen_by(_camera(0.25))  # 40 * 0.25 / 4 = 2.5 pixels to the left
    inner = np.s_[2:-2, 2:40]
    rows, columns = np.mgrid[:32, :48].astype(np.float32)
    np.testing.assert_allclose(seen.column[inner], columns[inner] + 2.5, atol=1e-3)
    np.testing.assert_allclose(seen.row[inner], rows[inner], atol=1e-3)
    np.testing.assert_allclose(seen.depth[inner], DEPTH, rtol=1e-5)
    assert not seen.seen[:, -2:].any()  # came into view from the right


def test_the_nearer_surface_hides_the_farther_one_and_uncovers_what_nothing_is_known_of():
    depth = torch.full((32, 48), 8.0)
    depth[:, 20:30] = 4.0
    seen = FirstSurface(depth, LENS, np.eye(4)).seen_by(_camera(0.4))  # near: 4 pixels, far: 2
    row = seen.depth[16]
    assert (row[16:26] - 4.0).abs().max() < 1e-4
    assert (row[:16] - 8.0).abs().max() < 1e-4
    assert row[26:28].isnan().all()  # between the near edge, gone 4 to the left, and the far one, gone 2
    assert (row[28:44] - 8.0).abs().max() < 1e-4


def test_moved_points_are_seen_where_they_went_and_unknown_ones_nowhere():
    surface = FirstSurface(torch.full((32, 48), DEPTH), LENS, np.eye(4))
    moved = torch.zeros(3, 32, 48)
    moved[0, :, :24] = 0.4  # 4 pixels to the right
    moved[:, :, 24:] = torch.nan
    seen = surface.seen_by(np.eye(4), moved)
    columns = torch.arange(48.0)
    assert (seen.column[16, 5:27] - (columns[5:27] - 4)).abs().max() < 1e-3
    assert not seen.seen[:, 29:].any()
