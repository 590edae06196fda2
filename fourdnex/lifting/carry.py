"""The first frame's surface, at the image's resolution, as the other frames' cameras see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fourdnex.rendering.splat import MAX_FOOTPRINT, project_columns, splat, view_matrix

if TYPE_CHECKING:
    import torch

_STRETCH = 2.5
"""A surface that this frame shows more than so many times as large, along an axis, is torn rather than stretched."""
_SAME_SURFACE = 1.04
"""Depths of neighboring pixels on one surface differ by less than this factor."""


@dataclass(frozen=True, eq=False)
class Carried:
    """What one frame sees of the first frame's surface."""

    row: torch.Tensor  # [H, W] float32, place in the first frame; NaN where its surface is not seen
    column: torch.Tensor  # [H, W] float32
    depth: torch.Tensor  # [H, W] float32, z in this frame's camera; NaN where it is not seen

    @property
    def seen(self) -> torch.Tensor:
        return self.depth.isfinite()


class FirstSurface:
    """The points of the first frame [H, W], to be moved and looked at by other cameras.

    Args:
        depth: [H, W] float32, NaN where there is no point.
        intrinsics: [3, 3] of its camera, in pixels.
        camera_to_world: [4, 4] of its camera.
    """

    def __init__(self, depth: torch.Tensor, intrinsics: np.ndarray, camera_to_world: np.ndarray) -> None:
        import torch

        self._lens, self._pose = np.asarray(intrinsics, np.float64), camera_to_world
        lens = self._lens.tolist()
        rows, columns = (torch.arange(size, dtype=torch.float32, device=depth.device) for size in depth.shape)
        down = ((rows - lens[1][2]) / lens[1][1])[:, None]
        self._x = ((columns - lens[0][2]) / lens[0][0] - down * (lens[0][1] / lens[0][0])) * depth
        self._y = down * depth
        self._z = depth
        self._below, self._right = _joined(depth[:-1], depth[1:]), _joined(depth[:, :-1], depth[:, 1:])

    @property
    def points(self) -> np.ndarray:
        """[3, H, W] float32 in the camera's axes."""
        import torch

        return torch.stack([self._x, self._y, self._z]).cpu().numpy()

    def seen_by(self, camera_to_world: np.ndarray, moved: torch.Tensor | None = None) -> Carried:
        """What a camera [4, 4] with the same lens sees of the surface.

        Args:
            moved: [3, H, W], how far every point has moved, in the first camera's axes; None: not at all.
        """
        import torch

        x, y, z = self._x, self._y, self._z
        if moved is not None:
            x, y, z = x + moved[0], y + moved[1], z + moved[2]
        height, width = z.shape
        u, v, w = project_columns(x, y, z, view_matrix(self._lens, camera_to_world, self._pose))
        across, down = _cell(u, self._below, self._right), _cell(v, self._below, self._right)
        owner, depth = splat(*(values.reshape(-1) for values in (u, v, w, across, down)), height=height, width=width)
        known = owner < z.numel()
        source = owner.clamp(max=z.numel() - 1)
        row, column = source // width, source % width
        # A pixel lies a little beside the point that owns it: the place between the points follows from how they
        # spread here.
        off_x = torch.arange(width, device=z.device) - u.view(-1)[source]
        off_y = torch.arange(height, device=z.device)[:, None] - v.view(-1)[source]
        spread = [_gradient(values, self._below, self._right) for values in (u, v, w)]
        (ux, uy), (vx, vy), (wx, wy) = ((g.view(-1)[source] for g in pair) for pair in spread)
        determinant = ux * vy - uy * vx
        sound = determinant > 0.1
        step_x = ((vy * off_x - uy * off_y) / determinant).where(sound, 0.0).clamp_(-1, 1)
        step_y = ((ux * off_y - vx * off_x) / determinant).where(sound, 0.0).clamp_(-1, 1)
        depth = depth + wx * step_x + wy * step_y
        nan = torch.nan
        return Carried(
            row=(row + step_y).where(known, nan),
            column=(column + step_x).where(known, nan),
            depth=depth.where(known, nan),
        )


def _joined(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.maximum(one, other) < _SAME_SURFACE * torch.minimum(one, other)


def _cell(pixels: torch.Tensor, below: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Extent [H, W] along one axis of the view of what each point covers: the steps to its neighbors, added."""
    import torch

    extents = []
    for before, after, joined in ((np.s_[:-1], np.s_[1:], below), (np.s_[:, :-1], np.s_[:, 1:], right)):
        step = (pixels[after] - pixels[before]).abs_().where(joined, 0.0)
        step = step.where(step <= _STRETCH, 0.0)
        extent = torch.zeros_like(pixels)
        for side in (before, after):
            torch.maximum(extent[side], step, out=extent[side])
        extents.append(extent)
    return extents[0].add_(extents[1]).clamp_(1, MAX_FOOTPRINT)


def _gradient(values: torch.Tensor, below: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Change of `values` [H, W] a column and a row, on the surface of each pixel; 0 beside a jump."""
    import torch

    down, across = torch.zeros_like(values), torch.zeros_like(values)
    down[:-1] = (values[1:] - values[:-1]).where(below, 0.0)
    down[1:] = down[1:].where(down[1:] != 0, down[:-1])
    across[:, :-1] = (values[:, 1:] - values[:, :-1]).where(right, 0.0)
    across[:, 1:] = across[:, 1:].where(across[:, 1:] != 0, across[:, :-1])
    return across, down
