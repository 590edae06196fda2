"""Warping of the first frame's surface, at the photograph's resolution, to the cameras of other frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fourdnex.rendering.splat import MAX_FOOTPRINT, project_columns, splat, view_matrix

if TYPE_CHECKING:
    import torch

_MAX_STRETCH = 2.5
"""Maximum magnification along an axis; beyond it, neighbors are disconnected."""
_SAME_SURFACE = 1.04
"""Maximum depth ratio of neighboring pixels on one surface."""


@dataclass(frozen=True, eq=False)
class WarpedSurface:
    """The first frame's surface in the view of another camera, as a map for backward warping."""

    row: torch.Tensor  # [H, W] float32, position in the first frame; NaN where its surface is not visible
    column: torch.Tensor  # [H, W] float32
    depth: torch.Tensor  # [H, W] float32, z in this camera's frame; NaN where the surface is not visible

    @property
    def visible(self) -> torch.Tensor:
        """[H, W] bool: pixels that show the first frame's surface."""
        return self.depth.isfinite()


class FirstSurface:
    """The points of the first frame [H, W], to be moved and rendered from other cameras.

    Args:
        depth: [H, W] float32, NaN without a point.
        intrinsics: [3, 3] of the first camera, in pixels.
        camera_to_world: [4, 4] of the first camera.
    """

    def __init__(self, depth: torch.Tensor, intrinsics: np.ndarray, camera_to_world: np.ndarray) -> None:
        import torch

        self._intrinsics, self._pose = np.asarray(intrinsics, np.float64), camera_to_world
        k = self._intrinsics.tolist()
        rows, columns = (torch.arange(size, dtype=torch.float32, device=depth.device) for size in depth.shape)
        ray_y = ((rows - k[1][2]) / k[1][1])[:, None]
        self._x = ((columns - k[0][2]) / k[0][0] - ray_y * (k[0][1] / k[0][0])) * depth
        self._y = ray_y * depth
        self._z = depth
        self._below, self._right = _connected(depth[:-1], depth[1:]), _connected(depth[:, :-1], depth[:, 1:])

    @property
    def points(self) -> np.ndarray:
        """[3, H, W] float32 in the first camera's frame."""
        import torch

        return torch.stack([self._x, self._y, self._z]).cpu().numpy()

    def warp_to(self, camera_to_world: np.ndarray, motion: torch.Tensor | None = None) -> WarpedSurface:
        """The surface in the view of a camera [4, 4] with the same intrinsics.

        Args:
            motion: [3, H, W], displacement of every point in the first camera's frame; None is a static surface.
        """
        import torch

        x, y, z = self._x, self._y, self._z
        if motion is not None:
            x, y, z = x + motion[0], y + motion[1], z + motion[2]
        height, width = z.shape
        u, v, w = project_columns(x, y, z, view_matrix(self._intrinsics, camera_to_world, self._pose))
        extent_x, extent_y = _cell_extent(u, self._below, self._right), _cell_extent(v, self._below, self._right)
        columns = (values.reshape(-1) for values in (u, v, w, extent_x, extent_y))
        owner, depth = splat(*columns, height=height, width=width)
        visible = owner < z.numel()
        source = owner.clamp(max=z.numel() - 1)
        row, column = source // width, source % width
        # Subpixel position: the offset of the pixel from its point's projection, through the inverse Jacobian.
        offset_x = torch.arange(width, device=z.device) - u.view(-1)[source]
        offset_y = torch.arange(height, device=z.device)[:, None] - v.view(-1)[source]
        gradients = [_gradient(values, self._below, self._right) for values in (u, v, w)]
        (ux, uy), (vx, vy), (wx, wy) = ((g.view(-1)[source] for g in pair) for pair in gradients)
        determinant = ux * vy - uy * vx
        is_regular = determinant > 0.1
        step_x = ((vy * offset_x - uy * offset_y) / determinant).where(is_regular, 0.0).clamp_(-1, 1)
        step_y = ((ux * offset_y - vx * offset_x) / determinant).where(is_regular, 0.0).clamp_(-1, 1)
        depth = depth + wx * step_x + wy * step_y
        nan = torch.nan
        return WarpedSurface(
            row=(row + step_y).where(visible, nan),
            column=(column + step_x).where(visible, nan),
            depth=depth.where(visible, nan),
        )


def _connected(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Whether two depths belong to one surface."""
    import torch

    return torch.maximum(first, second) < _SAME_SURFACE * torch.minimum(first, second)


def _cell_extent(pixels: torch.Tensor, below: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Extent [H, W] of each point's cell along one image axis: the sum of the steps to its neighbors."""
    import torch

    extents = []
    for before, after, connected in ((np.s_[:-1], np.s_[1:], below), (np.s_[:, :-1], np.s_[:, 1:], right)):
        step = (pixels[after] - pixels[before]).abs_().where(connected, 0.0)
        step = step.where(step <= _MAX_STRETCH, 0.0)
        extent = torch.zeros_like(pixels)
        for side in (before, after):
            torch.maximum(extent[side], step, out=extent[side])
        extents.append(extent)
    return extents[0].add_(extents[1]).clamp_(1, MAX_FOOTPRINT)


def _gradient(values: torch.Tensor, below: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Derivatives of `values` [H, W] per column and per row, within surfaces; 0 across depth edges."""
    import torch

    dy, dx = torch.zeros_like(values), torch.zeros_like(values)
    dy[:-1] = (values[1:] - values[:-1]).where(below, 0.0)
    dy[1:] = dy[1:].where(dy[1:] != 0, dy[:-1])
    dx[:, :-1] = (values[:, 1:] - values[:, :-1]).where(right, 0.0)
    dx[:, 1:] = dx[:, 1:].where(dx[:, 1:] != 0, dx[:, :-1])
    return dx, dy
