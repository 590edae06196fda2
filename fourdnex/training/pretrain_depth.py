"""How `pretrained/fourdnex-tiny-depth` is made: a Depth Anything network of tiny size, on worlds of all families.

```
fourdnex pretrain-depth --output pretrained/fourdnex-tiny-depth --minutes 50
fourdnex pretrain-depth --output workspace/longer --start pretrained/fourdnex-tiny-depth --minutes 30
```
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world, training_seeds
from fourdnex.datasets.worlds_families import FAMILIES, PRIMITIVES, TRAINING_FAMILIES
from fourdnex.datasets.worlds_look import vary_look
from fourdnex.files import atomic_dir, check_own_folder
from fourdnex.training.muon import Muon, split_parameters

PATCH = 8
MAX_DEPTH = 40.0
"""Metres; worlds end before."""
MEAN = STD = 0.5
SIDE = 96
"""Pixels of the side that the preprocessor scales pictures to, keeping their ratio."""
SIZES = ((64, 96), (96, 64), (80, 80), (96, 144))
SIZE_SHARES = (0.6, 0.16, 0.16, 0.08)
"""Height and width of the pictures it learns from, and of how many batches; larger ones are cut to fewer pictures."""
MEASURED_WORLDS = 64
_SAVE_MINUTES = 5
Picture = tuple[np.ndarray, np.ndarray]  # RGB [H, W, 3] uint8 and depth [H, W] float16


@dataclass(frozen=True, kw_only=True)
class DepthPretraining:
    """Settings of the depth network's pretraining."""

    minutes: float = 60.0
    """Of training, whatever the machine's speed."""
    batch_size: int = 16
    """Pictures a step, mirrored at random; a quarter of them new ones."""
    primitives: float = 0.3
    """Share of the family of that name; the others have equal shares of the rest."""
    look: float = 0.7
    """How much the look of pictures varies: tone, blur, noise and JPEG."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """Precision of forward and backward; bf16 is faster where the processor knows it."""
    start: Path | None = None
    """A network of this kind to train further; None: random weights."""
    rate_max: float = 0.01
    """Peak learning rate of Muon; AdamW's, for vectors and thin layers, is a tenth of it."""
    edge_weight: float = 0.5
    """Weight of the error of neighbours' differences."""
    scale_weight: float = 0.1
    """Weight of a picture's scale, which no picture tells for certain."""
    ema: float = 0.998
    """Decay of the averaged weights, which are written."""
    pool: int = 4096
    """Pictures of a size held in memory, the latest, from which the others come."""
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
    if config.start is not None:
        started_from = DepthAnythingForDepthEstimation.from_pretrained(config.start, dtype=torch.float32)
        network.load_state_dict(started_from.state_dict())
    network = network.to(memory_format=torch.channels_last)
    hidden, rest = split_parameters(network.named_parameters(), keep=("embeddings",))
    optimisers = [
        Muon(hidden, lr=config.rate_max),
        torch.optim.AdamW(rest, lr=config.rate_max / 10, betas=(0.9, 0.95), weight_decay=1e-4),
    ]
    peaks = [config.rate_max, config.rate_max / 10]
    average = {key: value.detach().clone() for key, value in network.state_dict().items()}
    pictures = _Pictures(config, rng)
    log: list[dict[str, object]] = [
        {"config": asdict(config) | {"start": None if config.start is None else str(config.start)}}
    ]
    started = saved = time.monotonic()
    step, recent = 0, []
    while (done := (time.monotonic() - started) / (60 * config.minutes)) < 1:
        factor = min(1.0, (step + 1) / 30) * max(0.02, 0.5 * (1 + np.cos(np.pi * done)))
        for optimiser, peak in zip(optimisers, peaks, strict=True):
            optimiser.param_groups[0]["lr"] = peak * factor
        pixels, depth = _batch(pictures.batch(), rng)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.mixed_precision == "bf16"):
            found = network(pixels).predicted_depth
        loss = depth_loss(found.float(), depth, config)
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
        if time.monotonic() - saved > 60 * _SAVE_MINUTES:
            saved = time.monotonic()
            _save(average, log, output)
    network.load_state_dict(average)
    errors = {family: measure_depth(network, family) for family in FAMILIES}
    log.append({"step": step, "abs_rel": errors[PRIMITIVES], "families": errors})
    progress(json.dumps(log[-1]))
    _save(average, log, output)
    return output


