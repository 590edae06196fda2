"""Step-distilled LoRA weights beside our adapter: a clip in a few steps without guidance.

Such weights (lightx2v, CausVid, AccVideo and others for Wan) come as one safetensors file in one of several namings
(`fourdnex.model.lora_files`). Theirs is a second peft adapter with a scale of its own; the scheduler and the number of
steps are switched by `SamplingSettings`.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from diffusers import WanImageToVideoPipeline
from torch import nn

from fourdnex.model.adapter import linears
from fourdnex.model.lora_files import read_lora

_LOG = logging.getLogger(__name__)
_NAME = "distilled"
_PREFIX = "transformer."


def use_distilled_lora(pipeline: WanImageToVideoPipeline, file: Path | None, scale: float) -> None:
    """Let the pipeline's transformer have the weights of `file` at `scale` beside those it has; None takes them away.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no LoRA weights of a Wan transformer, some do not fit this one, or all are zero.
    """
    transformer = pipeline.transformer
    wanted = None if file is None else (file, scale)
    there = _NAME in getattr(transformer, "peft_config", {})  # another adapter of ours may have replaced it
    if (getattr(transformer, "_distilled_lora", None) if there else None) == wanted:
        return
    if there:
        transformer.delete_adapters(_NAME)
    if file is None:
        return
    weights = _read(file)
    _check(transformer, weights, file)
    others = list(getattr(transformer, "peft_config", {}))
    pipeline.load_lora_weights(weights, adapter_name=_NAME)
    transformer.set_adapters([*others, _NAME], [1.0] * len(others) + [scale])
    transformer._distilled_lora = wanted


def _read(file: Path) -> dict[str, torch.Tensor]:
    """LoRA matrices and biases under diffusers' names, `transformer.{layer}.lora_A.weight` and so on."""
    try:
        lora = read_lora(file, default=1.0)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"distilled_lora: {error}") from error
    # Changes of normalization layers and of whole weights are no LoRA; those of known files are zero.
    if dropped := [key for key, value in lora.others.items() if value.any()]:
        _LOG.warning("%s: %d weights that are no LoRA matrices are left out, %s first", file, len(dropped), dropped[0])
    weights = {}
    for layer, (first, second) in lora.matrices.items():
        factor = lora.factors[layer]
        weights[f"{_PREFIX}{layer}.lora_A.weight"] = first
        weights[f"{_PREFIX}{layer}.lora_B.weight"] = second if factor == 1 else second.float() * factor
    return weights | {f"{_PREFIX}{layer}.lora_B.bias": value for layer, value in lora.biases.items()}


def _check(transformer: nn.Module, weights: dict[str, torch.Tensor], file: Path) -> None:
    layers = linears(transformer)
    wrong, effective = [], False
    for key, value in weights.items():
        name, _, part = key.removeprefix(_PREFIX).rpartition(".lora_")
        layer = layers.get(name)
        if not key.startswith(_PREFIX) or layer is None or part not in ("A.weight", "B.weight", "B.bias"):
            wrong.append(f"{key}: no such layer")
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
        raise ValueError(f"distilled_lora: {file}: its {len(weights)} tensors change nothing: all of lora_B is zero")
