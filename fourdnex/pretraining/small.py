"""Pretraining of a `small` base on a GPU: 27 million weights, 25 frames of 128x192, worlds rendered during training.

The tasks are those of `pretrain_transformer`; VAE and text encoder are those of the tiny base. CPU processes render
worlds, the GPU encodes them between steps into a buffer, and batches are drawn from the buffer, so that no world is
stored on disk. Matrix products are in bfloat16 (autocast), weights in float32. `python -m benchmarks.gpu_session` runs
it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import nn
from transformers import UMT5EncoderModel

from fourdnex.cores import available_cores
from fourdnex.io.files import atomic_dir
from fourdnex.latents.codec import REFERENCE_STATISTICS, LatentCodec
from fourdnex.model.bfloat_vae import use_bfloat16
from fourdnex.model.text_padding import compact_text_padding
from fourdnex.pretraining.base_pipeline import make_pipeline, measure_base
from fourdnex.pretraining.conditioning_encoders import ConditioningEncoders
from fourdnex.pretraining.loop import ExponentialMovingAverage, Metrics, PretrainingLoop
from fourdnex.pretraining.muon import Muon, split_parameters
from fourdnex.pretraining.tokenizer import build_tokenizer
from fourdnex.pretraining.transformer import (
    ADAMW_PARTS,
    TRANSFORMER_CONFIG,
    TransformerPretraining,
    flow_matching_errors,
    init_cross_attention_bias,
    task_losses,
)
from fourdnex.pretraining.world_buffer import BufferSettings, WorldBuffer
from fourdnex.training.checkpoint import Checkpoints, collect, restore

SMALL_CONFIG = TRANSFORMER_CONFIG | {
    "num_attention_heads": 6,
    "attention_head_dim": 64,
    "ffn_dim": 1536,
    "num_layers": 10,
    "added_kv_proj_dim": 384,
}
SHARD_SIZE = "15MB"
"""Largest size of a file of weights."""
_RUN = "small"
"""Fingerprint of the run's checkpoints."""


@dataclass(frozen=True, kw_only=True)
class SmallPretraining:
    """Settings of the small base's pretraining."""

    minutes: float = 7.0
    """Wall-clock time of training in total, over all resumes."""
    num_frames: int = 25
    """Frames of the worlds."""
    height: int = 128
    """Height of the worlds in pixels."""
    width: int = 192
    """Width of the worlds in pixels."""
    transformer: Mapping[str, Any] | None = None
    """Changes of `SMALL_CONFIG`."""
    batch_size: int = 32
    """Clips per step."""
    learning_rate: float = 0.02
    """Peak learning rate of Muon on the hidden layers; AdamW, for everything else, has a tenth of it."""
    weight_decay: float = 0.3
    """Weight decay of Muon."""
    warmup_steps: int = 100
    """Steps of the linear learning rate warmup."""
    ema_decay: float = 0.998
    """Decay of the exponential moving average of the weights, which is saved."""
    first_worlds: int = 256
    """Worlds in the buffer before the first step; the XYZ statistics are estimated from them."""
    max_worlds: int = 16_384
    """Capacity of the buffer; when it is full, the oldest world is replaced."""
    encode_batch_size: int = 4
    """Worlds per batch of the VAE."""
    encode_every: int = 4
    """Steps between two batches of the VAE."""
    workers: int | None = None
    """Rendering processes; None: one per core except one."""
    checkpoint_seconds: float = 60.0
    """Time between two checkpoints."""
    measured_worlds: int = 8
    """Held-out worlds that the base is measured on."""
    seed: int = 0
    """Seed of weights, worlds, batches and noise."""

    @property
    def size(self) -> dict[str, int]:
        """Arguments of `render_world`."""
        return {"num_frames": self.num_frames, "height": self.height, "width": self.width}


