"""Step-distilled LoRA weights, for sampling in a few steps without guidance.

Such weights for Wan (lightx2v, CausVid, AccVideo and others) are one safetensors file with one of several key formats
(`fourdnex.model.lora_files`). They are loaded as a second peft adapter with its own scale; `SamplingSettings` sets the
scheduler and the number of steps.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from diffusers import WanImageToVideoPipeline
from torch import nn

from fourdnex.model.adapter import linear_layers
from fourdnex.model.lora_files import read_lora

_LOG = logging.getLogger(__name__)
_NAME = "distilled"
_PREFIX = "transformer."


def use_distilled_lora(pipeline: WanImageToVideoPipeline, file: Path | None, scale: float) -> None:
    """Add the weights of `file` to the pipeline's transformer at `scale`, replacing others; None removes them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file has no LoRA weights of a Wan transformer, some do not fit this one, or all are zero.
    """
    transformer = pipeline.transformer
    requested = None if file is None else (file, scale)
    loaded = _NAME in getattr(transformer, "peft_config", {})  # load_adapter may have removed it
    if (getattr(transformer, "_distilled_lora", None) if loaded else None) == requested:
        return
    if loaded:
        transformer.delete_adapters(_NAME)
    if file is None:
        return
    weights = _read(file)
    _check(transformer, weights, file)
    others = list(getattr(transformer, "peft_config", {}))
    pipeline.load_lora_weights(weights, adapter_name=_NAME)
    transformer.set_adapters([*others, _NAME], [1.0] * len(others) + [scale])
    transformer._distilled_lora = requested


def _read(file: Path) -> dict[str, torch.Tensor]:
    """LoRA matrices and biases with diffusers' keys, such as `transformer.{layer}.lora_A.weight`."""
    try:
        lora = read_lora(file, default=1.0)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"distilled_lora: {error}") from error
    # Differences of norms and of full weights are not LoRA matrices; they are zero in all known files.
    if dropped := [key for key, value in lora.others.items() if value.any()]:
        _LOG.warning("%s: ignoring %d weights that are not LoRA matrices, first %s", file, len(dropped), dropped[0])
    weights = {}
    for layer, (first, second) in lora.matrices.items():
        factor = lora.factors[layer]
        weights[f"{_PREFIX}{layer}.lora_A.weight"] = first
        weights[f"{_PREFIX}{layer}.lora_B.weight"] = second if factor == 1 else second.float() * factor
    return weights | {f"{_PREFIX}{layer}.lora_B.bias": value for layer, value in lora.biases.items()}


def _check(transformer: nn.Module, weights: dict[str, torch.Tensor], file: Path) -> None:
    """Check that the weights fit `transformer` and are not all zero.

    Raises:
        ValueError: listing keys that do not fit.
    """
    layers = linear_layers(transformer)
    wrong, effective = [], False
    for key, value in weights.items():
        name, _, part = key.removeprefix(_PREFIX).rpartition(".lora_")
        layer = layers.get(name)
        if not key.startswith(_PREFIX) or layer is None or part not in ("A.weight", "B.weight", "B.bias"):
            wrong.append(f"{key}: unknown layer")
            continue
        size, expected = (
            (value.shape[1], layer.in_features) if part == "A.weight" else (value.shape[0], layer.out_features)
        )
        if size != expected:
            wrong.append(f"{key}: shape {tuple(value.shape)} for a layer {layer.in_features} -> {layer.out_features}")
        effective = effective or (part != "A.weight" and bool(value.any()))
    if wrong:
        raise ValueError(
            f"distilled_lora: {file}: {len(wrong)} of {len(weights)} keys do not fit this transformer: "
            f"{'; '.join(wrong[:8])}"
        )
    if not effective:
        raise ValueError(
            f"distilled_lora: {file}: expected trained weights, got zeros in all lora_B of {len(weights)} tensors"
        )
