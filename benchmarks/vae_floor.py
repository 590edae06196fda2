"""What a base's VAE alone loses on held-out worlds: `python -m benchmarks.vae_floor`

No model can be better than the VAE that its clips come out of. The baseline is the same number of latent frames, rows
and columns without a network: the clip averaged down to that grid and interpolated back.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch.nn import functional as F

from benchmarks.reporting import print_table
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.geometry.pointmaps import normalise_pointmaps
from fourdnex.model.presets import get_preset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="preset or folder of the base (default tiny)")
    parser.add_argument("--worlds", type=int, default=64, help="how many held-out worlds (default 64)")
    options = parser.parse_args()
    preset = get_preset(options.model)
    vae = AutoencoderKLWan.from_pretrained(preset.location, subfolder="vae", dtype=torch.float32).eval()
    methods = {"averaged and interpolated": _averaged, "the base's VAE": lambda pair: _through(vae, pair)}
    errors: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for seed in HELD_OUT_SEEDS[: options.worlds]:
        pair = _pair(seed, num_frames=preset.num_frames, height=preset.height, width=preset.width)
        for name, method in methods.items():
            started = time.perf_counter()
            with torch.inference_mode():
                output = method(pair)
            seconds[name].append(time.perf_counter() - started)
            errors[name].append(_errors(output, pair))
    rows = []
    for name, pairs in errors.items():
        psnr, xyz = zip(*pairs, strict=True)
        rows.append(
            (
                name,
                statistics.fmean(psnr),
                statistics.median(psnr),
                min(psnr),
                100 * statistics.fmean(xyz),
                100 * statistics.median(xyz),
                100 * max(xyz),
                statistics.median(seconds[name]) / 2,
            )
        )
    print_table(
        f"VAE floor of {preset.name} on {options.worlds} held-out worlds",
        (
            "through",
            "RGB PSNR dB, mean",
            "median",
            "worst",
            "XYZ error in % of the half extent, mean",
            "median",
            "worst",
            "median s a clip",
        ),
        rows,
        notes=[
            "XYZ error: mean distance of points before and after, normalised and clipped to [-1, 1] beforehand.",
        ],
        packages=("numpy", "torch", "diffusers"),
    )


def _pair(seed: int, **size: int) -> torch.Tensor:
    """RGB and normalised XYZ of a world, [2, 3, T, H, W] in [-1, 1]."""
    clip = render_world(seed, **size)
    points = clip.pointmaps
    if points is None:
        raise ValueError(f"{clip.name}: expected a world with point maps")
    xyz, _ = normalise_pointmaps(points)
    pair = np.stack([clip.rgb / np.float32(127.5) - 1, np.clip(xyz, -1, 1)]).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(pair.transpose(0, 4, 1, 2, 3)))


def _through(vae: AutoencoderKLWan, pair: torch.Tensor) -> torch.Tensor:
    return vae.decode(vae.encode(pair).latent_dist.mode()).sample


def _averaged(pair: torch.Tensor) -> torch.Tensor:
    """As many frames, rows and columns as the latents have: the first frame alone, then four frames to one."""
    frames, height, width = pair.shape[2:]
    grid = (height // 8, width // 8)
    small = torch.cat(
        [
            F.adaptive_avg_pool3d(pair[:, :, :1], (1, *grid)),
            F.adaptive_avg_pool3d(pair[:, :, 1:], ((frames - 1) // 4, *grid)),
        ],
        dim=2,
    )
    return F.interpolate(small, size=(frames, height, width), mode="trilinear", align_corners=False)


def _errors(output: torch.Tensor, pair: torch.Tensor) -> tuple[float, float]:
    """PSNR of RGB in dB, mean distance of XYZ in half extents."""
    mse = ((output[0] - pair[0]) / 2).square().mean()
    return float(-10 * torch.log10(mse)), float((output[1] - pair[1]).norm(dim=0).mean())


if __name__ == "__main__":
    main()