def pretrain_small(config: SmallPretraining, base: Path, folder: Path, work: Path) -> dict[str, float]:
    """Train until the time is over, and write the base to `folder` in bfloat16, in files of at most 15 MB.

    An interrupted run resumes from its last checkpoint in `work`.

    Args:
        config: the settings.
        base: a base in the Diffusers layout; the new base has its VAE and its text encoder.
        folder: folder of the new base; its log is `training/transformer.jsonl`.
        work: folder of checkpoints, about 600 MB.

    Returns:
        Measurements of `measure_base`; `steps`, `steps_per_second`, `worlds`.

    Raises:
        ValueError: the loss is not finite.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(config.seed)
    text = UMT5EncoderModel.from_pretrained(base / "text_encoder", dtype=torch.float32).eval()
    encoders = ConditioningEncoders(build_tokenizer(), text)
    transformer = WanTransformer3DModel(**SMALL_CONFIG | dict(config.transformer or {}))
    init_cross_attention_bias(transformer)
    compact_text_padding(transformer)
    model = nn.ModuleDict({"transformer": transformer, "encoders": encoders}).to(device)
    run = _Run(config, model, Checkpoints(work, _RUN))
    vae = AutoencoderKLWan.from_pretrained(base / "vae", torch_dtype=torch.float32).eval().to(device)
    use_bfloat16(vae)
    noise_settings = TransformerPretraining(seed=config.seed)
    rng = np.random.default_rng((config.seed, run.state["step"]))
    with ProcessPoolExecutor(
        config.workers or max(1, available_cores() - 1), mp_context=get_context("spawn"), initializer=_use_one_thread
    ) as pool:
        settings = BufferSettings(
            capacity=config.max_worlds,
            encode_batch_size=config.encode_batch_size,
            workers=config.workers,
            size=config.size,
        )
        codec = LatentCodec(vae, REFERENCE_STATISTICS)
        buffer = WorldBuffer(settings, codec, encoders, pool, run.state["next_seed"])

        def objective(step: int) -> tuple[torch.Tensor, Metrics]:
            if step % config.encode_every == 0:
                buffer.refill(wait=False)
            tasks, batch = buffer.draw(
                config.batch_size,
                rng,
                task_shares=noise_settings.task_shares,
                caption_dropout=noise_settings.caption_dropout,
            )
            with torch.autocast(device.type, torch.bfloat16):
                image = encoders.embed_image(batch.pop("pixels"))
                errors = flow_matching_errors(transformer, **batch, image=image, config=noise_settings)
            return errors.mean(), task_losses(tasks, errors)

        def save() -> dict[str, float]:
            run.save(loop, next_seed=buffer.next_seed)
            return {}

        loop = PretrainingLoop(
            model=model,
            optimizers=run.optimizers,
            objective=objective,
            warmup_steps=config.warmup_steps,
            minutes=config.minutes,
            ema=run.ema,
            log=run.state["lines"].append,
            extend_line=lambda step: {"worlds": buffer.num_encoded},
            save=save,
            save_minutes=config.checkpoint_seconds / 60,
            check_every_step=False,
            step=run.state["step"],
            seconds=run.state["seconds"],
        )
        while buffer.count < config.first_worlds:  # counts as time of the run
            buffer.refill(wait=True)
        buffer.estimate_statistics()
        loop.run()
        save()
        pool.shutdown(cancel_futures=True)
    run.ema.copy_to(model)
    measured: dict[str, float] = {"steps": loop.step, "worlds": buffer.num_encoded}
    measured["steps_per_second"] = round(loop.step / max(loop.seconds, 1e-9), 3)
    return _write(config, base, folder, transformer, encoders, run.state["lines"], measured)


class _Run:
    """Optimizers, averaged weights and state of a run, restored from its last checkpoint if there is one."""

    def __init__(self, config: SmallPretraining, model: nn.ModuleDict, checkpoints: Checkpoints):
        self.checkpoints = checkpoints
        trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
        hidden, rest = split_parameters(trained.items(), keep=ADAMW_PARTS)
        self.optimizers = [
            Muon(hidden, lr=config.learning_rate, weight_decay=config.weight_decay),
            torch.optim.AdamW(rest, lr=config.learning_rate / 10, betas=(0.9, 0.95), weight_decay=0.01),
        ]
        names = {id(value): name for name, value in trained.items()}
        self._parameters = [{names[id(value)]: value for value in group} for group in (hidden, rest)]
        self.ema = ExponentialMovingAverage(model, decay=config.ema_decay, warmup=10)
        averaged = self.ema.averaged.module.named_parameters()
        self._averages = {name: value for name, value in averaged if name in trained}
        self.state: dict[str, Any] = {"step": 0, "seconds": 0.0, "next_seed": config.seed * 10_000_000, "lines": []}
        if (checkpoint := checkpoints.load()) is not None:
            tensors, saved = checkpoint
            self.state = {key: saved[key] for key in self.state}
            for parameters, optimizer in zip(self._parameters, self.optimizers, strict=True):
                restore(_select(tensors, parameters), parameters, self._averages, optimizer)
            self.ema.num_updates = self.state["step"]

    def save(self, loop: PretrainingLoop, *, next_seed: int) -> None:
        """Write a checkpoint."""
        self.state |= {"step": loop.step, "seconds": loop.seconds, "next_seed": next_seed}
        tensors: dict[str, torch.Tensor] = {}
        for parameters, optimizer in zip(self._parameters, self.optimizers, strict=True):
            tensors |= collect(parameters, self._averages, optimizer)
        self.checkpoints.save(tensors, self.state)


def _select(tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint that belong to these parameters."""
    return {
        key: value
        for key, value in tensors.items()
        if key.partition("/")[2] in parameters or key.partition("/")[2].rpartition("/")[0] in parameters
    }


def _use_one_thread() -> None:
    """Initializer of the rendering processes."""
    torch.set_num_threads(1)


def _write(
    config: SmallPretraining,
    base: Path,
    folder: Path,
    transformer: WanTransformer3DModel,
    encoders: ConditioningEncoders,
    lines: list[dict[str, Any]],
    measured: dict[str, float],
) -> dict[str, float]:
    """Measure the base and write it to `folder`, with its log; returns all measurements."""
    vae = AutoencoderKLWan.from_pretrained(base / "vae", torch_dtype=torch.float32)
    pipeline = make_pipeline(transformer.eval(), encoders, vae).to(encoders.image.device)
    measured = measured | measure_base(pipeline, num_worlds=config.measured_worlds, size=config.size)
    pipeline.register_modules(tokenizer=build_tokenizer())  # measuring left its padding in the other tokenizer
    pipeline.to("cpu")
    pipeline.transformer.to(torch.bfloat16)
    pipeline.image_encoder.to(torch.float16)
    pipeline.text_encoder.to(torch.float16)
    pipeline.vae.to(torch.float16)
    settings = asdict(config) | {"transformer": SMALL_CONFIG | dict(config.transformer or {})}
    with atomic_dir(folder) as temporary:
        pipeline.save_pretrained(temporary, max_shard_size=SHARD_SIZE)
        (temporary / "training").mkdir()
        log = "".join(json.dumps(line) + "\n" for line in [{"config": settings}, *lines, measured])
        (temporary / "training" / "transformer.jsonl").write_text(log)
    return measured
