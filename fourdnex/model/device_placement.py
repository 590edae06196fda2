"""How a base runs on its device: its precision, and what to do when it does not fit into a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from fourdnex.model.option_types import Precision

if TYPE_CHECKING:
    from fourdnex.model.pipeline import SixDPipeline
    from fourdnex.model.transformer import SixDTransformer


Offload = Literal["none", "encoders", "all"]
OFFLOAD: tuple[Offload, ...] = get_args(Offload)
INEXACT = ("fp8_storage", "vae_tiling")
"""Switches that change a scene's numbers."""


@dataclass(frozen=True, kw_only=True)
class MemorySettings:
    """Precision, and ways to make generation fit into less memory; `fourdnex plan` says which are needed."""

    precision: Precision = "auto"
    """Of the transformer, and on a CPU of the VAE too: auto takes bf16 on a GPU and on a CPU that computes faster in it
    (AMX, AVX512-BF16), else fp32."""
    offload: Offload = "none"
    """Weights that wait in host memory and come to the GPU when needed, the next ones while some compute: those of the
    text and image encoders layer by layer, or the transformer's too, block by block. The same numbers."""
    fp8_storage: bool = False
    """Keep the transformer's weights in 8 bits and compute in 16; the adapter and the norms stay as they are. A little
    less exact; not beside a step-distilled LoRA."""
    vae_tiling: bool = False
    """Encode and decode in overlapping tiles of 256 pixels, blended where they meet."""

    def __post_init__(self) -> None:
        if self.offload not in OFFLOAD:
            raise ValueError(f"offload: expected one of {OFFLOAD}, got {self.offload!r}")
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision: expected one of {get_args(Precision)}, got {self.precision!r}")

    def changes(self) -> dict[str, Any]:
        """What a scene's numbers are asked to depend on: a precision that is named, and what is on and not exact."""
        named = {} if self.precision == "auto" else {"precision": self.precision}
        return named | {name: True for name in INEXACT if getattr(self, name)}


def store_in_fp8(transformer: SixDTransformer) -> None:
    """Keep the weights of `transformer` in 8 bits between their uses, in place; those of the adapter stay."""
    import torch

    transformer.enable_layerwise_casting(
        storage_dtype=torch.float8_e4m3fn,
        compute_dtype=transformer.dtype,
        skip_modules_pattern=(*transformer._skip_layerwise_casting_patterns, "lora_"),
    )


def place(pipeline: SixDPipeline, settings: MemorySettings, *, device: str) -> None:
    """Bring a pipeline from host memory to `device` as `settings` say, in place; its adapter is on it already."""
    import torch
    from diffusers.hooks import apply_group_offloading

    if settings.fp8_storage:
        store_in_fp8(pipeline.transformer)
    if settings.vae_tiling:
        pipeline.vae.enable_tiling()
    if settings.offload == "none":
        pipeline.to(device)
        return
    pipeline.vae.to(device)
    onload, host = torch.device(device), torch.device("cpu")
    streams = onload.type == "cuda"  # weights come while the layer before computes
    for encoder in (pipeline.text_encoder, pipeline.image_encoder):
        apply_group_offloading(encoder, onload, host, "leaf_level", use_stream=streams)
    if settings.offload == "all":
        blocks: dict[str, Any] = {"offload_type": "block_level", "num_blocks_per_group": 1}
        pipeline.transformer.enable_group_offload(onload, host, use_stream=streams, **blocks)
    else:
        pipeline.transformer.to(device)
