"""Reads LoRA files for Wan in the key formats of common trainers, and converts the keys to those of diffusers.

Formats: PEFT and diffusers (`transformer.`, `base_model.model.`, no prefix, `.default.`), Wan's original names as
written by ComfyUI and diffusion-pipe (`diffusion_model.`), Kohya and musubi-tuner (`lora_unet_`, `.alpha`); matrices
named A and B, or down and up. Alpha is read from `.alpha` tensors, or from the header, where diffusers writes it.
Diffusers translates Wan's names; keys that it would drop, load incompletely or scale differently are rejected or
converted first.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import WanImageToVideoPipeline
from safetensors import SafetensorError, safe_open

_HEADER = "lora_adapter_metadata"
_LFS = b"version https://git-lfs"
_PREFIXES = ("base_model.model.", "model.", "transformer.", "diffusion_model.")
_MATRIX = re.compile(r"(.+)\.lora_(A|B|down|up)(?:\.default)?\.(weight|bias)")
_KOHYA = re.compile(r"lora_unet_blocks_(\d+)_(?:(self_attn|cross_attn)_(\w+)|ffn_(\d))")
_WAN = re.compile(
    r"\.(self_attn|cross_attn)\.|\.ffn\.\d$|^(head|text_embedding|time_embedding|time_projection|img_emb)\."
)


@dataclass(frozen=True, kw_only=True)
class LoraFile:
    """Contents of a LoRA file by layer, with diffusers' layer names."""

    matrices: dict[str, tuple[torch.Tensor, torch.Tensor]]
    """Layer -> A [rank, inputs] and B [outputs, rank], as in the file."""
    factors: dict[str, float]
    """Layer -> scale of B·A: alpha / rank if the file has an alpha, else the default."""
    biases: dict[str, torch.Tensor]
    """Layer -> difference of its bias [outputs], with all scales applied."""
    others: dict[str, torch.Tensor]
    """Other tensors, such as differences of norms, with the file's keys."""

    def uniform(self) -> tuple[int, float, dict[str, torch.Tensor]]:
        """A common rank and scale for all layers, and the matrices `{layer}.lora_A.weight`, `.lora_B.weight`.

        Matrices of smaller rank are padded with zeros, and differing scales are multiplied into B, so the update of
        each layer does not change. With equal ranks and scales the matrices are unchanged.
        """
        ranks = {first.shape[0] for first, _ in self.matrices.values()}
        factors = set(self.factors.values())
        rank, factor = max(ranks), factors.pop() if len(factors) == 1 else 1.0
        state = {}
        for layer, (first, second) in self.matrices.items():
            missing = rank - first.shape[0]
            if self.factors[layer] != factor:
                second = second.float() * self.factors[layer]
            state[f"{layer}.lora_A.weight"] = torch.nn.functional.pad(first, (0, 0, 0, missing))
            state[f"{layer}.lora_B.weight"] = torch.nn.functional.pad(second, (0, missing))
        return rank, factor, state


def read_lora(path: Path, *, default: float) -> LoraFile:
    """Read a LoRA file in any of the formats above.

    Args:
        path: a safetensors file.
        default: scale of B·A if the file has no alpha.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not valid safetensors, has no LoRA of a Wan transformer, an incomplete pair, weights
            that are not finite, DoRA magnitudes, or contradictory alphas; the message names file and layer.
    """
    tensors, header = _open(path)
    if dora := [key for key in tensors if "magnitude" in key or "dora_scale" in key]:
        raise ValueError(f"{path}: {dora[0]}: expected LoRA matrices, got DoRA magnitudes, which are not supported")
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    alphas: dict[str, float] = {}
    biases: dict[str, torch.Tensor] = {}
    scaled_biases: dict[str, torch.Tensor] = {}  # PEFT scales them like B·A
    others: dict[str, torch.Tensor] = {}
    for key, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"{path}: {key}: expected finite numbers, got NaN or infinity")
        if key.endswith(".alpha"):
            alphas[key.removesuffix(".alpha")] = float(value)
        elif match := _MATRIX.fullmatch(key):
            if match[3] == "weight":
                pairs.setdefault(match[1], {})["A" if match[2] in ("A", "down") else "B"] = value
            else:
                scaled_biases[match[1]] = value
        elif key.endswith(".diff_b") and "norm" not in key:
            biases[key.removesuffix(".diff_b")] = value
        else:
            others[key] = value
    if not pairs:
        expected = "LoRA matrices (lora_A and lora_B, or lora_down and lora_up)"
        raise ValueError(f"{path}: expected {expected}, got keys {sorted(tensors)[:3]}")
    if halves := sorted(layer for layer, pair in pairs.items() if len(pair) == 1 or not _fits(pair)):
        got = _shapes(pairs[halves[0]])
        raise ValueError(f"{path}: {halves[0]}: expected two matrices of the same rank, got {got}")
    if unpaired := sorted(alphas.keys() - pairs.keys()):
        raise ValueError(f"{path}: {unpaired[0]}.alpha: expected LoRA matrices of the same layer, got none")
    if unpaired := sorted(scaled_biases.keys() - pairs.keys()):
        raise ValueError(f"{path}: {unpaired[0]}: expected LoRA matrices for the layer of a bias, got none")
    names = _diffusers_names(path, [*pairs, *(layer for layer in biases if layer not in pairs)])
    if len(set(names.values())) < len(names):
        seen = {name: layer for layer, name in names.items()}
        twice = next(layer for layer, name in names.items() if seen[name] != layer)
        raise ValueError(f"{path}: expected each layer once, got {twice} and {seen[names[twice]]}")
    metadata = _Metadata.read(path, header)
    factors = {}
    for layer, pair in pairs.items():
        rank = pair["A"].shape[0]
        scale = alphas[layer] / rank if layer in alphas else None
        factors[names[layer]] = metadata.factor(names[layer], rank, scale, default)
    return LoraFile(
        matrices={names[layer]: (pair["A"], pair["B"]) for layer, pair in pairs.items()},
        factors=factors,
        biases={names[layer]: value for layer, value in biases.items()}
        | {names[layer]: value * factors[names[layer]] for layer, value in scaled_biases.items()},
        others=others,
    )


