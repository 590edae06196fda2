"""Setup of a fine-tuning run: the base with new LoRA matrices, the optimizer, and the loop before its first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import WanTransformer3DModel

from fourdnex import identity
from fourdnex.datasets.versions import data_version
from fourdnex.latents.dataset import LatentClips
from fourdnex.model.adapter import add_lora
from fourdnex.model.presets import get_preset
from fourdnex.model.sharding import shard
from fourdnex.model.text_padding import compact_text_padding
from fourdnex.model.transformer import SixDTransformer
from fourdnex.training.checkpoint import Checkpoints
from fourdnex.training.cpu_optimizations import apply_cpu_optimizations
from fourdnex.training.loop import TrainingLoop
from fourdnex.training.lora_settings import LoraTraining


def build_loop(config: LoraTraining, accelerator: Accelerator, clips: LatentClips, fingerprint: str) -> TrainingLoop:
    """The loop of a run before its first step."""
    transformer = _load_transformer(config, accelerator.device.type)
    if accelerator.device.type == "cpu":
        compact_text_padding(transformer)
        apply_cpu_optimizations(transformer, bfloat16=config.mixed_precision == "bf16")
    model: torch.nn.Module = transformer
    if config.shard_model:
        shard(transformer)
    else:
        model = accelerator.prepare(transformer)
    parameters = {name: value for name, value in transformer.named_parameters() if value.requires_grad}
    shards = clips.summary.shards
    data_md5 = data_version(config.latents, shards, default=identity.collect()["data_md5"])
    return TrainingLoop(
        config=config,
        accelerator=accelerator,
        model=model,
        optimizer=accelerator.prepare(_make_optimizer(config, list(parameters.values()))),
        parameters=parameters,
        averages={name: value.detach().clone() for name, value in parameters.items()},
        clips=clips,
        state={"step": 0, "losses": [], "mlflow_run_id": None, "fingerprint": fingerprint, "data_md5": data_md5},
        checkpoints=Checkpoints(checkpoints_folder(config), fingerprint),
        log=config.output.with_name(f"{config.output.name}.log.jsonl"),
    )


def checkpoints_folder(config: LoraTraining) -> Path:
    """Folder of the checkpoints of all runs with this output."""
    return config.output.with_name(config.output.name + ".checkpoint")


def _load_transformer(config: LoraTraining, device: str) -> SixDTransformer:
    """The base's transformer with new LoRA matrices in float32, on the CPU, in training mode."""
    preset = get_preset(config.model)
    dtype = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[config.mixed_precision]
    if device == "cpu" and config.mixed_precision == "bf16":
        dtype = torch.float32  # `apply_cpu_optimizations` converts the weights of matrix products
    base = WanTransformer3DModel.from_pretrained(preset.location, subfolder="transformer", dtype=dtype)
    transformer = SixDTransformer.from_base(base, fusion=config.fusion, positions=config.positions)
    add_lora(transformer, rank=config.rank, alpha=config.alpha, targets=config.targets)
    if config.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    for value in transformer.parameters():
        if value.requires_grad:
            value.data = value.data.float()
    return transformer.train()


def _make_optimizer(config: LoraTraining, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of the settings; raises ValueError if its package is not installed."""
    settings: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": (0.9, 0.95),
        "weight_decay": config.weight_decay,
    }
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, fused=True, **settings)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise ValueError(
            "optimizer: adamw8bit needs bitsandbytes, which is not installed; pip install 'fourdnex[8bit]'"
        ) from error
    return AdamW8bit(parameters, **settings)
