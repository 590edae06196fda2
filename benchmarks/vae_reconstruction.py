"""Reconstruction error of a base model's VAE on held-out worlds: `python -m benchmarks.vae_reconstruction`

The error of the VAE is a lower bound for any model that generates its latents. The VAE is compared with three codes of
as many numbers as its latents: average pooling to the latent grid with trilinear interpolation back; the best linear
code of blocks of 8x8 pixels and four frames (principal components of training worlds); and the largest coefficients of
each clip's cosine transform. The last one is an upper bound rather than a code, since it does not store which
coefficients it keeps.

Errors are separated into pixels near depth discontinuities of the point map, and all others.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from scipy.fft import dctn, idctn
from scipy.ndimage import binary_dilation
from torch.nn import functional as F

from benchmarks.reporting import add_model_option, argument_parser, print_table
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.geometry.pointmaps import normalize_pointmaps
from fourdnex.io.pixels import normalize_pixels
from fourdnex.metrics.psnr import psnr
from fourdnex.model.presets import get_preset

CHANNELS = 16
"""Channels of the latents: numbers that every code may keep per block."""
DISCONTINUITY = 0.1
"""Distance between the points of neighboring pixels, in half extents, that counts as a discontinuity."""
RADIUS = 2
"""Pixels around a discontinuity that count as near it."""

Code = Callable[[np.ndarray], np.ndarray]
"""Encodes and decodes a pair of clips [2, T, H, W, 3] in [-1, 1] (RGB, XYZ)."""


@dataclass(frozen=True)
class Errors:
    """Errors of a code on one world: of all pixels, near discontinuities, elsewhere."""

    rgb: tuple[float, float, float]
    """PSNR in dB."""
    xyz: tuple[float, float, float]
    """Mean distance between points, in % of the half extent."""
    near: float
    """Share of the XYZ error near discontinuities."""


def main() -> None:
    """Evaluate all codes and print one row each."""
    parser = argument_parser(__doc__)
    add_model_option(parser)
    parser.add_argument("--worlds", type=int, default=64, help="number of held-out worlds (default: 64)")
    parser.add_argument("--scale", type=int, default=1, help="multiple of the preset's height and width (default: 1)")
    options = parser.parse_args()
    preset = get_preset(options.model)
    vae = AutoencoderKLWan.from_pretrained(preset.location, subfolder="vae", dtype=torch.float32).eval()
    size = {
        "num_frames": preset.num_frames,
        "height": options.scale * preset.height,
        "width": options.scale * preset.width,
    }
    training = [_pair(seed, **size) for seed in range(options.worlds)]
    codes: dict[str, Code] = {
        "average pooling and interpolation": average_pooling,
        "best linear code": LinearCode(training),
        "VAE": lambda pair: vae_roundtrip(vae, pair),
        "largest cosine coefficients": largest_coefficients,
    }
    errors: dict[str, list[Errors]] = {name: [] for name in codes}
    seconds: dict[str, list[float]] = {name: [] for name in codes}
    shares = []
    for seed in HELD_OUT_SEEDS[: options.worlds]:
        pair = _pair(seed, **size)
        near = near_discontinuities(pair[1])
        shares.append(near.mean())
        for name, code in codes.items():
            started = time.perf_counter()
            coded = code(pair)
            seconds[name].append(time.perf_counter() - started)
            errors[name].append(_errors(coded, pair, near))
    rows = [
        (
            name,
            *(statistics.fmean(error.rgb[part] for error in world_errors) for part in range(3)),
            *(statistics.fmean(error.xyz[part] for error in world_errors) for part in range(3)),
            f"{statistics.fmean(error.near for error in world_errors):.0%}",
            statistics.median(seconds[name]) / 2,
        )
        for name, world_errors in errors.items()
    ]
    print_table(
        f"VAE reconstruction of {preset.name} at {size['num_frames']}x{size['height']}x{size['width']}, "
        f"{options.worlds} held-out worlds",
        (
            "code",
            "RGB PSNR, dB",
            "RGB near discontinuities",
            "RGB elsewhere",
            "XYZ error, % of the half extent",
            "XYZ near discontinuities",
            "XYZ elsewhere",
            "share of XYZ error near discontinuities",
            "median seconds per clip",
        ),
        rows,
        notes=[
            "Means over worlds. XYZ is normalized and clipped to [-1, 1]; its error is the mean distance of points.",
            f"Near discontinuities: within {RADIUS} pixels of neighbors whose points are {DISCONTINUITY} half extents "
            f"apart, {statistics.fmean(shares):.0%} of all pixels.",
        ],
        packages=("numpy", "torch", "diffusers"),
    )


def _pair(seed: int, **size: int) -> np.ndarray:
    """RGB and normalized XYZ of a world, [2, T, H, W, 3] in [-1, 1]."""
    clip = render_world(seed, **size)
    points = clip.pointmaps
    if points is None:
        raise ValueError(f"{clip.name}: expected a world with point maps, got none")
    xyz, _ = normalize_pointmaps(points)
    return np.stack([normalize_pixels(clip.rgb), np.clip(xyz, -1, 1)]).astype(np.float32)


def near_discontinuities(xyz: np.ndarray) -> np.ndarray:
    """Mask [T, H, W] of the pixels within `RADIUS` of a discontinuity of a point map [T, H, W, 3]."""
    mask = np.zeros(xyz.shape[:3], bool)
    across = np.linalg.norm(np.diff(xyz, axis=2), axis=-1) > DISCONTINUITY
    down = np.linalg.norm(np.diff(xyz, axis=1), axis=-1) > DISCONTINUITY
    mask[:, :, 1:] |= across
    mask[:, :, :-1] |= across
    mask[:, 1:] |= down
    mask[:, :-1] |= down
    return binary_dilation(mask, np.ones((1, 2 * RADIUS + 1, 2 * RADIUS + 1)))


@torch.inference_mode()
def vae_roundtrip(vae: AutoencoderKLWan, pair: np.ndarray) -> np.ndarray:
    """Encode and decode a pair of clips by the VAE."""
    clips = torch.from_numpy(np.ascontiguousarray(pair.transpose(0, 4, 1, 2, 3)))
    return vae.decode(vae.encode(clips).latent_dist.mode()).sample.numpy().transpose(0, 2, 3, 4, 1)


def average_pooling(pair: np.ndarray) -> np.ndarray:
    """Average pooling to the latent grid (the first frame, then groups of four), and trilinear interpolation back."""
    clips = torch.from_numpy(pair.transpose(0, 4, 1, 2, 3))
    frames, height, width = clips.shape[2:]
    grid = (height // 8, width // 8)
    first = F.adaptive_avg_pool3d(clips[:, :, :1], (1, *grid))
    small = torch.cat([first, F.adaptive_avg_pool3d(clips[:, :, 1:], ((frames - 1) // 4, *grid))], dim=2)
    coded = F.interpolate(small, size=(frames, height, width), mode="trilinear", align_corners=False)
    return coded.numpy().transpose(0, 2, 3, 4, 1)


class LinearCode:
    """`CHANNELS` principal components per block: 8x8 pixels of the first frame, or of four later frames.

    Unlike the VAE, RGB and XYZ have components of their own.
    """

    def __init__(self, training: list[np.ndarray]) -> None:
        self.parts = [
            [_principal_components(np.concatenate([_blocks(part(pair[half])) for pair in training])) for part in _PARTS]
            for half in range(2)
        ]

    def __call__(self, pair: np.ndarray) -> np.ndarray:
        return np.stack([self._project(clip, parts) for clip, parts in zip(pair, self.parts, strict=True)])

    def _project(self, clip: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """RGB or XYZ, projected onto the components of its parts."""
        coded = []
        for part, (mean, components) in zip(_PARTS, parts, strict=True):
            blocks = _blocks(part(clip))
            projected = (blocks - mean) @ components @ components.T + mean
            coded.append(_from_blocks(projected, part(clip).shape))
        return np.concatenate(coded)


_PARTS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (lambda clip: clip[:1], lambda clip: clip[1:])
"""Parts that the VAE encodes separately: the first frame, and the later ones in groups of four."""


def _blocks(clip: np.ndarray) -> np.ndarray:
    """[T, H, W, 3] to [blocks, values]; a block is 8x8 pixels of up to four frames."""
    frames, height, width, _ = clip.shape
    depth = min(frames, 4)
    grid = clip.reshape(frames // depth, depth, height // 8, 8, width // 8, 8, 3).transpose(0, 2, 4, 1, 3, 5, 6)
    return grid.reshape(-1, depth * 8 * 8 * 3)


def _from_blocks(blocks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Inverse of `_blocks`."""
    frames, height, width, _ = shape
    depth = min(frames, 4)
    grid = blocks.reshape(frames // depth, height // 8, width // 8, depth, 8, 8, 3)
    return grid.transpose(0, 3, 1, 4, 2, 5, 6).reshape(shape)


def _principal_components(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [values] and first `CHANNELS` components [values, CHANNELS] of samples [N, values]."""
    mean = samples.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov(samples - mean, rowvar=False))  # ascending
    return mean, vectors[:, -CHANNELS:].astype(np.float32)


def largest_coefficients(pair: np.ndarray) -> np.ndarray:
    """The largest coefficients of each clip's cosine transform after decorrelating its channels, as many as latents."""
    _, frames, height, width, _ = pair.shape
    kept = CHANNELS * (1 + (frames - 1) // 4) * (height // 8) * (width // 8)
    coded = []
    for clip in pair:
        flat = clip.reshape(-1, 3).astype(np.float64)
        mean = flat.mean(axis=0)
        _, axes = np.linalg.eigh(np.cov(flat - mean, rowvar=False))
        coefficients = dctn(((flat - mean) @ axes).reshape(clip.shape), axes=(0, 1, 2), norm="ortho")
        size = np.abs(coefficients)
        coefficients[size < np.partition(size, -kept, axis=None)[-kept]] = 0
        coded.append(idctn(coefficients, axes=(0, 1, 2), norm="ortho") @ axes.T + mean)
    return np.stack(coded)


def _errors(coded: np.ndarray, pair: np.ndarray, near: np.ndarray) -> Errors:
    """Errors of a coded pair of clips."""
    distance = np.linalg.norm(coded[1] - pair[1], axis=-1)
    parts = (np.ones_like(near), near, ~near)
    return Errors(
        rgb=tuple(psnr(coded[0][part], pair[0][part], data_range=2.0) for part in parts),
        xyz=tuple(float(100 * distance[part].mean()) for part in parts),
        near=float(distance[near].sum() / distance.sum()),
    )


if __name__ == "__main__":
    main()
