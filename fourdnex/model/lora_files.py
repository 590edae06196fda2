"""LoRA files for Wan in the namings that trainers write, read into diffusers' names with every scale in the matrices.

PEFT and diffusers (`transformer.`, `base_model.model.`, no prefix, `.default.`), Wan's own names as ComfyUI and
diffusion-pipe write them (`diffusion_model.`), Kohya's and musubi-tuner's (`lora_unet_`, `.alpha`); matrices called A
and B, or down and up. Alpha comes from `.alpha` tensors or from the header, where diffusers writes it. Diffusers
translates Wan's names; what it would drop, leave half or scale otherwise is refused or settled before.
"""

from __future__ import annotations

import json
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
    """What a LoRA file holds, layer by layer, under diffusers' names."""

    matrices: dict[str, tuple[torch.Tensor, torch.Tensor]]
    """Layer -> A [rank, inputs] and B [outputs, rank], as they are in the file."""
    factors: dict[str, float]
    """Layer -> what B A counts: alpha / rank where the file tells alpha, else the default."""
    biases: dict[str, torch.Tensor]
    """Layer -> change of its bias [outputs], every factor in it."""
    others: dict[str, torch.Tensor]
    """What else there is, such as changes of normalization layers, under the file's names."""

    def uniform(self) -> tuple[int, float, dict[str, torch.Tensor]]:
        """One rank and factor for all layers, and the matrices `{layer}.lora_A.weight`, `.lora_B.weight`.

        Where ranks differ the smaller ones are filled up with zeros, and where factors differ they are multiplied into
        B: the update of each layer stays what it was. Equal ranks and factors leave the matrices untouched.
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
    """Read a LoRA file in any of the namings above.

    Args:
        path: a safetensors file.
        default: factor of B A where the file tells no alpha.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a whole safetensors file, no LoRA of a Wan transformer, half of a pair, weights that are not
            finite, DoRA, or contradicting alphas; the message names file and layer.
    """
    tensors, header = _open(path)
    if dora := [key for key in tensors if "magnitude" in key or "dora_scale" in key]:
        raise ValueError(f"{path}: {dora[0]}: expected LoRA matrices, got DoRA, whose magnitudes have no place in LoRA")
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    alphas: dict[str, float] = {}
    biases: dict[str, torch.Tensor] = {}
    scaled_biases: dict[str, torch.Tensor] = {}  # PEFT counts them as B A
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
        got = _shown(pairs[halves[0]])
        raise ValueError(f"{path}: {halves[0]}: expected both matrices of a pair, of one rank, got {got}")
    if strange := sorted(alphas.keys() - pairs.keys()):
        raise ValueError(f"{path}: {strange[0]}.alpha: expected the matrices of its layer, got none")
    if strange := sorted(scaled_biases.keys() - pairs.keys()):
        raise ValueError(f"{path}: {strange[0]}: expected the matrices of a bias's layer, got none")
    names = _diffusers_names(path, [*pairs, *(layer for layer in biases if layer not in pairs)])
    if len(set(names.values())) < len(names):
        seen = {name: layer for layer, name in names.items()}
        twice = next(layer for layer, name in names.items() if seen[name] != layer)
        raise ValueError(f"{path}: expected each layer once, got {twice} and {seen[names[twice]]}")
    told = _Header.read(path, header)
    factors = {}
    for layer, pair in pairs.items():
        rank = pair["A"].shape[0]
        own = alphas[layer] / rank if layer in alphas else None
        factors[names[layer]] = told.factor(names[layer], rank, own, default)
    return LoraFile(
        matrices={names[layer]: (pair["A"], pair["B"]) for layer, pair in pairs.items()},
        factors=factors,
        biases={names[layer]: value for layer, value in biases.items()}
        | {names[layer]: value * factors[names[layer]] for layer, value in scaled_biases.items()},
        others=others,
    )


def check_effective(path: Path, lora: LoraFile) -> None:
    """Refuse matrices that are all zero: a layer that was trained has none.

    Raises:
        ValueError: naming file and layer.
    """
    for layer, pair in lora.matrices.items():
        for name, value in zip("AB", pair, strict=True):
            if not value.any():
                raise ValueError(f"{path}: {layer}.lora_{name}: expected trained weights, got zeros alone")


@dataclass(frozen=True)
class _Header:
    """Alpha and rank as the file's header tells them; empty where it has none."""

    path: Path
    told: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, header: Mapping[str, str]) -> _Header:
        if _HEADER not in header:
            return cls(path, {})
        try:
            told = json.loads(header[_HEADER])
            return cls(path, {key.removeprefix("transformer."): value for key, value in told.items()})
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{path}: {_HEADER}: expected a JSON object, got {header[_HEADER][:80]!r}") from error

    def factor(self, layer: str, rank: int, own: float | None, default: float) -> float:
        """What B A of a layer counts: its own alpha's, the header's or the default."""
        alpha = self._of("alpha_pattern", layer, self.told.get("lora_alpha"))
        if alpha is None:
            return default if own is None else own
        said = self._of("rank_pattern", layer, self.told.get("r"))
        if said is not None and said != rank:
            raise ValueError(f"{self.path}: {layer}: expected rank {said}, as {_HEADER} says, got {rank}")
        factor = alpha / (rank**0.5 if self.told.get("use_rslora") else rank)
        if own is not None and abs(own - factor) > 1e-3 * abs(factor):
            both = f"{own * rank:g} beside the matrices and {alpha:g} in {_HEADER}"
            raise ValueError(f"{self.path}: {layer}: expected one alpha, got {both}")
        return factor

    def _of(self, pattern: str, layer: str, general: Any) -> Any:
        patterns = self.told.get(pattern) or {}
        return next((value for key, value in patterns.items() if f".{layer}".endswith(f".{key}")), general)


