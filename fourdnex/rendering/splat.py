"""Point splatting with a z-buffer, in torch: every point covers a rectangle of whole pixels.

Depth and index of a point are packed into one 64-bit integer, so that one scatter-minimum finds the nearest point of
every pixel. This needs no sorting and is deterministic on CPU and GPU.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fourdnex.geometry.cameras import invert_pose

if TYPE_CHECKING:
    import torch

MAX_FOOTPRINT = 8
"""Maximum size of a point's rectangle in pixels, so that a point close to the camera does not cover the image."""
DEPTH_BIAS = 0.01
"""Relative depth bias per pixel of horizontal and of vertical distance from a point's center. On one surface, it
assigns a pixel to the point with the nearest center, which keeps images sharp, and it does not affect occlusion."""

_EMPTY = 0x7F800000 << 32  # infinite depth


@dataclass(frozen=True, eq=False)
class Splat:
    """One rendered view."""

    image: np.ndarray  # [H, W, 3] uint8
    depth: np.ndarray  # [H, W] float32, z in the camera's frame; infinite without a point


def splat(
    x: "torch.Tensor",
    y: "torch.Tensor",
    z: "torch.Tensor",
    extent_x: "torch.Tensor",
    extent_y: "torch.Tensor",
    *,
    height: int,
    width: int,
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Find the nearest point of every pixel.

    Args:
        x, y: [N] float32, pixel coordinates in the view.
        z: [N] float32, depth; points with NaN or without positive depth are not drawn.
        extent_x, extent_y: [N] float32, size in pixels; rounded up and clamped to 1 to `MAX_FOOTPRINT`.

    Returns:
        owner [H, W] int64, the index of the point, N without a point; depth [H, W] float32, its z or infinity.
    """
    import torch

    margin = MAX_FOOTPRINT
    extent_x, extent_y = ((size - 0.003).ceil_().clamp_(1, MAX_FOOTPRINT) for size in (extent_x, extent_y))
    # Top left pixel of the rectangle. The buffer has a margin, so that no index is out of bounds.
    left = torch.floor(x - extent_x * 0.5 + 1)
    top = torch.floor(y - extent_y * 0.5 + 1)
    visible = (z > 0) & (z < torch.inf)
    visible &= (left > -margin) & (left < width) & (top > -margin) & (top < height)
    stride = width + 2 * margin
    size = (height + 2 * margin) * stride
    buffer = torch.full((size,), _EMPTY, dtype=torch.int64, device=x.device)
    depth = torch.cat([z, z.new_tensor([torch.inf])])

    exact = torch.float32 if size < 2**24 else torch.float64
    index = top.to(exact).add(margin).mul_(stride).add_(left).add_(margin).where(visible, 0).long()
    # Invisible points get extent 0. `offset_x` and `offset_y` are the first pixel relative to the point's center.
    offset_x, offset_y, z = (values.where(visible, 1) for values in (left - x, top - y, z))
    extent_x, extent_y = extent_x.where(visible, 0), extent_y.where(visible, 0)
    ids, largest = torch.arange(len(z), dtype=torch.int32, device=z.device), torch.maximum(extent_x, extent_y)
    keys, ranks = _keys(ids)
    columns: list[torch.Tensor] = []
    rows: list[torch.Tensor] = []
    for ring in range(MAX_FOOTPRINT):
        keep = (largest > ring).nonzero().squeeze(1) if ring else largest  # the first ring draws all points
        if len(keep) == 0:
            break
        if 2 * len(keep) < len(largest):
            ids, z, extent_x, extent_y, offset_x, offset_y, index, largest = (
                values.index_select(0, keep)
                for values in (ids, z, extent_x, extent_y, offset_x, offset_y, index, largest)
            )
            keys, ranks = _keys(ids)
            columns, rows = [], []
        # The rank of a point at a pixel is its biased depth: the sum of a column term, which is infinite outside of the
        # rectangle, and a row term.
        for i in range(len(columns), ring + 1):
            columns.append((offset_x + i).abs_().mul_(DEPTH_BIAS).add_(1).mul_(z).where(extent_x > i, torch.inf))
            rows.append((offset_y + i).abs_().mul_(DEPTH_BIAS).mul_(z).where(extent_y > i, torch.inf))
        # Pixels of the rectangle whose larger coordinate is `ring`: the rings cover every pixel once.
        for row, column in [(ring, i) for i in range(ring + 1)] + [(i, ring) for i in range(ring)]:
            torch.add(columns[column], rows[row], out=ranks)
            buffer[row * stride + column :].scatter_reduce_(0, index, keys, "amin")
    inner = buffer.view(-1, stride)[margin : margin + height, margin : margin + width]
    owner = (inner & 0xFFFFFFFF).where(inner < _EMPTY, len(depth) - 1)
    return owner, depth.index_select(0, owner.view(-1)).view(height, width)


def _keys(ids: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """Keys [N] int64, and a view of their upper halves, the ranks [N] float32; the lower halves are `ids`.

    Positive floats keep their order when their bits are read as integers. Requires a little-endian machine, like all
    that torch supports.
    """
    import torch

    halves = torch.empty((len(ids), 2), dtype=torch.int32, device=ids.device)
    halves[:, 0] = ids
    return halves.view(torch.int64).view(-1), halves.view(torch.float32)[:, 1]


def paint(owner: "torch.Tensor", rgb: "torch.Tensor", background: tuple[int, int, int]) -> "torch.Tensor":
    """Colors [H, W, 3] uint8 of pixels from their `owner` [H, W] and the points' colors [N, 3]."""
    import torch

    table = torch.cat([rgb, torch.tensor([background], dtype=torch.uint8, device=rgb.device)])
    return table.index_select(0, owner.view(-1)).view(*owner.shape, 3)


def view_matrix(
    intrinsics: np.ndarray, camera_to_world: np.ndarray, points_to_world: np.ndarray | None = None
) -> np.ndarray:
    """Projection matrix [3, 4] float64 from world coordinates, or those of `points_to_world`, to (x z, y z, z)."""
    local = invert_pose(np.asarray(camera_to_world, np.float64))
    if points_to_world is not None:
        local = local @ np.asarray(points_to_world, np.float64)
    return np.asarray(intrinsics, np.float64) @ local[:3]


def project_columns(
    x: "torch.Tensor", y: "torch.Tensor", z: "torch.Tensor", matrix: np.ndarray
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """Pixel coordinates and depth of points, given and returned as one tensor per coordinate; see `view_matrix`."""
    m = matrix.tolist()
    u, v, w = ((x * row[0]).add_(y, alpha=row[1]).add_(z, alpha=row[2]).add_(row[3]) for row in m)
    return u.div_(w), v.div_(w), w
