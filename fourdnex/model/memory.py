"""What to do when a base does not fit into a GPU: where its weights wait, how they are stored, how the VAE works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from fourdnex.model.pipeline import SixDPipeline
    from fourdnex.model.transformer import SixDTransformer


Offload = Literal["none", "encoders", "all"]
OFFLOAD: tuple[Offload, ...] = get_args(Offload)
INEXACT = ("fp8_storage", "vae_tiling")
"""Settings that change a scene's numbers."""


@dataclass(frozen=True, kw_only=True)
class MemorySettings:
    """Ways to make generation fit into less memory; `fourdnex plan` says which are needed."""

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

    def changes(self) -> dict[str, bool]:
        """What a scene's numbers depend on: the settings that are on and are not exact."""
        return {name: True for name in INEXACT if getattr(self, name)}


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
