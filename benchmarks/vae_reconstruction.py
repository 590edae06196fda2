"""What a base's VAE alone loses on held-out worlds, and where: `python -m benchmarks.vae_reconstruction`

No model can be better than the VAE that its clips come out of. Beside the VAE stand three codes of exactly as many
numbers as its latents have: the clip averaged down to their grid and interpolated back; the best linear code of blocks
of the latents' reach (8x8 pixels, four frames; principal components of training worlds); and the largest coefficients
of each clip's own cosine transform, which is a bound for what could be asked rather than a code, for it keeps no record
of which ones they are.

Errors are told apart near jumps of the point map, where one pixel's point lies far from the next one's, and elsewhere.
"""

import argparse
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

from benchmarks.reporting import print_table
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.evaluation.psnr import psnr
from fourdnex.geometry.pointmaps import normalize_pointmaps
from fourdnex.io.pixels import normalize_pixels
from fourdnex.model.presets import get_preset

CHANNELS = 16
"""Of a latent: what every code may keep of a block."""
JUMP = 0.1
"""Distance of neighboring pixels' points in half extents, from which they are two surfaces."""
REACH = 2
"""Pixels around a jump that count as near."""

Code = Callable[[np.ndarray], np.ndarray]
"""A pair of clips [2, T, H, W, 3] in [-1, 1] (RGB, XYZ) to what is left of it."""


