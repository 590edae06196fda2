"""Moves a pipeline to its device, with FP8 storage, tiling and offloading as requested."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import WanImageToVideoPipeline, WanTransformer3DModel
from diffusers.hooks import apply_group_offloading

from fourdnex.model.memory_settings import MemorySettings


def store_in_fp8(transformer: WanTransformer3DModel) -> None:
    """Store the weights of `transformer` in 8 bits between uses, in place; adapter weights are not converted."""
    transformer.enable_layerwise_casting(
        storage_dtype=torch.float8_e4m3fn,
        compute_dtype=transformer.dtype,
        skip_modules_pattern=(*transformer._skip_layerwise_casting_patterns, "lora_"),
    )


def place(pipeline: WanImageToVideoPipeline, settings: MemorySettings, *, device: str) -> None:
    """Move a pipeline from host memory to `device` according to `settings`, in place.

    An adapter, if any, must already be loaded.
    """
    if settings.fp8_storage:
        store_in_fp8(pipeline.transformer)
    if settings.vae_tiling:
        pipeline.vae.enable_tiling()
    if settings.offload == "none":
        pipeline.to(device)
        return
    pipeline.vae.to(device)
    onload, host = torch.device(device), torch.device("cpu")
    streams = onload.type == "cuda"  # prefetch weights while the previous layer computes
    for encoder in (pipeline.text_encoder, pipeline.image_encoder):
        apply_group_offloading(encoder, onload, host, "leaf_level", use_stream=streams)
    if settings.offload == "all":
        blocks: dict[str, Any] = {"offload_type": "block_level", "num_blocks_per_group": 1}
        pipeline.transformer.enable_group_offload(onload, host, use_stream=streams, **blocks)
    else:
        pipeline.transformer.to(device)
