"""Pretraining of the tiny video VAE on procedural worlds: single frames first, then clips.

On single frames a causal 3D convolution sees only zeros before its last temporal tap, so the frame stage runs the same
weights as 2D convolutions (`single_frame_convolutions`), three times faster and with the same numbers. All other taps
start at zero and the temporal resamplers as averages and copies (`start_as_frame_model`), so the clip stage begins
as a model that codes frames well and learns motion from there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanResample, WanResidualBlock
from torch.nn import functional as F

from fourdnex.datasets.worlds import HELD_OUT_SEEDS, training_seeds
from fourdnex.datasets.worlds.families import PRIMITIVES
from fourdnex.evaluation.psnr import psnr
from fourdnex.io.pixels import normalize_pixels
from fourdnex.pretraining.encoded_worlds import EncodedWorlds
from fourdnex.pretraining.muon import Muon, split_parameters
from fourdnex.pretraining.world_pairs import pair_pixels, world_pair

VAE_CONFIG = {
    "base_dim": 24,
    "z_dim": 16,
    "dim_mult": [1, 2, 4],
    "num_res_blocks": 2,
    "temperal_downsample": [True, True],
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "scale_factor_temporal": 4,
    "scale_factor_spatial": 8,
}


@dataclass(frozen=True, kw_only=True)
class VaePretraining:
    """Settings of the VAE's pretraining; minutes bound each stage, whatever the machine's speed."""

    frame_minutes: float = 9.0
    clip_minutes: float = 14.0
    frame_batch: int = 8
    """Frames a step, half of them RGB and half XYZ."""
    clip_batch: int = 2
    """Clips a step, half of them RGB and half XYZ."""
    clip_frames: tuple[int, ...] = (5, 9)
    """Lengths of the training windows, drawn at random: what follows the second latent frame repeats it."""
    frame_rate_max: float = 0.02
    """Peak learning rate of Muon on frames; AdamW's, for vectors and thin layers, is a tenth of it."""
    clip_rate_max: float = 0.01
    kl_weight: float = 1e-6
    ema: float = 0.998
    pool_worlds: int = 192
    """Worlds held in memory; one is replaced by a new one every `refresh` steps."""
    refresh: int = 2
    seed: int = 0


class WorldPool:
    """A rolling pool of rendered training worlds as RGB and normalized XYZ clips in [-1, 1]."""

    def __init__(self, size: int, *, seed: int):
        self._seeds = training_seeds(seed * 1_000_000, 900_000)
        self._rng = np.random.default_rng(seed)
        self._clips = [self._next() for _ in range(size)]
        self._oldest = 0

    def _next(self) -> tuple[np.ndarray, np.ndarray]:
        return world_pair(next(self._seeds))

    def refresh(self) -> None:
        """Replace the oldest world by a new one."""
        self._clips[self._oldest] = self._next()
        self._oldest = (self._oldest + 1) % len(self._clips)

    def batch(self, size: int, num_frames: int) -> torch.Tensor:
        """`size` windows, RGB and XYZ in turn, [B, 3, num_frames, H, W] float32 in [-1, 1], mirrored at random."""
        items = []
        for i in range(size):
            rgb, xyz = self._clips[self._rng.integers(len(self._clips))]
            start = self._rng.integers(len(rgb) - num_frames + 1)
            item = (rgb if i % 2 == 0 else xyz)[start : start + num_frames].astype(np.float32)
            if i % 2 == 0:
                item = normalize_pixels(item)
            if self._rng.random() < 0.5:
                item = item[:, :, ::-1].copy()
                if i % 2:
                    item[..., 0] *= -1.0
            items.append(item.transpose(3, 0, 1, 2))
        return torch.from_numpy(np.stack(items))


def start_as_frame_model(vae: AutoencoderKLWan) -> None:
    """Zero all temporal taps but the last, and make temporal resampling average (down) and copy (up); in place."""
    with torch.no_grad():
        for module in vae.modules():
            if isinstance(module, WanResidualBlock):
                module.conv2.weight.zero_()  # every block starts as its shortcut
        for module in vae.modules():
            if isinstance(module, WanCausalConv3d) and module.weight.shape[2] == 3 and module.weight.shape[3] == 3:
                module.weight[:, :, :-1] = 0
        for module in vae.modules():
            if not isinstance(module, WanResample) or not hasattr(module, "time_conv"):
                continue
            weight, bias = module.time_conv.weight, module.time_conv.bias
            weight.zero_()
            bias.zero_()
            eye = torch.eye(weight.shape[1])
            if module.mode == "downsample3d":
                weight[:, :, 1, 0, 0] = 0.5 * eye
                weight[:, :, 2, 0, 0] = 0.5 * eye
            else:
                weight[:, :, -1, 0, 0] = torch.cat([eye, eye])


