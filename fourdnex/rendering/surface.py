"""One frame of a scene as a surface that can be splatted from anywhere: which pixels hang together, and which float."""

from typing import TYPE_CHECKING

import numpy as np

from fourdnex.rendering.splat import MAX_FOOTPRINT, paint, project_columns, splat, view_matrix
from fourdnex.scene import Scene4D

if TYPE_CHECKING:
    import torch

SAME_SURFACE = 1.25
"""Neighboring pixels whose depths differ by less than this factor are taken for one surface."""
FLYING_JUMP = 0.1
"""A pixel flies when it is nearer and farther than what is on its two sides by more than this share of its depth."""


class Surface:
    """Frame `t` of a scene, ready to be seen by any camera.

    Where the image is to be larger than the frame, the surface gets more points between its pixels (color and
    inverse depth interpolated, never across a depth edge), so that a point is about a pixel of the image.

    Args:
        zoom: size of the images, in sizes of the scene's frames.
        min_confidence: pixels below are left out.
        keep_flying: draw the pixels that hang in the air at depth edges as well.
        device: of torch.
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
        lens = scaled_intrinsics(scene.intrinsics, factor).tolist()
        rows, columns = (torch.arange(size, dtype=torch.float32, device=depth.device) for size in depth.shape)
        down = ((rows - lens[1][2]) / lens[1][1])[:, None]
        self._x = ((columns - lens[0][2]) / lens[0][0] - down * (lens[0][1] / lens[0][0])) * depth
        self._y = down * depth
        self._z, self.rgb = depth, rgb.reshape(-1, 3)
        # Whether a pixel and the next one (below, to the right) are on one surface.
        self._below, self._right = _joined(depth[:-1], depth[1:]), _joined(depth[:, :-1], depth[:, 1:])

    def look(
        self, camera_to_world: np.ndarray, intrinsics: np.ndarray, background: tuple[int, int, int] = (255, 255, 255)
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """The view of a camera [4, 4] with a lens [3, 3] in pixels of the scene's frames.

        Points are as large as the distance to their neighbors on the same surface in this view, so that surfaces
        stay closed when they are seen from aside or near.

        Returns:
            image [H, W, 3] uint8 and depth [H, W] float32, infinite where nothing is seen.
        """
        lens = scaled_intrinsics(intrinsics, self._zoom)
        matrix = view_matrix(lens, camera_to_world, self._pose)
        x, y, z = project_columns(self._x, self._y, self._z, matrix)
        wide, high = self.extent(x), self.extent(y)
        flat = (values.view(-1) for values in (x, y, z, wide, high))
        owner, depth = splat(*flat, height=self.height, width=self.width)
        return paint(owner, self.rgb, background), depth

    def extent(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Extent [H, W] along one axis of the view of the cell that each point fills, from that coordinate of all.

        A cell is spanned by the steps to the neighbor beside and to the one below, on the same surface: rectangles
        with the extents of the cells leave no pinhole, however the lattice is turned, sheared or stretched. What they
        overlap costs no sharpness, see PUSH_BACK. A point without neighbors is a pixel.
        """
        import torch

        extents = []
        for before, after, joined in (
            (np.s_[:-1], np.s_[1:], self._below),
            (np.s_[:, :-1], np.s_[:, 1:], self._right),
        ):
            step, extent = (pixels[after] - pixels[before]).abs_().where(joined, 0.0), torch.zeros_like(pixels)
            for side in (before, after):
                torch.maximum(extent[side], step, out=extent[side])
            extents.append(extent)
        return extents[0].add_(extents[1]).clamp_(1, MAX_FOOTPRINT)


def flying_pixels(depth: "torch.Tensor", *, reach: int = 3) -> "torch.Tensor":
    """Which pixels [H, W] of a depth map hang between a near and a far surface: the smear of a depth edge.

    Along a row or a column, `reach` pixels to either side: one side is nearer and the other farther by more than
    FLYING_JUMP, and beyond them the surfaces go on smoothly. Measured in inverse depth, which is linear on planes, so
    that ground which runs to the horizon is not taken for an edge.
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
            # Most pixels are out at once: what two jumps need is not there.
            wide = (line[3 * step : size - step] - line[step : size - 3 * step]).abs_() > 2 * FLYING_JUMP * here
            row, column = wide.nonzero(as_tuple=True)
            far_before, before, middle, after, far_after = (line[row + i * step, column] for i in range(5))
            rise, fall = middle - before, after - middle
            least = torch.minimum(rise.abs(), fall.abs())
            around = torch.maximum((before - far_before).abs(), (far_after - after).abs())
            hangs = (rise * fall > 0) & (least > FLYING_JUMP * middle) & (least > 3 * around)
            mark[row[hangs] + 2 * step, column[hangs]] = True
    return flying


def scaled_intrinsics(intrinsics: np.ndarray, zoom: float | tuple[float, float]) -> np.ndarray:
    """The lens [3, 3] float64 of an image `zoom` times as large, pixel centers at integers: borders lie at -0.5.

    A pair zooms (x, y).
    """
    scaled = np.asarray(intrinsics, np.float64).copy()
    both = np.broadcast_to(np.asarray(zoom, np.float64), 2)
    scaled[:2] *= both[:, None]
    scaled[:2, 2] += 0.5 * both - 0.5
    return scaled


def _joined(one: "torch.Tensor", other: "torch.Tensor") -> "torch.Tensor":
    import torch

    return torch.maximum(one, other) < SAME_SURFACE * torch.minimum(one, other)


def _densify(depth: "torch.Tensor", rgb: "torch.Tensor", factor: int) -> "tuple[torch.Tensor, torch.Tensor]":
    """Depth [H, W] and color [H, W, 3] on a grid `factor` times as fine."""
    import torch

    height, width = depth.shape
    rows, columns = (_between(size, factor, depth.device) for size in (height, width))
    inverse, color = 1 / depth, rgb.to(torch.float32)
    nearest = depth[rows[3]][:, columns[3]]
    total = torch.zeros_like(nearest)
    deep, paints = torch.zeros_like(nearest), nearest.new_zeros((*nearest.shape, 3))
    for row, across in ((rows[0], 1 - rows[2]), (rows[1], rows[2])):
        for column, along in ((columns[0], 1 - columns[2]), (columns[1], columns[2])):
            weight = across[:, None] * along * _joined(depth[row][:, column], nearest)
            total += weight
            deep += weight * inverse[row][:, column].nan_to_num(0.0)
            paints += weight[..., None] * color[row][:, column]
    valid = torch.isfinite(nearest)
    fine = torch.where(valid, total / deep, torch.nan)
    return fine, (paints / total[..., None]).nan_to_num(0.0).round_().clamp_(0, 255).to(torch.uint8)


def _between(size: int, factor: int, device: "torch.device") -> "tuple[torch.Tensor, ...]":
    """For every fine position: the coarse ones before and after, the share of the latter, and the nearest one."""
    import torch

    place = ((torch.arange(size * factor, device=device) + 0.5) / factor - 0.5).clamp(0, size - 1)
    before = place.floor().long()
    nearest = torch.arange(size * factor, device=device) // factor
    return before, (before + 1).clamp(max=size - 1), place - before, nearest
