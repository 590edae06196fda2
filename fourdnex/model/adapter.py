"""Adapter folders: LoRA weights, domain embeddings, and what is needed to use them rightly.

```
pytorch_lora_weights.safetensors       LoRA matrices, diffusers' key names
learnable_domain_embeddings.safetensors   [2, inner_dim]
adapter.json                           rank, alpha, recipe, base, statistics, centre and scale, size, identity
```
The public 4DNeX pair (`pytorch_lora_weights.safetensors` and `learnable_domain_embeddings.pt`) loads too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from fourdnex.files import atomic_dir, sha256_file
from fourdnex.model.latents import UPSTREAM_STATISTICS, LatentStatistics
from fourdnex.model.names import TARGET_MODULES
from fourdnex.model.recipe import Recipe
from fourdnex.model.transformer import SixDTransformer

ADAPTER_NAME = "fourdnex"
LORA_FILE = "pytorch_lora_weights.safetensors"
DOMAIN_FILE = "learnable_domain_embeddings.safetensors"
PUBLIC_DOMAIN_FILE = "learnable_domain_embeddings.pt"
INFO_FILE = "adapter.json"
PUBLIC_SCALE = 0.5
_PREFIX = "transformer."
_UNDIGESTED = ("identity", "config", "targets")


@dataclass(frozen=True, kw_only=True)
class AdapterInfo(Recipe):
    """What an adapter was trained with and for; a recipe's choice that `adapter.json` lacks is the default."""

    rank: int
    alpha: float
    targets: tuple[str, ...] = TARGET_MODULES
    """Endings of the names of the layers that have LoRA matrices."""
    base_name: str = ""
    base_digest: str = ""
    statistics: LatentStatistics = UPSTREAM_STATISTICS
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Median centre of the training clips (per frame: of their frames): where generated point maps are put back."""
    scale: float = 1.0
    """Median scale of the training clips."""
    num_frames: int = 49
    height: int = 480
    width: int = 720
    identity: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.statistics_from == "public" and self.statistics != UPSTREAM_STATISTICS:
            raise ValueError(
                f"statistics: expected the public ones ({UPSTREAM_STATISTICS}), as statistics_from says, "
                f"got {self.statistics}"
            )

    def to_json(self) -> dict[str, Any]:
        return {"schema_version": 1, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AdapterInfo:
        """Raises ValueError for a newer schema or a missing field."""
        version = data.get("schema_version")
        if version != 1:
            raise ValueError(f"{INFO_FILE}: schema_version: expected 1, got {version!r}")
        known = {key: value for key, value in data.items() if key != "schema_version"}
        try:
            statistics = {key: tuple(value) for key, value in known.pop("statistics").items()}
            tuples: dict[str, Any] = {key: tuple(known[key]) for key in ("center", "targets") if key in known}
            return cls(**known | tuples | {"statistics": LatentStatistics(**statistics)})
        except (KeyError, TypeError) as error:
            raise ValueError(f"{INFO_FILE}: {error}") from error


def add_lora(transformer: SixDTransformer, *, rank: int, alpha: float, targets: Sequence[str] = TARGET_MODULES) -> None:
    """Add fresh LoRA matrices to some linear layers; train them and the domain embeddings, freeze the rest.

    Args:
        transformer: changed in place.
        rank: of the matrices.
        alpha: the weight update B·A counts alpha / rank.
        targets: endings of the layers' names, for instance `to_q`, `attn2.to_k`, `ffn.net.0.proj`.

    Raises:
        ValueError: if rank is not positive, or a target matches no layer; the message lists what there is.
    """
    if rank < 1:
        raise ValueError(f"rank: expected at least 1, got {rank}")
    layers = target_layers(transformer, targets)
    transformer.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=layers, init_lora_weights=True)
    transformer.add_adapter(config, adapter_name=ADAPTER_NAME)
    transformer.domain_embeddings.requires_grad_(True)  # add_adapter freezes everything but LoRA


def target_layers(transformer: nn.Module, targets: Sequence[str]) -> list[str]:
    """Sorted names of the linear layers whose names end in one of `targets`, as whole parts between dots.

    Raises:
        ValueError: if there are no targets, or one matches no layer; the message lists what there is.
    """
    layers = _linears(transformer)
    found = {target: [name for name in layers if f".{name}".endswith(f".{target}")] for target in targets}
    if not targets or not all(found.values()):
        wrong = [target for target in targets if not found[target]] or "none"
        there = sorted({re.sub(r"^blocks\.\d+\.", "", name) for name in layers})
        raise ValueError(f"targets: expected endings of linear layers' names ({', '.join(there)}), got {wrong}")
    return sorted({name for names in found.values() for name in names})


def adapter_state(transformer: SixDTransformer) -> dict[str, torch.Tensor]:
    """LoRA matrices `{module}.lora_A.weight`, `.lora_B.weight` and `domain_embeddings`: float32, CPU, detached."""
    state = {}
    for name, module in _lora_modules(transformer).items():
        state[f"{name}.lora_A.weight"] = module.lora_A[ADAPTER_NAME].weight
        state[f"{name}.lora_B.weight"] = module.lora_B[ADAPTER_NAME].weight
    state["domain_embeddings"] = transformer.domain_embeddings
    return {key: value.detach().float().cpu().contiguous() for key, value in state.items()}


def adapter_norm(state: Mapping[str, torch.Tensor]) -> float:
    """Frobenius norm over all weight updates B·A; 0 for an adapter that has learned nothing."""
    square = 0.0
    for key, first in state.items():
        if key.endswith(".lora_A.weight"):
            update = state[key.replace("lora_A", "lora_B")] @ first
            square += update.square().sum().item()
    return square**0.5


def save_adapter(folder: Path, state: Mapping[str, torch.Tensor], info: AdapterInfo) -> str:
    """Write an adapter folder whole; returns its digest (see `adapter_digest`)."""
    with atomic_dir(folder) as temporary:
        lora = {_PREFIX + key: value for key, value in state.items() if key != "domain_embeddings"}
        save_file(lora, temporary / LORA_FILE)
        save_file({"domain_embeddings": state["domain_embeddings"]}, temporary / DOMAIN_FILE)
        (temporary / INFO_FILE).write_text(json.dumps(info.to_json(), indent=2))
    return adapter_digest(folder)


def adapter_digest(folder: Path) -> str:
    """First 16 hex digits of the sha256 over all that changes what the adapter generates.

    That is both weight files and, if there is an `adapter.json`, its fields but `identity` and `config`; `targets` are
    told by the weights' names.
    """
    domain = DOMAIN_FILE if (folder / DOMAIN_FILE).exists() else PUBLIC_DOMAIN_FILE
    joined = sha256_file(_existing(folder, LORA_FILE)) + sha256_file(_existing(folder, domain))
    if (folder / INFO_FILE).exists():
        info = asdict(read_adapter_info(folder))
        joined += json.dumps({key: value for key, value in info.items() if key not in _UNDIGESTED})
    return hashlib.sha256(joined.encode()).hexdigest()[:16]


def read_adapter_info(folder: Path) -> AdapterInfo:
    """`adapter.json`, or for the public pair of files what is known of the public weights."""
    path = Path(folder) / INFO_FILE
    if path.exists():
        try:
            return AdapterInfo.from_json(json.loads(path.read_text()))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: not valid JSON ({error})") from error
    lora = _read_lora(Path(folder))
    ranks = [value.shape[0] for key, value in lora.items() if key.endswith("lora_A.weight")]
    if not ranks:
        raise ValueError(f"{Path(folder) / LORA_FILE}: expected LoRA matrices, got keys {sorted(lora)[:3]}")
    # Trained as the public recipe says; decoding apart needs no other weights and keeps the halves from mixing.
    return AdapterInfo(
        rank=ranks[0],
        alpha=PUBLIC_SCALE * ranks[0],
        normalisation="frame",
        statistics_from="public",
        base_name="wan2.1-i2v-14b-480p",
    )


def load_adapter(transformer: SixDTransformer, folder: str | Path, scale: float | None = None) -> AdapterInfo:
    """Put an adapter on `transformer`, in place; one that was there before is replaced.

    Args:
        transformer: the 6D model the adapter was trained for.
        folder: our adapter folder, or the public pair of files.
        scale: factor of the weight update B·A; None takes alpha / rank (0.5 for the public weights).

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a key or shape does not fit the transformer, or the fusion differs; the message lists them.
    """
    folder = Path(folder)
    info = read_adapter_info(folder)
    if info.fusion != transformer.config.fusion:
        raise ValueError(
            f"adapter: trained for fusion {info.fusion!r}, the transformer has {transformer.config.fusion!r}"
        )
    lora, domain = _read_lora(folder), _read_domain(folder)
    layers = _check(transformer, lora, domain, info.targets)
    if getattr(transformer, "peft_config", None):
        transformer.delete_adapters(list(transformer.peft_config))
    factor = info.alpha / info.rank if scale is None else scale
    config = LoraConfig(r=info.rank, lora_alpha=factor * info.rank, target_modules=layers, init_lora_weights=False)
    transformer.add_adapter(config, adapter_name=ADAPTER_NAME)
    with torch.no_grad():
        for name, module in _lora_modules(transformer).items():
            module.lora_A[ADAPTER_NAME].weight.copy_(lora[f"{name}.lora_A.weight"])
            module.lora_B[ADAPTER_NAME].weight.copy_(lora[f"{name}.lora_B.weight"])
        transformer.domain_embeddings.copy_(domain)
    return info


def _check(
    transformer: SixDTransformer, lora: Mapping[str, torch.Tensor], domain: torch.Tensor, targets: Sequence[str]
) -> list[str]:
    """Names of the layers the LoRA matrices belong to; ValueError if anything does not fit."""
    linears = _linears(transformer)
    expected = target_layers(transformer, targets)
    given = sorted({key.rsplit(".lora_", 1)[0] for key in lora})
    wrong = [key for key in lora if not key.endswith((".lora_A.weight", ".lora_B.weight"))]
    wrong += [f"{name}: no such layer" for name in given if name not in linears]
    for name in (name for name in given if name in linears):
        first, second = lora.get(f"{name}.lora_A.weight"), lora.get(f"{name}.lora_B.weight")
        layer = linears[name]
        if first is None or second is None:
            wrong.append(f"{name}: one of lora_A and lora_B is missing")
        elif (
            first.shape[1] != layer.in_features
            or second.shape[0] != layer.out_features
            or first.shape[0] != second.shape[1]
        ):
            wrong.append(
                f"{name}: shapes {tuple(first.shape)}, {tuple(second.shape)} "
                f"for a layer {layer.in_features} -> {layer.out_features}"
            )
    wrong += [f"{name}: no weights for this layer" for name in expected if name not in given]
    if domain.shape != transformer.domain_embeddings.shape:
        wrong.append(
            f"domain_embeddings: expected {tuple(transformer.domain_embeddings.shape)}, got {tuple(domain.shape)}"
        )
    if wrong:
        raise ValueError(f"adapter: {len(wrong)} keys do not fit this transformer: {'; '.join(wrong[:20])}")
    return given


def _linears(transformer: nn.Module) -> dict[str, nn.Linear]:
    """Linear layers by the names they have without peft; LoRA's own are left out."""
    return {
        name.replace(".base_layer", ""): module
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and ".lora_" not in name
    }


def _lora_modules(transformer: SixDTransformer) -> dict[str, Any]:
    """The layers that peft has wrapped, by the names they have without it."""
    return {
        name: module
        for name, module in transformer.named_modules()
        if hasattr(module, "lora_A") and ADAPTER_NAME in module.lora_A
    }


def _read_lora(folder: Path) -> dict[str, torch.Tensor]:
    return {key.removeprefix(_PREFIX): value for key, value in _load(_existing(folder, LORA_FILE)).items()}


def _read_domain(folder: Path) -> torch.Tensor:
    if (folder / DOMAIN_FILE).exists():
        tensors = _load(folder / DOMAIN_FILE)
        if "domain_embeddings" not in tensors:
            raise ValueError(f"{folder / DOMAIN_FILE}: expected the key domain_embeddings, got {sorted(tensors)[:3]}")
        return tensors["domain_embeddings"]
    path = _existing(folder, PUBLIC_DOMAIN_FILE)
    value = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(value, Mapping):
        value = next(iter(value.values()))
    return value


def _load(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error


def _existing(folder: Path, name: str) -> Path:
    path = Path(folder) / name
    if not path.is_file():
        raise FileNotFoundError(f"adapter: {path} is missing")
    return path
