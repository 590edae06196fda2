"""Edge-aware upsampling of depth: the jumps of a coarse depth map move to the edges of a fine image.

Every fine pixel is predicted from the coarse pixels around it, each continuing its own surface (inverse depth is linear
on planes). Where they disagree, the pixel lies at a depth edge: it joins the surface that the image speaks for, by
distance and color as in joint bilateral upsampling (Kopf et al., 2007), and is never averaged over both, so that no
point hangs in the air between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

REACH = 2
"""Coarse pixels to either side that a fine pixel is predicted from."""
SAME_SURFACE = 0.06
"""Predictions that differ by less than this share are one surface."""
_SIGMA_DISTANCE = 1.2  # coarse pixels
_SIGMA_COLOR = 18.0  # of 255, root mean square over the channels
_MEDIANS = 2
_ROUNDS = 3  # of splitting the predictions at a pixel in two


def upsample_depth(depth: np.ndarray, image: np.ndarray, *, device: str = "cpu") -> np.ndarray:
    """Depth at the resolution of an image.

    Args:
        depth: [h, w] float32, NaN where there is none.
        image: [H, W, 3] uint8, what `depth` belongs to; the borders of both coincide.
        device: of torch.

    Returns:
        [H, W] float32; NaN where no coarse pixel around has depth.
    """
    import cv2
    import torch

    height, width = depth.shape
    guide = _without_texture(image, zoom=image.shape[1] / width)
    small = cv2.resize(guide, (width, height), interpolation=cv2.INTER_AREA)
    coarse = torch.from_numpy(np.ascontiguousarray(depth, np.float32)).to(device).reciprocal()
    colors = torch.from_numpy(small).to(device).float()
    # Smeared pixels first join one of their two surfaces: after that, edges are steps.
    clean = _Predictions(coarse, colors).at_coarse_pixels(colors)
    fine = _Predictions(clean, colors).at(torch.from_numpy(guide).to(device)).cpu().numpy()
    # A median draws no value between two surfaces, and leaves no lonely pixel on either.
    for _ in range(_MEDIANS):
        fine = cv2.medianBlur(fine, 5)
    return np.asarray(1 / fine, np.float32)


def _without_texture(image: np.ndarray, *, zoom: float) -> np.ndarray:
    """The image with its edges and without what is finer than about half a coarse pixel."""
    import cv2

    if zoom < 2:
        return image.copy()
    sigma = min(zoom / 3, 4.0)
    return cv2.bilateralFilter(image, 2 * round(1.5 * sigma) + 1, 35.0, sigma)


class _Predictions:
    """What the pixels of a coarse map of inverse depth say of places around them."""

    def __init__(self, inverse: torch.Tensor, colors: torch.Tensor) -> None:
        import torch

        self.inverse, self.colors = inverse, colors  # [h, w], [h, w, 3]
        self.slopes = torch.stack([_slope(inverse, axis) for axis in (0, 1)])  # [2, h, w]

    def at_coarse_pixels(self, colors: torch.Tensor) -> torch.Tensor:
        """Inverse depth [h, w] with smeared pixels put on a surface; others as they are."""
        import torch

        from fourdnex.rendering.surface import flying_pixels

        smeared = flying_pixels(1 / self.inverse) | _between_surfaces(self.inverse)
        rows, columns = smeared.nonzero(as_tuple=True)
        if len(rows) == 0:
            return self.inverse
        sound = _Predictions(self.inverse.where(~smeared, torch.nan), self.colors)
        values = sound._vote(rows.float(), columns.float(), colors[rows, columns], reach=REACH + 1)
        clean = self.inverse.clone()
        clean[rows, columns] = values.where(values.isfinite(), self.inverse[rows, columns])
        return clean

    def at(self, image: torch.Tensor) -> torch.Tensor:
        """Inverse depth [H, W] at the pixels of an image [H, W, 3]."""
        from torch.nn.functional import interpolate, max_pool2d

        (height, width), (rows, columns) = image.shape[:2], self.inverse.shape
        known = self.inverse.isfinite()
        filled = self.inverse.where(known, 0.0)
        smooth = interpolate(filled[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]
        # Where all around is one surface, interpolation is right, and the rest votes.
        uneven = self._uneven() | ~known
        near = max_pool2d(uneven.float()[None, None], 2 * REACH - 1, 1, REACH - 1)
        place = interpolate(near, (height, width), mode="nearest")[0, 0] > 0
        y, x = place.nonzero(as_tuple=True)
        row, column = (y + 0.5) * (rows / height) - 0.5, (x + 0.5) * (columns / width) - 0.5
        fine = smooth.clone()
        fine[y, x] = self._vote(row, column, image[y, x].float(), reach=REACH)
        return fine

    def _uneven(self) -> torch.Tensor:
        """Where [h, w] a pixel and the one beside or below it do not continue each other."""
        import torch

        jump = torch.zeros_like(self.inverse, dtype=torch.bool)
        for axis in (0, 1):
            line, slope = self.inverse.transpose(0, axis), self.slopes[axis].transpose(0, axis)
            mark = jump.transpose(0, axis)
            apart = (line[:-1] + slope[:-1] - line[1:]).abs()
            apart = torch.minimum(apart, (line[1:] - slope[1:] - line[:-1]).abs())
            far = ~(apart < SAME_SURFACE * 0.5 * torch.minimum(line[:-1], line[1:]))
            mark[:-1] |= far
            mark[1:] |= far
        return jump

    def _vote(self, row: torch.Tensor, column: torch.Tensor, color: torch.Tensor, *, reach: int) -> torch.Tensor:
        """Inverse depth [N] at places [N] in coarse pixels, whose image has `color` [N, 3]."""
        import torch

        rows, columns = self.inverse.shape
        base_row, base_column = row.round().long(), column.round().long()
        values, weights = [], []
        for down in range(-reach, reach + 1):
            for across in range(-reach, reach + 1):
                i, j = base_row + down, base_column + across
                inside = (i >= 0) & (i < rows) & (j >= 0) & (j < columns)
                i, j = i.clamp(0, rows - 1), j.clamp(0, columns - 1)
                place = i * columns + j
                own = self.inverse.view(-1)[place]
                dy, dx = row - i, column - j
                value = own + self.slopes[0].reshape(-1)[place] * dy + self.slopes[1].reshape(-1)[place] * dx
                value = value.clamp(0.5 * own, 2 * own)
                unlike = (self.colors.view(-1, 3)[place] - color).square().mean(dim=1)
                weight = torch.exp(
                    -(dy.square() + dx.square()) / (2 * _SIGMA_DISTANCE**2) - unlike / (2 * _SIGMA_COLOR**2)
                )
                values.append(value)
                weights.append((weight + 1e-6).where(inside & value.isfinite(), 0.0))
        value, weight = torch.stack(values).nan_to_num_(1.0), torch.stack(weights)
        for _ in range(_ROUNDS):
            low = value.where(weight > 0, torch.inf).amin(dim=0)
            high = value.where(weight > 0, 0.0).amax(dim=0)
            middle = (low * high).sqrt()
            apart = high > (1 + SAME_SURFACE) * low
            upper = value > middle
            above, below = (weight * upper).sum(dim=0), (weight * ~upper).sum(dim=0)
            weight = weight * (~apart | (upper == (above > below)))
        return (weight * value).sum(dim=0) / weight.sum(dim=0)


def _slope(inverse: torch.Tensor, axis: int) -> torch.Tensor:
    """Change a pixel along an axis [h, w]: the smaller of both sides' differences, 0 where they disagree in sign."""
    import torch

    step = inverse.diff(dim=axis)
    pad = torch.full_like(inverse.narrow(axis, 0, 1), torch.nan)
    before, after = torch.cat([pad, step], dim=axis), torch.cat([step, pad], dim=axis)
    before, after = before.where(before.isfinite(), after), after.where(after.isfinite(), before)
    smaller = before.where(before.abs() < after.abs(), after)
    return smaller.where(before * after > 0, 0.0).nan_to_num(0.0)


def _between_surfaces(inverse: torch.Tensor) -> torch.Tensor:
    """Pixels [h, w] on the slope of a depth edge: both neighbors along an axis differ, in one direction, by a jump."""
    import torch

    between = torch.zeros_like(inverse, dtype=torch.bool)
    for axis in (0, 1):
        line, mark = inverse.transpose(0, axis), between.transpose(0, axis)
        if line.shape[0] < 5:
            continue
        rise, fall = line[2:-2] - line[1:-3], line[3:-1] - line[2:-2]
        outer = torch.maximum((line[1:-3] - line[:-4]).abs(), (line[4:] - line[3:-1]).abs())
        whole = (line[3:-1] - line[1:-3]).abs()
        hangs = (rise * fall > 0) & (whole > 2 * SAME_SURFACE * line[2:-2]) & (whole > 3 * outer)
        mark[2:-2] |= hangs
    return between
