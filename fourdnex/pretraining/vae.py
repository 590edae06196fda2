"""Pretraining of the tiny video VAE on procedural worlds: single frames first, then clips.

The frame stage is cheap (see `frame_stage`). The clip stage starts as a model that encodes frames well, and learns
motion from there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan

from fourdnex.datasets.worlds import HELD_OUT_SEEDS, training_seeds
from fourdnex.datasets.worlds.families import PRIMITIVES
from fourdnex.io.pixels import normalize_pixels
from fourdnex.metrics.psnr import psnr
from fourdnex.pretraining.encoded_worlds import EncodedWorlds
from fourdnex.pretraining.frame_stage import init_as_frame_model, single_frame_convolutions
from fourdnex.pretraining.loop import ExponentialMovingAverage, JsonLines, Metrics, Objective, PretrainingLoop
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
_EMA_WARMUP = 9
"""See `ExponentialMovingAverage`."""
_MEASURE_EVERY = 300


@dataclass(frozen=True, kw_only=True)
class VaePretraining:
    """Settings of the VAE's pretraining: a stage on single frames, then a stage on clips."""

    frame_minutes: float = 9.0
    """Wall-clock time of the frame stage."""
    clip_minutes: float = 14.0
    """Wall-clock time of the clip stage."""
    frame_batch_size: int = 8
    """Frames per step, half of them RGB and half XYZ."""
    clip_batch_size: int = 2
    """Clips per step, half of them RGB and half XYZ."""
    clip_frames: tuple[int, ...] = (5, 9)
    """Lengths of the training windows, drawn at random; longer ones only repeat what the second latent frame does."""
    frame_learning_rate: float = 0.02
    """Peak learning rate of Muon in the frame stage; AdamW, for vectors and thin layers, has a tenth of it."""
    clip_learning_rate: float = 0.01
    """Peak learning rate of Muon in the clip stage; AdamW has a tenth of it."""
    warmup_steps: int = 30
    """Steps of the linear learning rate warmup of each stage."""
    kl_weight: float = 1e-6
    """Weight of the KL divergence."""
    ema_decay: float = 0.998
    """Decay of the exponential moving average of the weights, which is saved."""
    pool_worlds: int = 192
    """Worlds in memory."""
    refresh_every: int = 2
    """Steps between two replacements of the oldest world by a new one."""
    seed: int = 0
    """Seed of weights, worlds and batches."""


class WorldPool:
    """A rolling pool of rendered training worlds."""

    def __init__(self, size: int, *, seed: int):
        self._seeds = training_seeds(seed * 1_000_000, 900_000)
        self._rng = np.random.default_rng(seed)
        self._pairs = [world_pair(next(self._seeds)) for _ in range(size)]
        self._oldest = 0

    def refresh(self) -> None:
        """Replace the oldest world by a new one."""
        self._pairs[self._oldest] = world_pair(next(self._seeds))
        self._oldest = (self._oldest + 1) % len(self._pairs)

    def batch(self, size: int, num_frames: int) -> torch.Tensor:
        """Random windows of random worlds, mirrored with probability 0.5; RGB and XYZ alternate.

        Returns:
            [size, 3, num_frames, H, W] float32 in [-1, 1].
        """
        items = []
        for i in range(size):
            is_xyz = i % 2 == 1
            rgb, xyz = self._pairs[self._rng.integers(len(self._pairs))]
            start = self._rng.integers(len(rgb) - num_frames + 1)
            item = (xyz if is_xyz else rgb)[start : start + num_frames].astype(np.float32)
            if not is_xyz:
                item = normalize_pixels(item)
            if self._rng.random() < 0.5:
                item = item[:, :, ::-1].copy()
                if is_xyz:
                    item[..., 0] *= -1.0
            items.append(item.transpose(3, 0, 1, 2))
        return torch.from_numpy(np.stack(items))