def _save(average: dict[str, torch.Tensor], log: list[dict[str, object]], output: Path) -> None:
    network = build_network()
    network.load_state_dict(average)
    with atomic_dir(output) as folder:
        network.half().save_pretrained(folder)
        processor().save_pretrained(folder)
        (folder / "training").mkdir()
        (folder / "training" / "depth.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))


def build_network() -> DepthAnythingForDepthEstimation:
    """The network with random weights, for pictures whose sides are multiples of 8."""
    backbone = Dinov2Config(
        image_size=SIDE,
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
        size={"height": SIDE, "width": SIDE},
        keep_aspect_ratio=True,
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
def measure_depth(
    network: DepthAnythingForDepthEstimation, family: str = PRIMITIVES, *, num_worlds: int = MEASURED_WORLDS
) -> float:
    """Mean AbsRel of first frames of a family's held-out worlds, each scaled by the median of its ratios."""
    errors = []
    for seed in HELD_OUT_SEEDS[:num_worlds]:
        world = render_world(seed, family=family, num_frames=1)
        assert world.depth is not None
        pixels, true = _batch([(world.rgb[0], world.depth[0])], None)
        found = network(pixels).predicted_depth
        found = found * (true / found).median()
        errors.append(((found - true).abs() / true).mean().item())
    return round(float(np.mean(errors)), 5)


class _Pictures:
    """Draws batches of pictures of one size, new and old ones, of all training families."""

    def __init__(self, config: DepthPretraining, rng: np.random.Generator) -> None:
        self.config, self.rng = config, rng
        self.seeds = training_seeds(config.seed * 10_000_000, 10_000_000)
        self.pools: dict[tuple[int, int], list[Picture]] = {size: [] for size in SIZES}
        others = (1 - config.primitives) / (len(TRAINING_FAMILIES) - 1)
        self.shares = [config.primitives if family == PRIMITIVES else others for family in TRAINING_FAMILIES]

    def batch(self) -> list[Picture]:
        """A quarter of the batch is new; all of it, as long as its size has not been seen yet."""
        size = SIZES[int(self.rng.choice(len(SIZES), p=SIZE_SHARES))]
        count = max(2, self.config.batch_size * SIZES[0][0] * SIZES[0][1] // (size[0] * size[1]))
        pool = self.pools[size]
        fresh: list[Picture] = []
        while len(fresh) < (count if len(pool) < 4 * count else -(-count // 4)):
            fresh += self._new(size)
        pool += fresh
        del pool[: -self.config.pool]
        return fresh[:count] + [pool[i] for i in self.rng.integers(len(pool), size=max(0, count - len(fresh)))]

    def _new(self, size: tuple[int, int]) -> list[Picture]:
        """First and last frame of the next world, each with a look of its own."""
        family = str(self.rng.choice(TRAINING_FAMILIES, p=self.shares))
        world = render_world(next(self.seeds), family=family, num_frames=2, height=size[0], width=size[1])
        assert world.depth is not None
        return [
            (vary_look(rgb, self.rng, strength=self.config.look), depth.astype(np.float16))
            for rgb, depth in zip(world.rgb, world.depth, strict=True)
        ]


def _batch(pictures: list[Picture], mirrored: np.random.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Network input [B, 3, H, W] and depth [B, H, W], mirrored at random if there is a generator."""
    rgb = np.stack([picture for picture, _ in pictures]).transpose(0, 3, 1, 2)
    pixels = torch.from_numpy(np.ascontiguousarray(rgb)).float().div(255).sub(MEAN).div(STD)
    depth = torch.from_numpy(np.stack([depth for _, depth in pictures])).float()
    if mirrored is not None:
        turned = torch.from_numpy(mirrored.random(len(pictures)) < 0.5).view(-1, 1, 1)
        depth = torch.where(turned, depth.flip(2), depth)
        pixels = torch.where(turned.unsqueeze(1), pixels.flip(3), pixels)
    return pixels, depth
