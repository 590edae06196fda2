"""The first frame's surface, warped to another camera."""

import numpy as np
import torch

from fourdnex.lifting.warping import FirstSurface

INTRINSICS = np.array([[40.0, 0, 23.5], [0, 40.0, 15.5], [0, 0, 1]])
DEPTH = 4.0


def _camera(x: float) -> np.ndarray:
    pose = np.eye(4)
    pose[0, 3] = x
    return pose


def test_wall_shifts_by_its_parallax():
    surface = FirstSurface(torch.full((32, 48), DEPTH), INTRINSICS, np.eye(4))
    warped = surface.warp_to(_camera(0.25))  # 40 * 0.25 / 4 = 2.5 pixels to the left
    inner = np.s_[2:-2, 2:40]
    rows, columns = np.mgrid[:32, :48].astype(np.float32)
    np.testing.assert_allclose(warped.column[inner], columns[inner] + 2.5, atol=1e-3)
    np.testing.assert_allclose(warped.row[inner], rows[inner], atol=1e-3)
    np.testing.assert_allclose(warped.depth[inner], DEPTH, rtol=1e-5)
    assert not warped.visible[:, -2:].any()  # enters from the right


def test_nearer_surface_occludes_and_disoccludes():
    depth = torch.full((32, 48), 8.0)
    depth[:, 20:30] = 4.0
    warped = FirstSurface(depth, INTRINSICS, np.eye(4)).warp_to(_camera(0.4))  # near surface: 4 pixels, far surface: 2
    row = warped.depth[16]
    assert (row[16:26] - 4.0).abs().max() < 1e-4
    assert (row[:16] - 8.0).abs().max() < 1e-4
    assert row[26:28].isnan().all()  # between the near edge, shifted left by 4, and the far edge, shifted by 2
    assert (row[28:44] - 8.0).abs().max() < 1e-4


def test_points_move_and_those_of_unknown_motion_are_invisible():
    surface = FirstSurface(torch.full((32, 48), DEPTH), INTRINSICS, np.eye(4))
    motion = torch.zeros(3, 32, 48)
    motion[0, :, :24] = 0.4  # 4 pixels to the right
    motion[:, :, 24:] = torch.nan
    warped = surface.warp_to(np.eye(4), motion)
    columns = torch.arange(48.0)
    assert (warped.column[16, 5:27] - (columns[5:27] - 4)).abs().max() < 1e-3
    assert not warped.visible[:, 29:].any()
