"""Pixel values: uint8 in [0, 255] to float32 in [-1, 1] and back, for numpy arrays and torch tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

if TYPE_CHECKING:
    import torch


@overload
def normalize_pixels(rgb: np.ndarray) -> np.ndarray: ...
@overload
def normalize_pixels(rgb: torch.Tensor) -> torch.Tensor: ...
def normalize_pixels(rgb: Any) -> Any:
    """Values in [0, 255] of any shape as float32 in [-1, 1]; a tensor stays on its device."""
    values = rgb.astype(np.float32) if isinstance(rgb, np.ndarray) else rgb.float()
    return values / 127.5 - 1.0


@overload
def denormalize_pixels(values: np.ndarray) -> np.ndarray: ...
@overload
def denormalize_pixels(values: torch.Tensor) -> torch.Tensor: ...
def denormalize_pixels(values: Any) -> Any:
    """Values in [-1, 1] of any shape as uint8, rounded to the nearest level; values outside the range are clipped."""
    if isinstance(values, np.ndarray):
        return ((values + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    return ((values.float() + 1) * 127.5).round().clamp(0, 255).byte()


def pointmap_colors(xyz: np.ndarray) -> np.ndarray:
    """Normalized point maps [..., 3] as colors [..., 3] uint8: x, y and z, clipped to [-1, 1], are red, green and blue.

    Levels are rounded down, unlike those of `denormalize_pixels`.
    """
    return ((np.clip(xyz, -1, 1) + 1) * 127.5).astype(np.uint8)