def _open(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    with open(path, "rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise ValueError(f"{path}: a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error


def _fits(pair: Mapping[str, torch.Tensor]) -> bool:
    return pair["A"].ndim == pair["B"].ndim == 2 and pair["A"].shape[0] == pair["B"].shape[1]


def _shown(pair: Mapping[str, torch.Tensor]) -> str:
    return ", ".join(f"{name} {tuple(value.shape)}" for name, value in sorted(pair.items()))


def _diffusers_names(path: Path, layers: Iterable[str]) -> dict[str, str]:
    """Of each layer, in any naming, diffusers' name, such as `blocks.0.attn1.to_q`."""
    names = {layer: _without_prefix(path, layer) for layer in layers}
    foreign = [layer for layer, name in names.items() if _WAN.search(name)]
    if not foreign:
        return names
    # Diffusers renames whole files: numbers in the place of the matrices show what became of which layer.
    given = {f"diffusion_model.{names[layer]}.lora_B.weight": torch.tensor(i) for i, layer in enumerate(foreign)}
    given |= {key.replace("lora_B", "lora_A"): torch.tensor(-1) for key in given}
    for image in ("k_img", "v_img"):  # it looks for image layers only where there are both
        given.setdefault(f"diffusion_model.blocks.0.cross_attn.{image}.lora_A.weight", torch.tensor(-1))
    try:
        renamed = WanImageToVideoPipeline.lora_state_dict(given)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: expected layers of a Wan transformer alone ({error})") from error
    found = {int(value): key for key, value in renamed.items() if value >= 0}
    if lost := [layer for i, layer in enumerate(foreign) if i not in found]:
        raise ValueError(f"{path}: {lost[0]}: expected a layer of a Wan transformer that diffusers knows")
    end = ".lora_B.weight"
    return names | {layer: found[i][len("transformer.") : -len(end)] for i, layer in enumerate(foreign)}


def _without_prefix(path: Path, layer: str) -> str:
    """The layer in diffusers' or Wan's own naming, with dots and without what trainers put before it."""
    if match := _KOHYA.fullmatch(layer):
        block, attention, part, number = match.groups()
        return f"blocks.{block}.{attention}.{part}" if attention else f"blocks.{block}.ffn.{number}"
    if layer.startswith("lora_unet_"):
        raise ValueError(f"{path}: {layer}: expected a layer of Wan's blocks in Kohya's naming")
    for prefix in _PREFIXES:
        layer = layer.removeprefix(prefix)
    return layer
