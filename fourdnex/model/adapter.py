"""Adapters: LoRA matrices of a transformer, and the weights that its fusion trains in full."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import nn

from fourdnex.model.adapter_files import (
    Adapter,
    AdapterInfo,
    adapter_digest,
    check_adapter_folder,
    read_adapter_info,
    read_adapter_state,
    save_adapter,
)
from fourdnex.model.option_types import TARGET_MODULES
from fourdnex.model.sharding import unsharded
from fourdnex.model.transformer import SixDTransformer

__all__ = [
    "Adapter",
    "AdapterInfo",
    "adapter_digest",
    "adapter_norm",
    "adapter_state",
    "add_lora",
    "check_adapter",
    "check_adapter_folder",
    "linear_layers",
    "load_adapter",
    "read_adapter_info",
    "save_adapter",
    "target_layers",
]

ADAPTER_NAME = "fourdnex"


def add_lora(transformer: SixDTransformer, *, rank: int, alpha: float, targets: Sequence[str] = TARGET_MODULES) -> None:
    """Add new LoRA matrices to linear layers; unfreeze them and the fusion's weights, and freeze all other weights.

    Args:
        transformer: modified in place.
        rank: LoRA rank.
        alpha: the weight update B·A is scaled by alpha / rank.
        targets: suffixes of layer names, for example `to_q`, `attn2.to_k`, `ffn.net.0.proj`.

    Raises:
        ValueError: if rank is not positive, or a target matches no layer (the message lists the layers) or only layers
            that the fusion trains in full.
    """
    if rank < 1:
        raise ValueError(f"rank: expected at least 1, got {rank}")
    layers = target_layers(transformer, targets)
    transformer.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=layers, init_lora_weights=True)
    transformer.add_adapter(config, adapter_name=ADAPTER_NAME)
    for name in transformer.fusion.trained:  # add_adapter freezes everything except LoRA
        transformer.get_parameter(name).requires_grad_(True)


def target_layers(transformer: SixDTransformer, targets: Sequence[str]) -> list[str]:
    """Sorted names of the linear layers whose names end in one of `targets`, matched between dots.

    Raises:
        ValueError: if there are no targets, or one matches no layer; the message lists the layers.
    """
    fully_trained = {name.rpartition(".")[0] for name in transformer.fusion.trained}
    layers = [name for name in linear_layers(transformer) if name not in fully_trained]
    matches = {target: [name for name in layers if f".{name}".endswith(f".{target}")] for target in targets}
    if not targets or not all(matches.values()):
        unmatched = [target for target in targets if not matches[target]] or "none"
        available = sorted({re.sub(r"^blocks\.\d+\.", "", name) for name in layers})
        raise ValueError(f"targets: expected suffixes of layer names ({', '.join(available)}), got {unmatched}")
    return sorted({name for names in matches.values() for name in names})


def adapter_state(transformer: SixDTransformer) -> dict[str, torch.Tensor]:
    """LoRA matrices `{module}.lora_A.weight` and `.lora_B.weight`, and the fusion's weights by parameter name.

    All tensors are float32, on the CPU and detached.
    """
    state = {}
    for name, module in _lora_modules(transformer).items():
        state[f"{name}.lora_A.weight"] = module.lora_A[ADAPTER_NAME].weight
        state[f"{name}.lora_B.weight"] = module.lora_B[ADAPTER_NAME].weight
    state |= {name: transformer.get_parameter(name) for name in transformer.fusion.trained}
    return {key: unsharded(value).detach().float().cpu().contiguous() for key, value in state.items()}


def adapter_norm(state: Mapping[str, torch.Tensor]) -> float:
    """Frobenius norm of all weight updates B·A; 0 for an untrained adapter."""
    square = 0.0
    for key, first in state.items():
        if key.endswith(".lora_A.weight"):
            update = state[key.replace("lora_A", "lora_B")] @ first
            square += update.square().sum().item()
    return square**0.5


def load_adapter(transformer: SixDTransformer, folder: str | Path | Adapter, scale: float | None = None) -> AdapterInfo:
    """Load an adapter into `transformer`, in place, replacing any other adapter.

    Args:
        transformer: the 6D model that the adapter was trained for.
        folder: adapter folder, or folder with the reference implementation's pair of files.
        scale: scale of the weight update B·A; None takes alpha / rank (0.5 for the reference weights).

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a key or shape does not fit the transformer, or the fusion differs; the message lists them.
    """
    adapter = Adapter.read(folder)
    folder, info = adapter.folder, adapter.info
    state = read_adapter_state(folder, info.fusion)
    layers = check_adapter(transformer, state, info)
    if getattr(transformer, "peft_config", None):
        transformer.delete_adapters(list(transformer.peft_config))
    factor = info.alpha / info.rank if scale is None else scale
    config = LoraConfig(r=info.rank, lora_alpha=factor * info.rank, target_modules=layers, init_lora_weights=False)
    transformer.add_adapter(config, adapter_name=ADAPTER_NAME)
    with torch.no_grad():
        for name, module in _lora_modules(transformer).items():
            module.lora_A[ADAPTER_NAME].weight.copy_(state[f"{name}.lora_A.weight"])
            module.lora_B[ADAPTER_NAME].weight.copy_(state[f"{name}.lora_B.weight"])
        for name in transformer.fusion.trained:
            transformer.get_parameter(name).copy_(state[name])
    return info


def check_adapter(transformer: SixDTransformer, state: Mapping[str, torch.Tensor], info: AdapterInfo) -> list[str]:
    """Check that an adapter fits `transformer`; returns the names of the layers with LoRA matrices.

    Loads nothing: weights and transformer may be on the meta device.

    Raises:
        ValueError: if the fusion differs, or keys are missing, unexpected or of another shape; the message lists them.
    """
    for field in ("fusion", "positions"):
        trained, actual = getattr(info, field), getattr(transformer.config, field)
        if trained != actual:
            raise ValueError(f"adapter: trained for {field} {trained!r}, the transformer has {actual!r}")
    expected: dict[str, tuple[int, ...]] = {
        name: tuple(transformer.get_parameter(name).shape) for name in transformer.fusion.trained
    }
    modules, layers = linear_layers(transformer), target_layers(transformer, info.targets)
    for name in layers:
        expected[f"{name}.lora_A.weight"] = (info.rank, modules[name].in_features)
        expected[f"{name}.lora_B.weight"] = (modules[name].out_features, info.rank)
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    shapes = [
        f"{key} (expected {expected[key]}, got {tuple(state[key].shape)})"
        for key in sorted(expected.keys() & state.keys())
        if expected[key] != tuple(state[key].shape)
    ]
    if missing or unexpected or shapes:
        listed = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
        parts = [f"{len(keys)} {problem}: {_first(keys)}" for problem, keys in listed.items() if keys]
        raise ValueError(f"adapter: keys do not fit this transformer; {'; '.join(parts)}")
    return layers


def _first(keys: Sequence[str], count: int = 16) -> str:
    """The first keys as text, and the number of the others."""
    return ", ".join(keys[:count]) + (f" and {len(keys) - count} more" if len(keys) > count else "")


def linear_layers(transformer: nn.Module) -> dict[str, nn.Linear]:
    """Linear layers by their names without peft, excluding LoRA matrices."""
    return {
        name.replace(".base_layer", ""): module
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and ".lora_" not in name
    }


def _lora_modules(transformer: SixDTransformer) -> dict[str, Any]:
    """Layers wrapped by peft, by their names without peft."""
    return {
        name: module
        for name, module in transformer.named_modules()
        if hasattr(module, "lora_A") and ADAPTER_NAME in module.lora_A
    }
