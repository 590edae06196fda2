"""How `pretrained/fourdnex-tiny-depth` is made: a Depth Anything network of tiny size, from nothing, on worlds.

```
fourdnex pretrain-depth --output pretrained/fourdnex-tiny-depth --minutes 50
```
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

from fourdnex.datasets.worlds import HEIGHT, HELD_OUT_SEEDS, WIDTH, render_world, training_seeds
from fourdnex.files import atomic_dir, check_own_folder
from fourdnex.training.muon import Muon, split_parameters

PATCH = 8
MAX_DEPTH = 40.0
"""Metres; worlds end before."""
MEAN = STD = 0.5
MEASURED_WORLDS = 64


@dataclass(frozen=True, kw_only=True)
class DepthPretraining:
    """Settings of the depth network's pretraining."""

    minutes: float = 60.0
    """Of training, whatever the machine's speed."""
    batch_size: int = 16
    """Pictures a step, mirrored at random; a quarter of them of new worlds."""
    rate_max: float = 0.01
    """Peak learning rate of Muon; AdamW's, for vectors and thin layers, is a tenth of it."""
    edge_weight: float = 0.5
    """Weight of the error of neighbours' differences."""
    scale_weight: float = 0.1
    """Weight of a picture's scale, which no picture tells for certain."""
    ema: float = 0.998
    """Decay of the averaged weights, which are written."""
    pool: int = 4096
    """Pictures held in memory, the latest, from which the others come."""
    seed: int = 0
    """Of weights, batches and the first world."""


def pretrain_depth(
    config: DepthPretraining, output: Path, *, progress: Callable[[str], object] = lambda line: None
) -> Path:
    """Train the network and write it to `output` in the Hugging Face layout, with its log in `training`.

    `progress` gets a line of the log every hundred steps.

    Raises:
        FileExistsError: if anything but such a network lies at `output`.
        ValueError: if the loss is not finite.
    """
    check_own_folder(output, "a depth network", mark="config.json")
    torch.manual_seed(config.seed)
    network, rng = build_network(), np.random.default_rng(config.seed)
    hidden, rest = split_parameters(network.named_parameters(), keep=("embeddings",))
    optimisers = [
        Muon(hidden, lr=config.rate_max),
        torch.optim.AdamW(rest, lr=config.rate_max / 10, betas=(0.9, 0.95), weight_decay=1e-4),
    ]
    peaks = [config.rate_max, config.rate_max / 10]
    average = {key: value.detach().clone() for key, value in network.state_dict().items()}
    seeds = training_seeds(config.seed * 10_000_000, 10_000_000)
    pool = [_picture(next(seeds)) for _ in range(config.batch_size)]
    log: list[dict[str, object]] = [{"config": asdict(config)}]
    started, step, recent = time.monotonic(), 0, []
    while (done := (time.monotonic() - started) / (60 * config.minutes)) < 1:
        factor = min(1.0, (step + 1) / 30) * max(0.02, 0.5 * (1 + np.cos(np.pi * done)))
        for optimiser, peak in zip(optimisers, peaks, strict=True):
            optimiser.param_groups[0]["lr"] = peak * factor
        fresh = [_picture(next(seeds)) for _ in range(config.batch_size // 4)]
        pool = (pool + fresh)[-config.pool :]
        old = [pool[i] for i in rng.integers(len(pool), size=config.batch_size - len(fresh))]
        pixels, depth = _batch(fresh + old, rng)
        loss = depth_loss(network(pixels).predicted_depth, depth, config)
        network.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        if not torch.isfinite(loss):
            raise ValueError(f"loss: expected a finite number at step {step}, got {loss.item()}")
        with torch.no_grad():
            decay = min(config.ema, (step + 1) / (step + 10))
            for name, value in network.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        recent.append(loss.item())
        step += 1
        if step % 100 == 0:
            log.append({"step": step, "loss": round(float(np.mean(recent[-100:])), 5)})
            progress(json.dumps(log[-1]))
    network.load_state_dict(average)
    log.append({"step": step, **measure_depth(network)})
    progress(json.dumps(log[-1]))
    with atomic_dir(output) as folder:
        network.half().save_pretrained(folder)
        processor().save_pretrained(folder)
        (folder / "training").mkdir()
        (folder / "training" / "depth.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    return output


def build_network() -> DepthAnythingForDepthEstimation:
    """The network with random weights, for pictures of 64x96 and others whose sides are multiples of 8."""
    backbone = Dinov2Config(
        image_size=WIDTH,
        patch_size=PATCH,
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        out_indices=[2, 3, 5, 6],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=PATCH,
        reassemble_hidden_size=128,
        neck_hidden_sizes=[16, 32, 64, 96],
        fusion_hidden_size=24,
        head_hidden_size=16,
        depth_estimation_type="metric",
        max_depth=int(MAX_DEPTH),
    )
    return DepthAnythingForDepthEstimation(config)


def processor() -> DPTImageProcessor:
    """What makes the network's input of a picture."""
    return DPTImageProcessor(
        size={"height": HEIGHT, "width": WIDTH},
        keep_aspect_ratio=False,
        ensure_multiple_of=PATCH,
        image_mean=[MEAN] * 3,
        image_std=[STD] * 3,
    )


def depth_loss(found: torch.Tensor, true: torch.Tensor, config: DepthPretraining) -> torch.Tensor:
    """Mean absolute error of log depth [B, H, W] but for each picture's scale, of its slopes, and of the scale."""
    error = found.clamp(min=1e-3).log() - true.log()
    scale = error.mean(dim=(1, 2), keepdim=True)
    slopes = error.diff(dim=1).abs().mean() + error.diff(dim=2).abs().mean()
    return (error - scale).abs().mean() + config.edge_weight * slopes + config.scale_weight * scale.abs().mean()


@torch.no_grad()
def measure_depth(network: DepthAnythingForDepthEstimation) -> dict[str, float]:
    """AbsRel of held-out worlds' first frames, each scaled by the median of its ratios."""
    errors = []
    for seed in HELD_OUT_SEEDS[:MEASURED_WORLDS]:
        rgb, depth = _picture(seed)
        pixels, true = _batch([(rgb, depth)], None)
        found = network(pixels).predicted_depth
        found = found * (true / found).median()
        errors.append(((found - true).abs() / true).mean().item())
    return {"abs_rel": round(float(np.mean(errors)), 5)}


def _picture(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """First frame of a world: RGB [H, W, 3] uint8 and depth [H, W]."""
    world = render_world(seed, num_frames=1)
    assert world.depth is not None
    return world.rgb[0], world.depth[0].astype(np.float16)


def _batch(
    pictures: list[tuple[np.ndarray, np.ndarray]], mirrored: np.random.Generator | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Network input [B, 3, H, W] and depth [B, H, W], mirrored at random if there is a generator."""
    rgb = np.stack([picture for picture, _ in pictures]).transpose(0, 3, 1, 2)
    pixels = torch.from_numpy(np.ascontiguousarray(rgb)).float().div(255).sub(MEAN).div(STD)
    depth = torch.from_numpy(np.stack([depth for _, depth in pictures])).float()
    if mirrored is not None:
        turned = torch.from_numpy(mirrored.random(len(pictures)) < 0.5).view(-1, 1, 1)
        depth = torch.where(turned, depth.flip(2), depth)
        pixels = torch.where(turned.unsqueeze(1), pixels.flip(3), pixels)
    return pixels, depth
