"""Edge-aware upsampling of depth: depth edges of a coarse map are aligned with the edges of a fine image.

Every fine pixel is predicted from the coarse pixels around it by linear extrapolation of inverse depth, which is linear
on planes. Where the predictions disagree, at a depth edge, the pixel is assigned to the surface with the largest
weight by distance and color, as in joint bilateral upsampling (Kopf et al., 2007). Predictions of different surfaces
are never averaged, which avoids flying pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

REACH = 2
"""Radius in coarse pixels of the neighborhood that a fine pixel is predicted from."""
SAME_SURFACE = 0.06
"""Maximum relative difference of predictions of one surface."""
_SIGMA_DISTANCE = 1.2  # coarse pixels
_SIGMA_COLOR = 18.0  # of 255, root mean square over the channels
_MEDIAN_PASSES = 2
_SPLITS = 3  # maximum binary splits of the predictions at a pixel


def upsample_depth(depth: np.ndarray, image: np.ndarray, *, device: str = "cpu") -> np.ndarray:
    """Upsample depth to the resolution of an image.

    Args:
        depth: [h, w] float32, NaN without depth.
        image: [H, W, 3] uint8, the image of the depth map with the same borders.
        device: torch device.

    Returns:
        [H, W] float32; NaN where no coarse pixel in the neighborhood has depth.
    """
    import cv2
    import torch

    height, width = depth.shape
    guide = _without_texture(image, zoom=image.shape[1] / width)
    small = cv2.resize(guide, (width, height), interpolation=cv2.INTER_AREA)
    coarse = torch.from_numpy(np.ascontiguousarray(depth, np.float32)).to(device).reciprocal()
    colors = torch.from_numpy(small).to(device).float()
    # Interpolated pixels at depth edges are assigned to one of their surfaces first, which makes edges sharp.
    clean = _Predictions(coarse, colors).at_coarse_pixels(colors)
    fine = _Predictions(clean, colors).at(torch.from_numpy(guide).to(device)).cpu().numpy()
    # The median removes isolated pixels without creating values between two surfaces.
    for _ in range(_MEDIAN_PASSES):
        fine = cv2.medianBlur(fine, 5)
    return np.asarray(1 / fine, np.float32)


def _without_texture(image: np.ndarray, *, zoom: float) -> np.ndarray:
    """The image without texture finer than about half a coarse pixel, with its edges preserved."""
    import cv2

    if zoom < 2:
        return image.copy()
    sigma = min(zoom / 3, 4.0)
    return cv2.bilateralFilter(image, 2 * round(1.5 * sigma) + 1, 35.0, sigma)


class _Predictions:
    """Predictions from the pixels of a coarse map of inverse depth."""

    def __init__(self, inverse: torch.Tensor, colors: torch.Tensor) -> None:
        import torch

        self.inverse, self.colors = inverse, colors  # [h, w], [h, w, 3]
        self.slopes = torch.stack([_slope(inverse, axis) for axis in (0, 1)])  # [2, h, w]

    def at_coarse_pixels(self, colors: torch.Tensor) -> torch.Tensor:
        """Inverse depth [h, w] with interpolated pixels at depth edges assigned to a surface."""
        import torch

        from fourdnex.rendering.surface import flying_pixels

        flying = flying_pixels(1 / self.inverse) | _between_surfaces(self.inverse)
        rows, columns = flying.nonzero(as_tuple=True)
        if len(rows) == 0:
            return self.inverse
        reliable = _Predictions(self.inverse.where(~flying, torch.nan), self.colors)
        values = reliable._vote(rows.float(), columns.float(), colors[rows, columns], reach=REACH + 1)
        clean = self.inverse.clone()
        clean[rows, columns] = values.where(values.isfinite(), self.inverse[rows, columns])
        return clean

    def at(self, image: torch.Tensor) -> torch.Tensor:
        """Inverse depth [H, W] at the pixels of an image [H, W, 3]."""
        from torch.nn.functional import interpolate, max_pool2d

        (height, width), (rows, columns) = image.shape[:2], self.inverse.shape
        valid = self.inverse.isfinite()
        filled = self.inverse.where(valid, 0.0)
        smooth = interpolate(filled[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]
        # Bilinear interpolation is correct within one surface; only pixels near edges need the vote.
        edges = self._edges() | ~valid
        near_edge = max_pool2d(edges.float()[None, None], 2 * REACH - 1, 1, REACH - 1)
        needs_vote = interpolate(near_edge, (height, width), mode="nearest")[0, 0] > 0
        y, x = needs_vote.nonzero(as_tuple=True)
        row, column = (y + 0.5) * (rows / height) - 0.5, (x + 0.5) * (columns / width) - 0.5
        fine = smooth.clone()
        fine[y, x] = self._vote(row, column, image[y, x].float(), reach=REACH)
        return fine

    def _edges(self) -> torch.Tensor:
        """Pixels [h, w] that the linear extrapolation of a neighbor does not predict, and vice versa."""
        import torch

        edges = torch.zeros_like(self.inverse, dtype=torch.bool)
        for axis in (0, 1):
            line, slope = self.inverse.transpose(0, axis), self.slopes[axis].transpose(0, axis)
            mark = edges.transpose(0, axis)
            error = (line[:-1] + slope[:-1] - line[1:]).abs()
            error = torch.minimum(error, (line[1:] - slope[1:] - line[:-1]).abs())
            is_edge = ~(error < SAME_SURFACE * 0.5 * torch.minimum(line[:-1], line[1:]))
            mark[:-1] |= is_edge
            mark[1:] |= is_edge
        return edges

    def _vote(self, row: torch.Tensor, column: torch.Tensor, color: torch.Tensor, *, reach: int) -> torch.Tensor:
        """Inverse depth [N] at positions [N] in coarse pixels with colors [N, 3] of the fine image."""
        import torch

        rows, columns = self.inverse.shape
        base_row, base_column = row.round().long(), column.round().long()
        values, weights = [], []
        for down in range(-reach, reach + 1):
            for across in range(-reach, reach + 1):
                i, j = base_row + down, base_column + across
                inside = (i >= 0) & (i < rows) & (j >= 0) & (j < columns)
                i, j = i.clamp(0, rows - 1), j.clamp(0, columns - 1)
                index = i * columns + j
                center = self.inverse.view(-1)[index]
                dy, dx = row - i, column - j
                value = center + self.slopes[0].reshape(-1)[index] * dy + self.slopes[1].reshape(-1)[index] * dx
                value = value.clamp(0.5 * center, 2 * center)
                color_error = (self.colors.view(-1, 3)[index] - color).square().mean(dim=1)
                weight = torch.exp(
                    -(dy.square() + dx.square()) / (2 * _SIGMA_DISTANCE**2) - color_error / (2 * _SIGMA_COLOR**2)
                )
                values.append(value)
                weights.append((weight + 1e-6).where(inside & value.isfinite(), 0.0))
        value, weight = torch.stack(values).nan_to_num_(1.0), torch.stack(weights)
        for _ in range(_SPLITS):
            low = value.where(weight > 0, torch.inf).amin(dim=0)
            high = value.where(weight > 0, 0.0).amax(dim=0)
            middle = (low * high).sqrt()
            is_split = high > (1 + SAME_SURFACE) * low
            upper = value > middle
            above, below = (weight * upper).sum(dim=0), (weight * ~upper).sum(dim=0)
            weight = weight * (~is_split | (upper == (above > below)))
        return (weight * value).sum(dim=0) / weight.sum(dim=0)


def _slope(inverse: torch.Tensor, axis: int) -> torch.Tensor:
    """Derivative [h, w] per pixel along an axis: the smaller difference of both sides, 0 if their signs differ."""
    import torch

    step = inverse.diff(dim=axis)
    pad = torch.full_like(inverse.narrow(axis, 0, 1), torch.nan)
    before, after = torch.cat([pad, step], dim=axis), torch.cat([step, pad], dim=axis)
    before, after = before.where(before.isfinite(), after), after.where(after.isfinite(), before)
    smaller = before.where(before.abs() < after.abs(), after)
    return smaller.where(before * after > 0, 0.0).nan_to_num(0.0)


def _between_surfaces(inverse: torch.Tensor) -> torch.Tensor:
    """Pixels [h, w] on the slope of a depth edge: monotonic along an axis, with a large step over both neighbors."""
    import torch

    between = torch.zeros_like(inverse, dtype=torch.bool)
    for axis in (0, 1):
        line, mark = inverse.transpose(0, axis), between.transpose(0, axis)
        if line.shape[0] < 5:
            continue
        rise, fall = line[2:-2] - line[1:-3], line[3:-1] - line[2:-2]
        outer = torch.maximum((line[1:-3] - line[:-4]).abs(), (line[4:] - line[3:-1]).abs())
        step = (line[3:-1] - line[1:-3]).abs()
        mark[2:-2] |= (rise * fall > 0) & (step > 2 * SAME_SURFACE * line[2:-2]) & (step > 3 * outer)
    return between
