"""Point splatting with a depth buffer, in torch: every point is a rectangle of whole pixels.

Depth and number of a point are packed into one 64-bit integer, so that a single scatter-minimum finds the nearest point
of every pixel: no sorting, the same answer in any order, on a CPU and on a GPU.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fourdnex.geometry.cameras import invert_pose

if TYPE_CHECKING:
    import torch

MAX_FOOTPRINT = 8
"""Widest rectangle of one point, in pixels: a point right before the camera must not cover the image."""
PUSH_BACK = 0.01
"""By how much of its depth a point counts as farther for every pixel across and every pixel down from its middle: on
one surface the nearest middle gets the pixel, which keeps images sharp; what is really in front stays in front."""

_EMPTY = 0x7F800000 << 32  # infinitely far


@dataclass(frozen=True, eq=False)
class Splat:
    """One rendered view."""

    image: np.ndarray  # [H, W, 3] uint8
    depth: np.ndarray  # [H, W] float32, z in the camera's frame; infinite where no point is seen


def splat(
    x: "torch.Tensor",
    y: "torch.Tensor",
    z: "torch.Tensor",
    wide: "torch.Tensor",
    high: "torch.Tensor",
    *,
    height: int,
    width: int,
) -> "tuple[torch.Tensor, torch.Tensor]":
    """The nearest point of every pixel.

    Args:
        x, y: [N] float32, pixels of the view. z: [N] float32, depth; what is not above 0, or NaN, is not drawn.
        wide, high: [N] float32, size in pixels; rounded up and held between 1 and MAX_FOOTPRINT.

    Returns:
        owner [H, W] int64, the number of the point, N where there is none; depth [H, W] float32, its z or infinity.
    """
    import torch

    margin = MAX_FOOTPRINT
    wide, high = ((size - 0.003).ceil_().clamp_(1, MAX_FOOTPRINT) for size in (wide, high))
    # Top left pixel of the rectangle, in a buffer with a margin: from here on nothing can fall outside.
    left = torch.floor(x - wide * 0.5 + 1)
    top = torch.floor(y - high * 0.5 + 1)
    seen = (z > 0) & (z < torch.inf)
    seen &= (left > -margin) & (left < width) & (top > -margin) & (top < height)
    stride = width + 2 * margin
    size = (height + 2 * margin) * stride
    buffer = torch.full((size,), _EMPTY, dtype=torch.int64, device=x.device)
    depth = torch.cat([z, z.new_tensor([torch.inf])])

    exact = torch.float32 if size < 2**24 else torch.float64
    place = top.to(exact).add(margin).mul_(stride).add_(left).add_(margin).where(seen, 0).long()
    # What is not seen has no size. `across` and `down` tell how far the first pixel lies from the point's middle.
    across, down, z = (values.where(seen, 1) for values in (left - x, top - y, z))
    wide, high = wide.where(seen, 0), high.where(seen, 0)
    numbers, largest = torch.arange(len(z), dtype=torch.int32, device=z.device), torch.maximum(wide, high)
    keys, ranks = _keys(numbers)
    columns: list[torch.Tensor] = []
    rows: list[torch.Tensor] = []
    for ring in range(MAX_FOOTPRINT):
        keep = (largest > ring).nonzero().squeeze(1) if ring else largest  # at first all are drawn
        if len(keep) == 0:
            break
        if 2 * len(keep) < len(largest):
            numbers, z, wide, high, across, down, place, largest = (
                values.index_select(0, keep) for values in (numbers, z, wide, high, across, down, place, largest)
            )
            keys, ranks = _keys(numbers)
            columns, rows = [], []
        # A point's rank at a pixel is its depth, pushed back: the sum of a part for the column, which is infinite
        # outside of its rectangle, and one for the row.
        for i in range(len(columns), ring + 1):
            columns.append((across + i).abs_().mul_(PUSH_BACK).add_(1).mul_(z).where(wide > i, torch.inf))
            rows.append((down + i).abs_().mul_(PUSH_BACK).mul_(z).where(high > i, torch.inf))
        # Pixels of the rectangle whose larger coordinate is `ring`: together the rings make every pixel once.
        for row, column in [(ring, i) for i in range(ring + 1)] + [(i, ring) for i in range(ring)]:
            torch.add(columns[column], rows[row], out=ranks)
            buffer[row * stride + column :].scatter_reduce_(0, place, keys, "amin")
    inner = buffer.view(-1, stride)[margin : margin + height, margin : margin + width]
    owner = (inner & 0xFFFFFFFF).where(inner < _EMPTY, len(depth) - 1)
    return owner, depth.index_select(0, owner.view(-1)).view(height, width)


def _keys(numbers: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """Keys [N] int64, and the ranks [N] float32 that are their upper halves; the lower ones are `numbers`.

    Positive numbers in floating point keep their order when their bits are read as an integer. The machine must keep
    the lower half first, as all that torch runs on do.
    """
    import torch

    halves = torch.empty((len(numbers), 2), dtype=torch.int32, device=numbers.device)
    halves[:, 0] = numbers
    return halves.view(torch.int64).view(-1), halves.view(torch.float32)[:, 1]


def paint(owner: "torch.Tensor", rgb: "torch.Tensor", background: tuple[int, int, int]) -> "torch.Tensor":
    """Colors [H, W, 3] uint8 of the points [N, 3] that own the pixels [H, W]."""
    import torch

    table = torch.cat([rgb, torch.tensor([background], dtype=torch.uint8, device=rgb.device)])
    return table.index_select(0, owner.view(-1)).view(*owner.shape, 3)


def view_matrix(
    intrinsics: np.ndarray, camera_to_world: np.ndarray, points_to_world: np.ndarray | None = None
) -> np.ndarray:
    """Projection [3, 4] float64 of points (in the world, or in the frame of `points_to_world`) to x z, y z, z."""
    local = invert_pose(np.asarray(camera_to_world, np.float64))
    if points_to_world is not None:
        local = local @ np.asarray(points_to_world, np.float64)
    return np.asarray(intrinsics, np.float64) @ local[:3]


def project_columns(
    x: "torch.Tensor", y: "torch.Tensor", z: "torch.Tensor", matrix: np.ndarray
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """Pixels and depth of points whose coordinates lie in three tensors of one shape; see `view_matrix`."""
    m = matrix.tolist()
    u, v, w = ((x * row[0]).add_(y, alpha=row[1]).add_(z, alpha=row[2]).add_(row[3]) for row in m)
    return u.div_(w), v.div_(w), w
