"""Plane-sweep stereo in torch: matching costs, semi-global matching, and refinement at full resolution.

Planes parallel to a frame's image, at equal distances in inverse depth, are swept through the scene. Other frames are
warped onto each plane and compared by normalized cross-correlation (Collins 1996), semi-global matching selects the
plane of each pixel at low resolution (Hirschmueller 2008), and few hypotheses around it are compared at full
resolution. Everything runs on the device of the images, and gives the same result on every run.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

WINDOW = 5
"""Side of the correlation window in pixels."""
NOISE = (1.5 / 255) ** 2
"""Variance of image noise: with less texture, the correlation tends to 0."""
SMALL_PENALTY, MIN_LARGE_PENALTY, MAX_LARGE_PENALTY = 0.06, 0.15, 0.6
"""Penalties of semi-global matching of a change by one plane, and of a larger change at and away from image edges."""
EDGE = 12 / 255
"""Luminance difference of neighboring pixels at which the penalty of a large change falls to 1/e of its excess."""
UNIQUE_DISTANCE = 3
"""The second minimum of the cost is searched at least this many planes from the best."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A source frame as seen from a reference frame: x_source ~ warp [3, 3] x * depth + offset [3]."""

    image: Tensor  # [H, W] luminance in [0, 1]
    warp: Tensor  # [3, 3], K_source R K_reference^-1
    offset: Tensor  # [3], K_source t

    def project(self, rays: Tensor, inverse_depth: Tensor) -> Tensor:
        """Pixels (x, y) [..., 2] in the source of pixels with inverse depth [...]; far outside where behind it.

        Args:
            rays: [..., 3], homogeneous pixels of the reference.
            inverse_depth: broadcastable with [...].
        """
        turned = rays @ self.warp.T
        x, y, z = (turned[..., axis] + self.offset[axis] * inverse_depth for axis in range(3))
        front = z > 1e-6
        z = torch.where(front, z, torch.ones_like(z))
        return torch.stack([torch.where(front, x / z, -1e4), torch.where(front, y / z, -1e4)], dim=-1)


def homogeneous_pixels(height: int, width: int, device: torch.device) -> Tensor:
    """Homogeneous pixel coordinates [H, W, 3] float32."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device, dtype=torch.float32),
        torch.arange(width, device=device, dtype=torch.float32),
        indexing="ij",
    )
    return torch.stack([x, y, torch.ones_like(x)], dim=-1)


def sample(image: Tensor, pixels: Tensor, *, mode: str = "bilinear") -> Tensor:
    """Values [N, h, w] of an image [H, W] at pixels [N, h, w, 2]; the border's value outside."""
    size = torch.tensor([image.shape[1] - 1, image.shape[0] - 1], device=image.device, dtype=torch.float32)
    grid = pixels * (2 / size) - 1
    source = image[None, None].expand(len(grid), 1, *image.shape)
    return functional.grid_sample(source, grid, mode=mode, padding_mode="border", align_corners=True)[:, 0]


def inside(pixels: Tensor, height: int, width: int) -> Tensor:
    """Whether pixels [..., 2] are inside an image, [...] bool."""
    x, y = pixels[..., 0], pixels[..., 1]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def box_mean(values: Tensor, window: int = WINDOW) -> Tensor:
    """Mean over square windows of values [..., H, W]; the border is repeated."""
    half = window // 2
    height, width = values.shape[-2:]
    padded = functional.pad(values.reshape(-1, 1, height, width), (half, half, half, half), mode="replicate")
    # Sums in place: four times as fast as the sum of a generator, and eight times as fast as pooling on a CPU.
    rows = padded[..., :height, :].clone()
    for shift in range(1, window):
        rows += padded[..., shift : shift + height, :]
    total = rows[..., :width].clone()
    for shift in range(1, window):
        total += rows[..., shift : shift + width]
    return total.mul_(1 / window**2).reshape(values.shape)