@contextmanager
def single_frame_convolutions(vae: AutoencoderKLWan) -> Iterator[None]:
    """Within the context, run the VAE's causal 3D convolutions as 2D ones; right for inputs of ONE frame only."""

    def bind(module: WanCausalConv3d) -> Callable[..., torch.Tensor]:
        spatial = module._padding[0]

        def forward(x: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
            return F.conv2d(x[:, :, 0], module.weight[:, :, -1], module.bias, padding=spatial).unsqueeze(2)

        return forward

    modules = [m for m in vae.modules() if isinstance(m, WanCausalConv3d) and m.stride[0] == 1]
    for module in modules:
        module.forward = bind(module)
    try:
        yield
    finally:
        for module in modules:
            del module.forward


@dataclass(frozen=True, kw_only=True)
class DecoderPretraining:
    """Settings of a decoder's further training."""

    minutes: float
    rate_max: float = 0.006
    """Peak learning rate of Muon; AdamW's is a tenth of it."""
    latent_frames: tuple[int, ...] = (2, 3, 5)
    """How many of a clip's latent frames a step decodes, from the first one on; drawn at random."""
    ema: float = 0.998
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """A stretch of training with a learning rate that rises and falls once."""

    name: str
    minutes: float
    rate_max: float
    ema: float
    loss: Callable[[int], tuple[torch.Tensor, tuple[float, float]]]
    """Of a step: what is minimized, and the mean absolute errors of RGB and XYZ."""
    measured_frames: int


def pretrain_vae(config: VaePretraining, folder: Path) -> AutoencoderKLWan:
    """Train the VAE and write it (averaged weights) with its log into `folder`.

    The log is `training_log.jsonl`, one line every 50 steps; the held-out figures are measured on 16 held-out worlds.
    """
    torch.manual_seed(config.seed)
    vae = AutoencoderKLWan(**VAE_CONFIG)
    start_as_frame_model(vae)
    pool = WorldPool(config.pool_worlds, seed=config.seed + 1)
    rng = np.random.default_rng(config.seed)

    def of_frames(step: int) -> tuple[torch.Tensor, tuple[float, float]]:
        if step % config.refresh == 0:
            pool.refresh()
        with single_frame_convolutions(vae):
            return _loss(vae, pool.batch(config.frame_batch, 1), config.kl_weight)

    def of_clips(step: int) -> tuple[torch.Tensor, tuple[float, float]]:
        if step % config.refresh == 0:
            pool.refresh()
        return _loss(vae, pool.batch(config.clip_batch, int(rng.choice(config.clip_frames))), config.kl_weight)

    frames, clips = (config.frame_minutes, config.frame_rate_max), (config.clip_minutes, config.clip_rate_max)
    average = {k: v.detach().clone() for k, v in vae.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "training_log.jsonl", "w") as log:
        log.write(json.dumps({"config": asdict(config)}) + "\n")
        for name, loss, (minutes, rate), measured in (("frames", of_frames, frames, 1), ("clips", of_clips, clips, 17)):
            stage = _Stage(
                name=name, minutes=minutes, rate_max=rate, ema=config.ema, loss=loss, measured_frames=measured
            )
            if minutes > 0:
                _run_stage(vae, average, stage, log, folder)
                _save(vae, average, folder)
    vae.load_state_dict(average)
    return vae


def pretrain_decoder(
    config: DecoderPretraining, vae: AutoencoderKLWan, worlds: EncodedWorlds, folder: Path, log: Path
) -> None:
    """Train the decoder further, in place (averaged weights); on the way the VAE is written into `folder`.

    `log` is carried on. The encoder stays as it is: latents keep their meaning, and with them every base that was
    trained on them. `worlds` were encoded by it.
    """
    rng = np.random.default_rng(config.seed)
    vae.requires_grad_(False)
    for part in (vae.post_quant_conv, vae.decoder):
        part.requires_grad_(True)
    mean, std = (
        torch.tensor(value).view(1, -1, 1, 1, 1) for value in (vae.config.latents_mean, vae.config.latents_std)
    )

    def of_a_world(step: int) -> tuple[torch.Tensor, tuple[float, float]]:
        i, kept = int(rng.integers(len(worlds.seeds))), int(rng.choice(config.latent_frames))
        latents = torch.stack([worlds.rgb[i, :, :kept], worlds.xyz[i, :, :kept]]) * std + mean
        pixels = pair_pixels(world_pair(worlds.seeds[i], worlds.families[i], worlds.size))[:, :, : 4 * kept - 3]
        error = vae.decode(latents).sample - pixels
        absolute = error.abs().mean(dim=(1, 2, 3, 4))
        return absolute.mean() + error.square().mean(), (absolute[0].item(), absolute[1].item())

    average = {k: v.detach().clone() for k, v in vae.state_dict().items()}
    stage = _Stage(
        name="decoder",
        minutes=config.minutes,
        rate_max=config.rate_max,
        ema=config.ema,
        loss=of_a_world,
        measured_frames=17,
    )
    with open(log, "a") as lines:
        lines.write(json.dumps({"config": asdict(config)}) + "\n")
        _run_stage(vae, average, stage, lines, folder)
    vae.load_state_dict(average)


def _run_stage(
    vae: AutoencoderKLWan, average: dict[str, torch.Tensor], stage: _Stage, log: TextIO, folder: Path
) -> None:
    trained = [(name, value) for name, value in vae.named_parameters() if value.requires_grad]
    hidden, rest = split_parameters(trained, keep=("time_conv",))
    optimizers = [
        Muon(hidden, lr=stage.rate_max),
        torch.optim.AdamW(rest, lr=stage.rate_max / 10, betas=(0.9, 0.95), weight_decay=1e-4),
    ]
    peaks = [stage.rate_max, stage.rate_max / 10]
    started, step, recent = time.monotonic(), 0, []
    while (done := (time.monotonic() - started) / (60 * stage.minutes)) < 1:
        factor = min(1.0, (step + 1) / 30) * max(0.02, 0.5 * (1 + np.cos(np.pi * done)))
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * factor
        loss, parts = stage.loss(step)
        vae.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([value for _, value in trained], 1.0)
        for optimizer in optimizers:
            optimizer.step()
        if not torch.isfinite(loss):
            raise ValueError(f"loss: expected a finite number at {stage.name} step {step}, got {loss.item()}")
        with torch.no_grad():
            decay = min(stage.ema, (step + 1) / (step + 10))
            for name, value in vae.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        recent.append(parts)
        step += 1
        if step % 50 == 0:
            mean = np.mean(recent[-50:], axis=0)
            line = {
                "stage": stage.name,
                "step": step,
                "minutes": round((time.monotonic() - started) / 60, 2),
                "rgb_l1": round(float(mean[0]), 5),
                "xyz_l1": round(float(mean[1]), 5),
            }
            if step % 300 == 0:
                line |= _measure_with(vae, average, stage.measured_frames)
                _save(vae, average, folder)
            log.write(json.dumps(line) + "\n")
            log.flush()


def _loss(vae: AutoencoderKLWan, batch: torch.Tensor, kl_weight: float) -> tuple[torch.Tensor, tuple[float, float]]:
    posterior = vae.encode(batch).latent_dist
    output = vae.decode(posterior.sample()).sample
    error = (output - batch).abs().mean(dim=(1, 2, 3, 4))
    loss = error.mean() + kl_weight * posterior.kl().mean()
    return loss, (error[0::2].mean().item(), error[1::2].mean().item())


def measure_vae(
    vae: AutoencoderKLWan, *, num_worlds: int = 16, num_frames: int = 17, family: str = PRIMITIVES
) -> dict[str, float]:
    """RGB PSNR in dB and mean XYZ error as a share of the half extent, on held-out worlds through encode and decode."""
    rgb_db, xyz_error = [], []
    with torch.no_grad():
        for seed in HELD_OUT_SEEDS[:num_worlds]:
            pair = pair_pixels(world_pair(seed, family))[:, :, :num_frames]
            output = vae.decode(vae.encode(pair).latent_dist.mode()).sample
            rgb_db.append(psnr(output[0].numpy(), pair[0].numpy(), data_range=2.0))
            xyz_error.append((output[1] - pair[1]).norm(dim=0).mean().item())
    return {"rgb_psnr_db": round(float(np.mean(rgb_db)), 3), "xyz_error": round(float(np.mean(xyz_error)), 5)}


def _measure_with(vae: AutoencoderKLWan, average: dict[str, torch.Tensor], num_frames: int) -> dict[str, float]:
    kept = {k: v.detach().clone() for k, v in vae.state_dict().items()}
    vae.load_state_dict(average)
    result = measure_vae(vae, num_frames=num_frames)
    vae.load_state_dict(kept)
    return result


def _save(vae: AutoencoderKLWan, average: dict[str, torch.Tensor], folder: Path) -> None:
    kept = {k: v.detach().clone() for k, v in vae.state_dict().items()}
    vae.load_state_dict(average)
    vae.save_pretrained(folder)
    vae.load_state_dict(kept)