def check_effective(path: Path, lora: LoraFile) -> None:
    """Check that no matrix is all zero, which trained layers never are.

    Raises:
        ValueError: if one is; the message names file and layer.
    """
    for layer, pair in lora.matrices.items():
        for name, value in zip("AB", pair, strict=True):
            if not value.any():
                raise ValueError(f"{path}: {layer}.lora_{name}: expected trained weights, got only zeros")


@dataclass(frozen=True)
class _Metadata:
    """Alpha and rank from the file's header; empty if it has none."""

    path: Path
    config: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, header: Mapping[str, str]) -> _Metadata:
        """Parse the header; ValueError if it is not a JSON object."""
        if _HEADER not in header:
            return cls(path, {})
        try:
            config = json.loads(header[_HEADER])
            return cls(path, {key.removeprefix("transformer."): value for key, value in config.items()})
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{path}: {_HEADER}: expected a JSON object, got {header[_HEADER][:80]!r}") from error

    def factor(self, layer: str, rank: int, scale: float | None, default: float) -> float:
        """Scale of B·A of a layer: from the header, else `scale` (from its alpha tensor), else the default."""
        alpha = self._lookup("alpha_pattern", layer, self.config.get("lora_alpha"))
        if alpha is None:
            return default if scale is None else scale
        if not isinstance(alpha, int | float) or not math.isfinite(alpha):
            raise ValueError(f"{self.path}: {layer}: expected a finite alpha in {_HEADER}, got {alpha!r}")
        stated = self._lookup("rank_pattern", layer, self.config.get("r"))
        if stated is not None and stated != rank:
            raise ValueError(f"{self.path}: {layer}: expected rank {stated} as in {_HEADER}, got {rank}")
        factor = alpha / (rank**0.5 if self.config.get("use_rslora") else rank)
        if scale is not None and abs(scale - factor) > 1e-3 * abs(factor):
            both = f"{scale * rank:g} in its tensor and {alpha:g} in {_HEADER}"
            raise ValueError(f"{self.path}: {layer}: expected one alpha, got {both}")
        return factor

    def _lookup(self, pattern: str, layer: str, general: Any) -> Any:
        """Value of a layer in a table of layer suffixes, else the general value."""
        patterns = self.config.get(pattern) or {}
        if not isinstance(patterns, dict):
            raise ValueError(f"{self.path}: {pattern}: expected an object in {_HEADER}, got {patterns!r}")
        return next((value for key, value in patterns.items() if f".{layer}".endswith(f".{key}")), general)


def _open(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and header of a safetensors file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    with open(path, "rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise ValueError(f"{path}: expected a safetensors file, got a Git LFS pointer: run `git lfs pull`")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path}: truncated or invalid safetensors file ({error})") from error


def _fits(pair: Mapping[str, torch.Tensor]) -> bool:
    """Whether two matrices have the same rank."""
    return pair["A"].ndim == pair["B"].ndim == 2 and pair["A"].shape[0] == pair["B"].shape[1]


def _shapes(pair: Mapping[str, torch.Tensor]) -> str:
    """Shapes of the matrices, for error messages."""
    return ", ".join(f"{name} {tuple(value.shape)}" for name, value in sorted(pair.items()))


def _diffusers_names(path: Path, layers: Iterable[str]) -> dict[str, str]:
    """Layer name in the file -> diffusers' layer name, such as `blocks.0.attn1.to_q`."""
    names = {layer: _without_prefix(path, layer) for layer in layers}
    foreign = [layer for layer, name in names.items() if _WAN.search(name)]
    if not foreign:
        return names
    # Diffusers converts whole state dicts: index tensors in place of matrices track the layers.
    indexed = {f"diffusion_model.{names[layer]}.lora_B.weight": torch.tensor(i) for i, layer in enumerate(foreign)}
    indexed |= {key.replace("lora_B", "lora_A"): torch.tensor(-1) for key in indexed}
    for image in ("k_img", "v_img"):  # image layers are only converted if both exist
        indexed.setdefault(f"diffusion_model.blocks.0.cross_attn.{image}.lora_A.weight", torch.tensor(-1))
    try:
        renamed = WanImageToVideoPipeline.lora_state_dict(indexed)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: expected only layers of a Wan transformer ({error})") from error
    found = {int(value): key for key, value in renamed.items() if value >= 0}
    if lost := [layer for i, layer in enumerate(foreign) if i not in found]:
        raise ValueError(f"{path}: {lost[0]}: expected a layer of diffusers' Wan transformer")
    suffix = ".lora_B.weight"
    return names | {layer: found[i][len("transformer.") : -len(suffix)] for i, layer in enumerate(foreign)}


def _without_prefix(path: Path, layer: str) -> str:
    """Layer name in diffusers' or Wan's format, without the trainer's prefix."""
    if match := _KOHYA.fullmatch(layer):
        block, attention, part, number = match.groups()
        return f"blocks.{block}.{attention}.{part}" if attention else f"blocks.{block}.ffn.{number}"
    if layer.startswith("lora_unet_"):
        raise ValueError(f"{path}: {layer}: expected a layer of Wan's blocks in Kohya's format")
    for prefix in _PREFIXES:
        layer = layer.removeprefix(prefix)
    return layer