def matching_cost(reference: Tensor, views: list[View], rays: Tensor, inverse_depth: Tensor) -> Tensor:
    """Costs [N, H, W], 1 - correlation, of N hypotheses: mean over the better half of the views, against occlusion.

    Args:
        reference: [H, W] luminance in [0, 1].
        views: the source frames.
        rays: [H, W, 3], homogeneous pixels.
        inverse_depth: [N, 1, 1] or [N, H, W].
    """
    mean = box_mean(reference)
    variance = box_mean(reference * reference) - mean * mean + NOISE
    costs = []
    for view in views:
        pixels = view.project(rays[None], inverse_depth)
        warped = sample(view.image, pixels)
        warped_mean = box_mean(warped)
        warped_variance = box_mean(warped * warped) - warped_mean * warped_mean + NOISE
        covariance = box_mean(reference * warped) - mean * warped_mean
        cost = 1 - covariance * torch.rsqrt(variance * warped_variance)
        costs.append(torch.where(inside(pixels, *view.image.shape), cost, torch.ones_like(cost)))
    return _better_half(costs)


def _better_half(costs: list[Tensor]) -> Tensor:
    """Mean of the smaller half of equally shaped tensors, at each position."""
    if len(costs) == 4:  # several times as fast as topk
        low, high = torch.minimum(costs[0], costs[1]), torch.maximum(costs[0], costs[1])
        other_low, other_high = torch.minimum(costs[2], costs[3]), torch.maximum(costs[2], costs[3])
        second = torch.minimum(torch.maximum(low, other_low), torch.minimum(high, other_high))
        return (torch.minimum(low, other_low) + second) / 2
    return torch.stack(costs).topk(max(1, len(costs) // 2), dim=0, largest=False).values.mean(0)


def select_planes(cost: Tensor, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Plane of each pixel by semi-global matching.

    Args:
        cost: [N, D, H, W] of N frames and D planes.
        images: [N, H, W] luminance in [0, 1].

    Returns:
        Index of the plane with its fraction [N, H, W], uniqueness (the cost of the second minimum minus that of the
        best) [N, H, W], and whether the best plane is inside the range [N, H, W] bool.
    """
    total = _aggregate(cost, images)
    num_planes = cost.shape[1]
    least, best = total.min(dim=1)
    inner = best.clamp(1, num_planes - 2)
    below, at, above = (total.gather(1, (inner + step)[:, None])[:, 0] for step in (-1, 0, 1))
    position = torch.where(inner == best, best + parabola(below, at, above), best.float())
    planes = torch.arange(num_planes, device=cost.device)[None, :, None, None]
    near = (planes - best[:, None]).abs() < UNIQUE_DISTANCE
    second = total.masked_fill_(near, torch.inf).amin(dim=1)
    return position, (second - least) / 4, inner == best


def parabola(below: Tensor, at: Tensor, above: Tensor) -> Tensor:
    """Position in [-.5, .5] of the minimum of the parabola through values at -1, 0 and 1; 0 where there is none."""
    curvature = below - 2 * at + above
    shift = 0.5 * (below - above) / curvature.clamp(min=1e-6)
    return torch.where(curvature > 1e-6, shift.clamp(-0.5, 0.5), torch.zeros_like(shift))


def _aggregate(cost: Tensor, images: Tensor) -> Tensor:
    """Sums of path costs [N, D, H, W] over four directions."""
    total = torch.zeros_like(cost)
    for axis in (2, 3):
        lines = cost.movedim(axis, 0).contiguous()  # [L, N, D, M]
        shades = images.movedim(axis - 1, 0)  # [L, N, M]
        step = (shades[1:] - shades[:-1]).abs()
        large = MIN_LARGE_PENALTY + (MAX_LARGE_PENALTY - MIN_LARGE_PENALTY) * torch.exp(-step / EDGE)
        sums = torch.zeros_like(lines)
        count = len(lines)
        for order in (range(count), range(count - 1, -1, -1)):
            previous = -1
            for number in order:
                if previous < 0:
                    path = lines[number].clone()
                else:
                    least = path.amin(dim=1, keepdim=True)
                    path = path - least
                    reached = torch.minimum(path, large[min(number, previous)][:, None])
                    raised = path + SMALL_PENALTY
                    torch.minimum(reached[:, 1:], raised[:, :-1], out=reached[:, 1:])
                    torch.minimum(reached[:, :-1], raised[:, 1:], out=reached[:, :-1])
                    path = reached.add_(lines[number])
                sums[number] += path
                previous = number
        total += sums.movedim(0, axis)
    return total
