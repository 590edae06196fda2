"""Colors of depth maps and point maps, on perceptually uniform scales."""

from typing import Literal

import numpy as np

INVALID_GRAY = 128
ColorTable = Literal["magma", "viridis", "turbo"]


def colorize_depth(
    depth: np.ndarray, *, near: float | None = None, far: float | None = None, table: ColorTable = "magma"
) -> np.ndarray:
    """Depth [..., H, W] to uint8 colors [..., H, W, 3]: near is bright, far dark (magma and viridis), invalid gray.

    Colors are linear in inverse depth, which resolves near depths finely. Limits that are not given are the 2nd and
    98th percentile over all values.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        valid = np.isfinite(depth) & (depth > 0)
        inverse = np.where(valid, 1 / depth, 0)
    if valid.any():
        low, high = np.percentile(inverse[valid], [2, 98])
    else:
        low, high = 0.0, 1.0
    low = 1 / far if far is not None else low
    high = 1 / near if near is not None else high
    level = np.clip((inverse - low) / max(high - low, 1e-12), 0, 1)
    colors = _table(table)[(level * 255).round().astype(np.uint8)]
    colors[~valid] = INVALID_GRAY
    return colors


def colorize_points(pointmaps: np.ndarray) -> np.ndarray:
    """Point maps [..., H, W, 3] to uint8 colors: near is light and far dark, left green and right magenta, up blue and
    down yellow.

    z, x and y map to lightness, a and b of OKLab, so that perceived color differences reflect distances. Each is
    normalized by its 2nd and 98th percentile over all frames, which makes frames comparable. Invalid pixels are gray.
    """
    valid = np.isfinite(pointmaps).all(axis=-1)
    if not valid.any():
        return np.full(pointmaps.shape, INVALID_GRAY, np.uint8)
    x, y, z = np.moveaxis(_levels(pointmaps, valid), -1, 0)
    colors = _oklab_to_srgb(0.9 - 0.55 * z, 0.24 * (x - 0.5), 0.24 * (y - 0.5))
    colors[~valid] = INVALID_GRAY
    return colors


def _levels(pointmaps: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Each coordinate, scaled to 0 at its 2nd and 1 at its 98th percentile."""
    low, high = np.percentile(pointmaps[valid], [2, 98], axis=0)
    return np.nan_to_num(np.clip((pointmaps - low) / np.maximum(high - low, 1e-12), 0, 1))


def _oklab_to_srgb(lightness: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """OKLab (B. Ottosson, 2020) to sRGB uint8 [..., 3], clipped to the gamut."""
    cones = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ],
        axis=-1,
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(cones**3 @ to_linear.T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (encoded * 255).round().astype(np.uint8)


def _table(name: str) -> np.ndarray:
    """Color table [256, 3] uint8 of matplotlib."""
    import matplotlib

    return (np.asarray(matplotlib.colormaps[name](np.arange(256)))[:, :3] * 255).round().astype(np.uint8)