@dataclass(frozen=True, kw_only=True)
class DecoderPretraining:
    """Settings of the further training of a VAE's decoder."""

    minutes: float
    """Wall-clock time."""
    learning_rate: float = 0.006
    """Peak learning rate of Muon; AdamW has a tenth of it."""
    warmup_steps: int = 30
    """Steps of the linear learning rate warmup."""
    latent_frames: tuple[int, ...] = (2, 3, 5)
    """Numbers of latent frames that a step decodes, from the first one on; drawn at random."""
    ema_decay: float = 0.998
    """Decay of the exponential moving average of the weights, which is saved."""
    seed: int = 0
    """Seed of the batches."""


def pretrain_vae(config: VaePretraining, folder: Path) -> AutoencoderKLWan:
    """Train the VAE; writes its averaged weights and the log `training_log.jsonl` to `folder`.

    The log has a line every 50 steps; every 300 steps it includes measurements on 16 held-out worlds.

    Raises:
        ValueError: the loss is not finite.
    """
    torch.manual_seed(config.seed)
    vae = AutoencoderKLWan(**VAE_CONFIG)
    init_as_frame_model(vae)
    pool = WorldPool(config.pool_worlds, seed=config.seed + 1)
    rng = np.random.default_rng(config.seed)

    def frame_loss(step: int) -> tuple[torch.Tensor, Metrics]:
        if step % config.refresh_every == 0:
            pool.refresh()
        with single_frame_convolutions(vae):
            return _reconstruction_loss(vae, pool.batch(config.frame_batch_size, 1), config.kl_weight)

    def clip_loss(step: int) -> tuple[torch.Tensor, Metrics]:
        if step % config.refresh_every == 0:
            pool.refresh()
        batch = pool.batch(config.clip_batch_size, int(rng.choice(config.clip_frames)))
        return _reconstruction_loss(vae, batch, config.kl_weight)

    ema = ExponentialMovingAverage(vae, decay=config.ema_decay, warmup=_EMA_WARMUP)
    log = JsonLines.create(folder / "training_log.jsonl")
    log.write({"config": asdict(config)})
    frames, clips = (config.frame_minutes, config.frame_learning_rate), (config.clip_minutes, config.clip_learning_rate)
    for stage, objective, (minutes, rate), num_frames in (
        ("frames", frame_loss, frames, 1),
        ("clips", clip_loss, clips, 17),
    ):
        if minutes > 0:
            loop = _make_loop(
                vae,
                ema,
                objective,
                log,
                folder,
                stage=stage,
                learning_rate=rate,
                measured_frames=num_frames,
                minutes=minutes,
                warmup_steps=config.warmup_steps,
            )
            loop.run()
            _save(vae, ema, folder)
    ema.copy_to(vae)
    return vae


def pretrain_decoder(
    config: DecoderPretraining, vae: AutoencoderKLWan, worlds: EncodedWorlds, folder: Path, log: Path
) -> None:
    """Train the decoder of `vae` further, in place (averaged weights).

    The encoder is frozen, so latents, and every base trained on them, stay valid.

    Args:
        config: the settings.
        vae: the VAE.
        worlds: training worlds, encoded by this VAE.
        folder: where intermediate states of the VAE are written.
        log: JSON-lines log, appended to.

    Raises:
        ValueError: the loss is not finite.
    """
    rng = np.random.default_rng(config.seed)
    vae.requires_grad_(False)
    for part in (vae.post_quant_conv, vae.decoder):
        part.requires_grad_(True)
    mean, std = (
        torch.tensor(value).view(1, -1, 1, 1, 1) for value in (vae.config.latents_mean, vae.config.latents_std)
    )

    def decoding_loss(step: int) -> tuple[torch.Tensor, Metrics]:
        i, num_frames = int(rng.integers(len(worlds.seeds))), int(rng.choice(config.latent_frames))
        latents = torch.stack([worlds.rgb[i, :, :num_frames], worlds.xyz[i, :, :num_frames]]) * std + mean
        pixels = pair_pixels(world_pair(worlds.seeds[i], worlds.families[i], worlds.size))[:, :, : 4 * num_frames - 3]
        error = vae.decode(latents).sample - pixels
        absolute = error.abs().mean(dim=(1, 2, 3, 4))
        return absolute.mean() + error.square().mean(), _l1_metrics(absolute)

    ema = ExponentialMovingAverage(vae, decay=config.ema_decay, warmup=_EMA_WARMUP)
    lines = JsonLines(log)
    lines.write({"config": asdict(config)})
    loop = _make_loop(
        vae,
        ema,
        decoding_loss,
        lines,
        folder,
        stage="decoder",
        learning_rate=config.learning_rate,
        measured_frames=17,
        minutes=config.minutes,
        warmup_steps=config.warmup_steps,
    )
    loop.run()
    ema.copy_to(vae)


