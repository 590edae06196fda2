"""Pixels whose 3D point is unknown: a smooth fill for the VAE, and the weights that keep it out of the loss.

The VAE needs a value in every pixel. What is filled in is not learned: the loss weights the XYZ error of every latent
cell by the mean confidence of its pixels, which is 0 where the point is unknown.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import avg_pool3d, interpolate


def fill_unknown(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill unknown pixels smoothly from the known ones nearby in their frame.

    Pull and push: averages of the known pixels at ever coarser resolutions, then each unknown pixel is interpolated
    from the finest resolution that knows one nearby. A frame without known pixels takes the mean of frames nearby.
    Known pixels do not change.

    Args:
        points: [T, H, W, C] float32; any value, such as NaN, where unknown.
        known: [T, H, W] bool, at least one of them True.

    Returns:
        [T, H, W, C] float32, finite wherever `points` is finite in the known pixels.

    Raises:
        ValueError: no pixel is known.
    """
    if known.all():
        return points
    if not known.any():
        raise ValueError("known: expected at least one pixel, got none")
    weight = torch.from_numpy(known).float()[None, None]
    clean = torch.from_numpy(np.where(known[..., None], points, 0).astype(np.float32)).permute(3, 0, 1, 2)[None]
    filled = _pull_and_push(clean, weight)[0].permute(1, 2, 3, 0).numpy()
    return np.where(known[..., None], points, filled)


def _pull_and_push(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Values [1, C, T, H, W] with cells of weight 0 [1, 1, T, H, W] filled from half the resolution, recursively."""
    if bool((weight > 0).all()):
        return values
    frames, height, width = values.shape[2:]
    # Coarser in space first: points change more along time, as things and camera move, than from pixel to pixel.
    kernel = (1, min(2, height), min(2, width)) if max(height, width) > 1 else (min(2, frames), 1, 1)
    total = avg_pool3d(weight, kernel, ceil_mode=True, count_include_pad=False)
    mean = avg_pool3d(values * weight, kernel, ceil_mode=True, count_include_pad=False) / total.clamp_min(1e-12)
    coarse = _pull_and_push(mean, (total > 0).float())
    smooth = interpolate(coarse, size=values.shape[2:], mode="trilinear", align_corners=False)
    return torch.where(weight > 0, values, smooth)


def cell_weights(
    weight: np.ndarray, *, num_latent_frames: int, height: int, width: int, temporal_factor: int
) -> np.ndarray:
    """Mean weight of the pixels of each latent cell, [F, h, w] float32.

    The VAE is causal: the first latent frame stands for the first video frame, each later one for `temporal_factor`
    frames.

    Args:
        weight: [T, H, W] in [0, 1], T = temporal_factor * (F - 1) + 1; H and W are multiples of h and w.
        num_latent_frames: F.
        height, width: h and w.
        temporal_factor: video frames per latent frame.

    Raises:
        ValueError: the sizes do not fit.
    """
    frames, rows, columns = weight.shape
    if frames != temporal_factor * (num_latent_frames - 1) + 1 or rows % height or columns % width:
        cells = (num_latent_frames, height, width)
        raise ValueError(f"weight: expected a size that fits {cells} latent cells, got {weight.shape}")
    blocks = weight.astype(np.float64).reshape(frames, height, rows // height, width, columns // width)
    spatial = blocks.mean(axis=(2, 4))
    later = spatial[1:].reshape(num_latent_frames - 1, temporal_factor, height, width).mean(axis=1)
    return np.concatenate([spatial[:1], later]).astype(np.float32)
