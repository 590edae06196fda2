"""Loading of a base's components, and the device and type of their weights."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TypeVar

import torch
from diffusers import WanImageToVideoPipeline
from diffusers.models import WanTransformer3DModel
from safetensors import SafetensorError

from fourdnex.model.option_types import Precision
from fourdnex.model.precision import Resolved, resolve_precision
from fourdnex.model.presets import Preset
from fourdnex.quiet import hide_progress_bars

Pipeline = TypeVar("Pipeline", bound=WanImageToVideoPipeline)


def resolve_device(device: str | None, precision: Precision) -> tuple[str, Resolved]:
    """The requested device and precision, with defaults resolved for this machine."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return device, resolve_precision(precision, device)


def weight_dtype(device: str, precision: Resolved) -> torch.dtype:
    """Type of the transformer's and text encoder's weights."""
    return torch.bfloat16 if precision == "bf16" and device != "cpu" else torch.float32


def load_components(
    pipeline_class: type[Pipeline], preset: Preset, transformer: WanTransformer3DModel | None, dtype: torch.dtype
) -> Pipeline:
    """Load a pipeline with `transformer` and the base's other components, on the CPU: VAE and image encoder in float32.

    Raises:
        ValueError: a file of the base is truncated.
    """
    dtypes = {"default": dtype, "vae": torch.float32, "image_encoder": torch.float32}
    try:
        with hide_progress_bars() if preset.is_local else nullcontext():
            pipeline = pipeline_class.from_pretrained(preset.location, transformer=transformer, dtype=dtypes)
    except SafetensorError as error:
        raise ValueError(f"model: {preset.location}: expected valid safetensors files, got {error}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
