"""One frame of a scene as a surface for splatting: connectivity between pixels, and flying pixels."""

from typing import TYPE_CHECKING

import numpy as np

from fourdnex.rendering.splat import MAX_FOOTPRINT, paint, project_columns, splat, view_matrix
from fourdnex.scene import Scene4D

if TYPE_CHECKING:
    import torch

SAME_SURFACE = 1.25
"""Neighboring pixels whose depth ratio is below this belong to one surface."""
FLYING_JUMP = 0.1
"""Minimum relative difference in inverse depth of a flying pixel from the surfaces on both sides."""


class Surface:
    """Frame `t` of a scene, prepared for rendering from any camera.

    With `zoom` above 1, the surface is upsampled (color and inverse depth interpolated, not across depth edges), so
    that a point is about as large as a pixel of the image.

    Args:
        zoom: image size relative to the scene's frames.
        min_confidence: minimum confidence of rendered pixels.
        keep_flying: keep flying pixels at depth edges.
        device: torch device.
    """

    def __init__(
        self,
        scene: Scene4D,
        t: int,
        *,
        zoom: float = 1.0,
        min_confidence: float = 0.0,
        keep_flying: bool = False,
        device: "str | torch.device" = "cpu",
    ) -> None:
        import torch

        self.height, self.width = max(1, round(scene.height * zoom)), max(1, round(scene.width * zoom))
        self._zoom, self._pose = zoom, scene.camera_to_world[t]
        depth = torch.from_numpy(scene.depth[t]).to(device)
        rgb = torch.from_numpy(scene.rgb[t]).to(device)
        if scene.confidence is not None and min_confidence > 0:
            depth = depth.where(torch.from_numpy(scene.confidence[t]).to(device) >= min_confidence, torch.nan)
        if not keep_flying:
            depth = depth.where(~flying_pixels(depth), torch.nan)
        factor = max(1, int(np.ceil(zoom - 1e-6)))
        if factor > 1:
            depth, rgb = _densify(depth, rgb, factor)
        k = scaled_intrinsics(scene.intrinsics, factor).tolist()
        rows, columns = (torch.arange(size, dtype=torch.float32, device=depth.device) for size in depth.shape)
        ray_y = ((rows - k[1][2]) / k[1][1])[:, None]
        self._x = ((columns - k[0][2]) / k[0][0] - ray_y * (k[0][1] / k[0][0])) * depth
        self._y = ray_y * depth
        self._z, self.rgb = depth, rgb.reshape(-1, 3)
        # Whether a pixel and its neighbor below, or to the right, are on one surface.
        self._below, self._right = _connected(depth[:-1], depth[1:]), _connected(depth[:, :-1], depth[:, 1:])

    def render(
        self, camera_to_world: np.ndarray, intrinsics: np.ndarray, background: tuple[int, int, int] = (255, 255, 255)
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Render the view of a camera [4, 4] with intrinsics [3, 3] in pixels of the scene's frames.

        The size of a point is the distance to its neighbors on the same surface in this view, so that surfaces have no
        gaps at oblique angles or short distances.

        Returns:
            image [H, W, 3] uint8, and depth [H, W] float32, infinite without a point.
        """
        matrix = view_matrix(scaled_intrinsics(intrinsics, self._zoom), camera_to_world, self._pose)
        x, y, z = project_columns(self._x, self._y, self._z, matrix)
        flat = (values.view(-1) for values in (x, y, z, self.extent(x), self.extent(y)))
        owner, depth = splat(*flat, height=self.height, width=self.width)
        return paint(owner, self.rgb, background), depth

    def extent(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Extent [H, W] of each point's cell along one image axis, from the points' coordinates [H, W] on that axis.

        A cell is spanned by the steps to the horizontal and the vertical neighbor on the same surface. Rectangles with
        the extents of the cells leave no gaps under rotation, shear or scale of the grid. Overlap does not blur, see
        `DEPTH_BIAS`. The extent of a point without neighbors is one pixel.
        """
        import torch

        extents = []
        for before, after, connected in (
            (np.s_[:-1], np.s_[1:], self._below),
            (np.s_[:, :-1], np.s_[:, 1:], self._right),
        ):
            step, extent = (pixels[after] - pixels[before]).abs_().where(connected, 0.0), torch.zeros_like(pixels)
            for side in (before, after):
                torch.maximum(extent[side], step, out=extent[side])
            extents.append(extent)
        return extents[0].add_(extents[1]).clamp_(1, MAX_FOOTPRINT)


def flying_pixels(depth: "torch.Tensor", *, reach: int = 3) -> "torch.Tensor":
    """Flying pixels [H, W] of a depth map: interpolated depths between a near and a far surface at a depth edge.

    Along a row or column, within `reach` pixels on both sides, a flying pixel has one side nearer and the other farther
    by more than `FLYING_JUMP`, with smooth surfaces beyond. Differences are taken in inverse depth, which is linear on
    planes, so that a ground plane up to the horizon is no edge.
    """
    import torch

    inverse = 1 / depth
    flying = torch.zeros_like(depth, dtype=torch.bool)
    for axis in (0, 1):
        line = inverse.transpose(0, axis)
        mark = flying.transpose(0, axis)
        size = line.shape[0]
        for step in range(1, reach + 1):
            if size <= 4 * step:
                break
            here = line[2 * step : size - 2 * step]
            # Excludes most pixels early: two jumps need a large total difference.
            candidates = (line[3 * step : size - step] - line[step : size - 3 * step]).abs_() > 2 * FLYING_JUMP * here
            row, column = candidates.nonzero(as_tuple=True)
            far_before, before, middle, after, far_after = (line[row + i * step, column] for i in range(5))
            rise, fall = middle - before, after - middle
            jump = torch.minimum(rise.abs(), fall.abs())
            slope = torch.maximum((before - far_before).abs(), (far_after - after).abs())
            is_flying = (rise * fall > 0) & (jump > FLYING_JUMP * middle) & (jump > 3 * slope)
            mark[row[is_flying] + 2 * step, column[is_flying]] = True
    return flying


def scaled_intrinsics(intrinsics: np.ndarray, zoom: float | tuple[float, float]) -> np.ndarray:
    """Intrinsics [3, 3] float64 of an image resized by `zoom`, or by a pair (x, y), with pixel centers at integers."""
    scaled = np.asarray(intrinsics, np.float64).copy()
    both = np.broadcast_to(np.asarray(zoom, np.float64), 2)
    scaled[:2] *= both[:, None]
    scaled[:2, 2] += 0.5 * both - 0.5
    return scaled


def _connected(first: "torch.Tensor", second: "torch.Tensor") -> "torch.Tensor":
    """Whether two depths belong to one surface."""
    import torch

    return torch.maximum(first, second) < SAME_SURFACE * torch.minimum(first, second)


def _densify(depth: "torch.Tensor", rgb: "torch.Tensor", factor: int) -> "tuple[torch.Tensor, torch.Tensor]":
    """Depth [H, W] and color [H, W, 3] upsampled by an integer factor."""
    import torch

    height, width = depth.shape
    rows, columns = (_interpolation(size, factor, depth.device) for size in (height, width))
    inverse, color = 1 / depth, rgb.to(torch.float32)
    nearest = depth[rows[3]][:, columns[3]]
    total = torch.zeros_like(nearest)
    inverse_sum, color_sum = torch.zeros_like(nearest), nearest.new_zeros((*nearest.shape, 3))
    for row, row_weight in ((rows[0], 1 - rows[2]), (rows[1], rows[2])):
        for column, column_weight in ((columns[0], 1 - columns[2]), (columns[1], columns[2])):
            weight = row_weight[:, None] * column_weight * _connected(depth[row][:, column], nearest)
            total += weight
            inverse_sum += weight * inverse[row][:, column].nan_to_num(0.0)
            color_sum += weight[..., None] * color[row][:, column]
    valid = torch.isfinite(nearest)
    fine = torch.where(valid, total / inverse_sum, torch.nan)
    return fine, (color_sum / total[..., None]).nan_to_num(0.0).round_().clamp_(0, 255).to(torch.uint8)


def _interpolation(size: int, factor: int, device: "torch.device") -> "tuple[torch.Tensor, ...]":
    """Per fine position: the coarse positions before and after it, the weight of the latter, and the nearest one."""
    import torch

    position = ((torch.arange(size * factor, device=device) + 0.5) / factor - 0.5).clamp(0, size - 1)
    before = position.floor().long()
    nearest = torch.arange(size * factor, device=device) // factor
    return before, (before + 1).clamp(max=size - 1), position - before, nearest