@dataclass(frozen=True)
class Loss:
    """What a code loses of one world: everywhere, near jumps, elsewhere."""

    rgb: tuple[float, float, float]
    """PSNR in dB."""
    xyz: tuple[float, float, float]
    """Mean distance of points in % of the half extent."""
    near: float
    """Share of the whole XYZ error that lies near jumps."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="preset or folder of the base (default tiny)")
    parser.add_argument("--worlds", type=int, default=64, help="how many held-out worlds (default 64)")
    parser.add_argument("--scale", type=int, default=1, help="height and width in the preset's own (default 1)")
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
        "averaged and interpolated": _averaged,
        "best linear code": LinearCode(training),
        "the base's VAE": lambda pair: _through(vae, pair),
        "a clip's largest cosine coefficients": _largest_coefficients,
    }
    losses: dict[str, list[Loss]] = {name: [] for name in codes}
    seconds: dict[str, list[float]] = {name: [] for name in codes}
    shares = []
    for seed in HELD_OUT_SEEDS[: options.worlds]:
        pair = _pair(seed, **size)
        near = near_jumps(pair[1])
        shares.append(near.mean())
        for name, code in codes.items():
            started = time.perf_counter()
            coded = code(pair)
            seconds[name].append(time.perf_counter() - started)
            losses[name].append(_loss(coded, pair, near))
    rows = [
        (
            name,
            *(statistics.fmean(loss.rgb[part] for loss in found) for part in range(3)),
            *(statistics.fmean(loss.xyz[part] for loss in found) for part in range(3)),
            f"{statistics.fmean(loss.near for loss in found):.0%}",
            statistics.median(seconds[name]) / 2,
        )
        for name, found in losses.items()
    ]
    print_table(
        f"VAE floor of {preset.name} at {size['num_frames']}x{size['height']}x{size['width']}, "
        f"{options.worlds} held-out worlds",
        (
            "code",
            "RGB PSNR, dB",
            "near jumps",
            "elsewhere",
            "XYZ error, % of the half extent",
            "near jumps",
            "elsewhere",
            "of the XYZ error near jumps",
            "median s a clip",
        ),
        rows,
        notes=[
            "Means over worlds. XYZ is normalized and clipped to [-1, 1]; its error is the mean distance of points.",
            f"Near jumps: within {REACH} pixels of neighbors whose points lie {JUMP} half extents apart, "
            f"{statistics.fmean(shares):.0%} of all pixels.",
        ],
        packages=("numpy", "torch", "diffusers"),
    )


def _pair(seed: int, **size: int) -> np.ndarray:
    """RGB and normalized XYZ of a world, [2, T, H, W, 3] in [-1, 1]."""
    clip = render_world(seed, **size)
    points = clip.pointmaps
    if points is None:
        raise ValueError(f"{clip.name}: expected a world with point maps")
    xyz, _ = normalize_pointmaps(points)
    return np.stack([normalize_pixels(clip.rgb), np.clip(xyz, -1, 1)]).astype(np.float32)


def near_jumps(xyz: np.ndarray) -> np.ndarray:
    """Pixels [T, H, W] within `REACH` of a jump in a point map [T, H, W, 3]."""
    jumps = np.zeros(xyz.shape[:3], bool)
    across = np.linalg.norm(np.diff(xyz, axis=2), axis=-1) > JUMP
    down = np.linalg.norm(np.diff(xyz, axis=1), axis=-1) > JUMP
    jumps[:, :, 1:] |= across
    jumps[:, :, :-1] |= across
    jumps[:, 1:] |= down
    jumps[:, :-1] |= down
    return binary_dilation(jumps, np.ones((1, 2 * REACH + 1, 2 * REACH + 1)))


@torch.inference_mode()
def _through(vae: AutoencoderKLWan, pair: np.ndarray) -> np.ndarray:
    clips = torch.from_numpy(np.ascontiguousarray(pair.transpose(0, 4, 1, 2, 3)))
    return vae.decode(vae.encode(clips).latent_dist.mode()).sample.numpy().transpose(0, 2, 3, 4, 1)


def _averaged(pair: np.ndarray) -> np.ndarray:
    """As many frames, rows and columns as the latents have: the first frame alone, then four frames to one."""
    clips = torch.from_numpy(pair.transpose(0, 4, 1, 2, 3))
    frames, height, width = clips.shape[2:]
    grid = (height // 8, width // 8)
    first = F.adaptive_avg_pool3d(clips[:, :, :1], (1, *grid))
    small = torch.cat([first, F.adaptive_avg_pool3d(clips[:, :, 1:], ((frames - 1) // 4, *grid))], dim=2)
    coded = F.interpolate(small, size=(frames, height, width), mode="trilinear", align_corners=False)
    return coded.numpy().transpose(0, 2, 3, 4, 1)


class LinearCode:
    """`CHANNELS` principal components of each block: of the first frame's 8x8 pixels, then of four frames of them.

    RGB and XYZ have components of their own, which the VAE has not.
    """

    def __init__(self, training: list[np.ndarray]) -> None:
        self.parts = [
            [_principal(np.concatenate([_blocks(part(pair[half])) for pair in training])) for part in _PARTS]
            for half in range(2)
        ]

    def __call__(self, pair: np.ndarray) -> np.ndarray:
        return np.stack([self._half(clip, parts) for clip, parts in zip(pair, self.parts, strict=True)])

    def _half(self, clip: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        coded = []
        for part, (mean, components) in zip(_PARTS, parts, strict=True):
            blocks = _blocks(part(clip))
            left = (blocks - mean) @ components @ components.T + mean
            coded.append(_unblocked(left, part(clip).shape))
        return np.concatenate(coded)


_PARTS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (lambda clip: clip[:1], lambda clip: clip[1:])
"""What the VAE codes apart: the first frame, and the others four at a time."""


def _blocks(clip: np.ndarray) -> np.ndarray:
    """[T, H, W, 3] to [blocks, values], a block being 8x8 pixels of up to four frames."""
    frames, height, width, _ = clip.shape
    depth = min(frames, 4)
    cut = clip.reshape(frames // depth, depth, height // 8, 8, width // 8, 8, 3).transpose(0, 2, 4, 1, 3, 5, 6)
    return cut.reshape(-1, depth * 8 * 8 * 3)


def _unblocked(blocks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Inverse of `_blocks`."""
    frames, height, width, _ = shape
    depth = min(frames, 4)
    cut = blocks.reshape(frames // depth, height // 8, width // 8, depth, 8, 8, 3)
    return cut.transpose(0, 3, 1, 4, 2, 5, 6).reshape(shape)


def _principal(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [values] and the first components [values, CHANNELS] of samples [N, values]."""
    mean = samples.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov(samples - mean, rowvar=False))  # ascending
    return mean, vectors[:, -CHANNELS:].astype(np.float32)


def _largest_coefficients(pair: np.ndarray) -> np.ndarray:
    """Of each clip's cosine transform, channels made independent first, as many coefficients as latents."""
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


def _loss(coded: np.ndarray, pair: np.ndarray, near: np.ndarray) -> Loss:
    distance = np.linalg.norm(coded[1] - pair[1], axis=-1)
    parts = (np.ones_like(near), near, ~near)
    return Loss(
        rgb=tuple(psnr(coded[0][part], pair[0][part], data_range=2.0) for part in parts),
        xyz=tuple(float(100 * distance[part].mean()) for part in parts),
        near=float(distance[near].sum() / distance.sum()),
    )


if __name__ == "__main__":
    main()