def _make_loop(
    vae: AutoencoderKLWan,
    ema: ExponentialMovingAverage,
    objective: Objective,
    log: JsonLines,
    folder: Path,
    *,
    stage: str,
    learning_rate: float,
    minutes: float,
    warmup_steps: int,
    measured_frames: int,
) -> PretrainingLoop:
    """The loop of one stage: every 300 steps the averaged VAE is measured and saved to `folder`."""
    trained = [(name, value) for name, value in vae.named_parameters() if value.requires_grad]
    hidden, rest = split_parameters(trained, keep=("time_conv",))
    ema.restart_warmup()

    def measure(step: int) -> dict[str, float]:
        if step % _MEASURE_EVERY:
            return {}
        with ema.applied_to(vae):
            measured = measure_vae(vae, num_frames=measured_frames)
            vae.save_pretrained(folder)
        return measured

    return PretrainingLoop(
        model=vae,
        optimizers=[
            Muon(hidden, lr=learning_rate),
            torch.optim.AdamW(rest, lr=learning_rate / 10, betas=(0.9, 0.95), weight_decay=1e-4),
        ],
        objective=objective,
        warmup_steps=warmup_steps,
        minutes=minutes,
        ema=ema,
        log=log.write,
        line_start={"stage": stage},
        extend_line=measure,
        name=stage,
    )


def _reconstruction_loss(vae: AutoencoderKLWan, batch: torch.Tensor, kl_weight: float) -> tuple[torch.Tensor, Metrics]:
    """Mean absolute error of encode and decode plus the weighted KL divergence; RGB and XYZ alternate in `batch`."""
    posterior = vae.encode(batch).latent_dist
    output = vae.decode(posterior.sample()).sample
    absolute = (output - batch).abs().mean(dim=(1, 2, 3, 4))
    return absolute.mean() + kl_weight * posterior.kl().mean(), _l1_metrics(absolute)


def _l1_metrics(absolute: torch.Tensor) -> Metrics:
    """Mean absolute errors of RGB and XYZ from those of a batch, in which the two alternate."""
    return {"rgb_l1": absolute[0::2].mean().item(), "xyz_l1": absolute[1::2].mean().item()}


def measure_vae(
    vae: AutoencoderKLWan, *, num_worlds: int = 16, num_frames: int = 17, family: str = PRIMITIVES
) -> dict[str, float]:
    """Reconstruction of held-out worlds: RGB PSNR in dB, and mean XYZ error in units of the half extent."""
    rgb_db, xyz_error = [], []
    with torch.no_grad():
        for seed in HELD_OUT_SEEDS[:num_worlds]:
            pair = pair_pixels(world_pair(seed, family))[:, :, :num_frames]
            output = vae.decode(vae.encode(pair).latent_dist.mode()).sample
            rgb_db.append(psnr(output[0].numpy(), pair[0].numpy(), data_range=2.0))
            xyz_error.append((output[1] - pair[1]).norm(dim=0).mean().item())
    return {"rgb_psnr_db": round(float(np.mean(rgb_db)), 3), "xyz_error": round(float(np.mean(xyz_error)), 5)}


def _save(vae: AutoencoderKLWan, ema: ExponentialMovingAverage, folder: Path) -> None:
    """Write the averaged weights to `folder`."""
    with ema.applied_to(vae):
        vae.save_pretrained(folder)
