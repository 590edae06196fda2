"""Adapter folders: LoRA weights, weights trained in full by the fusion, and the metadata that generation needs.

```
pytorch_lora_weights.safetensors          LoRA matrices, diffusers' key names
learnable_domain_embeddings.safetensors   domain embeddings [2, inner_dim]
fusion_weights.safetensors                for channel fusion instead: patch embedding and output projection
adapter.json                              rank, alpha, recipe, base, statistics, center and scale, size, identity
```
The pair of files of the reference implementation (`pytorch_lora_weights.safetensors` and
`learnable_domain_embeddings.pt`) is also read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from fourdnex.io.files import atomic_dir, check_replaceable_folder, read_json, sha256_file, write_tensors
from fourdnex.io.renamed import former_recipe, renamed_recipe
from fourdnex.latents.codec import REFERENCE_STATISTICS, LatentStatistics
from fourdnex.model.fusion import DOMAIN_KEY, get_fusion
from fourdnex.model.lora_files import LoraFile, check_effective, read_lora
from fourdnex.model.option_types import TARGET_MODULES
from fourdnex.model.recipe import Recipe, recorded

LORA_FILE = "pytorch_lora_weights.safetensors"
DOMAIN_FILE = "learnable_domain_embeddings.safetensors"
REFERENCE_DOMAIN_FILE = "learnable_domain_embeddings.pt"
FUSION_FILE = "fusion_weights.safetensors"
INFO_FILE = "adapter.json"
REFERENCE_SCALE = 0.5
"""Scale of the reference implementation's LoRA weights without an alpha."""
_PREFIX = "transformer."
_DOMAIN, _REFERENCE_DOMAIN = "domain_embeddings", "learnable_domain_embeddings"
_NOT_IN_DIGEST = ("identity", "config", "targets")


@dataclass(frozen=True, kw_only=True)
class AdapterInfo(Recipe):
    """Metadata of an adapter. Fields of the recipe that `adapter.json` lacks have their defaults."""

    rank: int
    alpha: float
    targets: tuple[str, ...] = TARGET_MODULES
    """Suffixes of the names of layers with LoRA matrices."""
    base_name: str = ""
    base_digest: str = ""
    statistics: LatentStatistics = REFERENCE_STATISTICS
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Median center of the training clips (normalized per frame: of their frames), used to denormalize generated point
    maps."""
    scale: float = 1.0
    """Median scale of the training clips, used to denormalize generated point maps."""
    num_frames: int = 49
    height: int = 480
    width: int = 720
    size: Literal["fixed", "area"] = "fixed"
    """Rule for the generated size at an image's aspect ratio. fixed: the nearest valid size; area: rounded down, as in
    the reference implementation."""
    identity: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size not in ("fixed", "area"):
            raise ValueError(f"size: expected fixed or area, got {self.size!r}")
        if self.statistics_from == "reference" and self.statistics != REFERENCE_STATISTICS:
            raise ValueError(
                f"statistics: expected {REFERENCE_STATISTICS} with statistics_from='reference', got {self.statistics}"
            )

    def to_json(self) -> dict[str, Any]:
        """Contents of `adapter.json`."""
        return {"schema_version": 1, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AdapterInfo:
        """Parse `adapter.json`; raises ValueError for another schema version, or missing or invalid fields."""
        if not isinstance(data, Mapping):
            raise ValueError(f"expected an object, got {data!r}")
        version = data.get("schema_version")
        if version != 1:
            raise ValueError(f"schema_version: expected 1, got {version!r}")
        fields = renamed_recipe({k: v for k, v in data.items() if k != "schema_version"}, source=INFO_FILE)
        try:
            stored = fields.pop("statistics")
            if not isinstance(stored, Mapping):
                raise ValueError(f"statistics: expected an object, got {stored!r}")
            statistics = {key: tuple(value) for key, value in stored.items()}
            tuples: dict[str, Any] = {key: tuple(fields[key]) for key in ("center", "targets") if key in fields}
            return cls(**fields | tuples | {"statistics": LatentStatistics(**statistics)})
        except (KeyError, TypeError) as error:
            raise ValueError(str(error)) from error


def save_adapter(folder: Path, state: Mapping[str, torch.Tensor], info: AdapterInfo) -> str:
    """Write an adapter folder atomically; returns its digest (see `adapter_digest`).

    `state` is the result of `fourdnex.model.adapter.adapter_state`.

    Raises:
        FileExistsError: see `check_adapter_folder`.
    """
    check_adapter_folder(folder)
    lora = {_PREFIX + key: value for key, value in state.items() if ".lora_" in key}
    fusion = {key: value for key, value in state.items() if ".lora_" not in key}
    with atomic_dir(folder) as temporary:
        write_tensors(temporary / LORA_FILE, lora)
        if set(fusion) == {DOMAIN_KEY}:
            write_tensors(temporary / DOMAIN_FILE, {_DOMAIN: fusion[DOMAIN_KEY]})
        else:
            write_tensors(temporary / FUSION_FILE, fusion)
        (temporary / INFO_FILE).write_text(json.dumps(info.to_json(), indent=2))
    return adapter_digest(folder)


def check_adapter_folder(folder: Path) -> None:
    """Check that `folder` can be replaced by an adapter folder.

    Raises:
        FileExistsError: if it is a file, or a folder that is neither empty nor an adapter folder (`adapter.json`).
    """
    check_replaceable_folder(folder, "an adapter", marker=INFO_FILE)


@dataclass(frozen=True)
class Adapter:
    """An adapter folder, read once and passed down."""

    folder: Path
    info: AdapterInfo

    @classmethod
    def read(cls, folder: str | Path | Adapter) -> Adapter:
        """The adapter in a folder; an adapter stays what it is.

        Raises:
            FileNotFoundError, ValueError: see `read_adapter_info`.
        """
        return folder if isinstance(folder, Adapter) else cls(Path(folder), read_adapter_info(folder))

    @cached_property
    def digest(self) -> str:
        """See `adapter_digest`."""
        return adapter_digest(self.folder, self.info)


def adapter_digest(folder: Path, info: AdapterInfo | None = None) -> str:
    """First 16 hex digits of the SHA-256 over everything that affects what the adapter generates.

    That is both weight files and, if there is an `adapter.json`, its fields except `identity` and `config`; `targets`
    follow from the names of the weights. `info` is the folder's, if it has been read already.
    """
    folder = Path(folder)
    info = info or read_adapter_info(folder)
    joined = sha256_file(_existing(folder, LORA_FILE)) + sha256_file(_fusion_file(folder, info.fusion))
    if (folder / INFO_FILE).exists():
        fields = former_recipe(recorded(asdict(info)))
        joined += json.dumps({key: value for key, value in fields.items() if key not in _NOT_IN_DIGEST})
    return hashlib.sha256(joined.encode()).hexdigest()[:16]


def read_adapter_info(folder: str | Path) -> AdapterInfo:
    """Read `adapter.json`; for the reference implementation's pair of files, return its known settings.

    Raises:
        FileNotFoundError: if the folder contains neither.
        ValueError: if a file is invalid.
    """
    path = Path(folder) / INFO_FILE
    if path.exists():
        data = read_json(path)
        try:
            return AdapterInfo.from_json(data)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    rank, factor = _rank_and_factor(_existing(Path(folder), LORA_FILE))
    # Settings of the reference recipe, except decoding: RGB and XYZ targets were encoded one by one, and decoding them
    # one by one keeps them from mixing.
    return AdapterInfo(
        rank=rank,
        alpha=factor * rank,
        normalization="frame",
        statistics_from="reference",
        condition="joint",
        size="area",
        base_name="wan2.1-i2v-14b-480p",
    )


def read_adapter_state(folder: str | Path, fusion: str) -> dict[str, torch.Tensor]:
    """Weights of an adapter folder or of the reference pair of files, with the keys of `adapter_state`.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is truncated or has other contents. No code in a file is ever executed.
    """
    file = _existing(Path(folder), LORA_FILE)
    if (Path(folder) / INFO_FILE).exists():
        state = {key.removeprefix(_PREFIX): value for key, value in _load(file).items()}
    else:
        state = _reference_lora(file).uniform()[2]
    path = _fusion_file(Path(folder), fusion)
    if path.name == REFERENCE_DOMAIN_FILE:
        return state | {DOMAIN_KEY: _read_reference_domain(path)}
    fusion_state = _load(path)
    if path.name == FUSION_FILE:
        return state | fusion_state
    if len(fusion_state) != 1 or not set(fusion_state) <= {_DOMAIN, _REFERENCE_DOMAIN}:
        raise ValueError(f"{path}: expected the key {_DOMAIN}, got {sorted(fusion_state)[:3]}")
    return state | {DOMAIN_KEY: next(iter(fusion_state.values()))}


def _reference_lora(path: Path) -> LoraFile:
    """Read the reference implementation's LoRA file, in any naming; without an alpha its scale is `REFERENCE_SCALE`."""
    lora = read_lora(path, default=REFERENCE_SCALE)
    if extra := sorted({*lora.biases, *lora.others}):
        raise ValueError(f"{path}: {extra[0]}: expected only LoRA matrices, got {len(extra)} other tensors")
    check_effective(path, lora)
    return lora


def _rank_and_factor(path: Path) -> tuple[int, float]:
    """Rank and scale of a reference LoRA file; cached until the file changes."""
    stat = path.stat()
    return _read_rank_and_factor(path.resolve(), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _read_rank_and_factor(path: Path, _size: int, _time: int) -> tuple[int, float]:
    """Cached part of `_rank_and_factor`; size and time are cache keys."""
    return _reference_lora(path).uniform()[:2]


def _fusion_file(folder: Path, fusion: str) -> Path:
    """File with the weights that the fusion trains in full."""
    if get_fusion(fusion).trained != (DOMAIN_KEY,):
        return _existing(folder, FUSION_FILE)
    return _existing(folder, REFERENCE_DOMAIN_FILE if not (folder / DOMAIN_FILE).exists() else DOMAIN_FILE)


def _read_reference_domain(path: Path) -> torch.Tensor:
    """Read a file by `torch.save` that contains one tensor, or a dictionary with one tensor."""
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # invalid or malicious pickles raise arbitrary errors
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path}: expected one saved tensor without executable content ({reason})") from error
    tensor = next(iter(value.values())) if isinstance(value, dict) and len(value) == 1 else value
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        raise ValueError(
            f"{path}: expected one floating-point tensor, or a dictionary with one, got {_describe(value)}"
        )
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{path}: expected finite numbers, got NaN or infinity")
    return tensor.detach()


def _describe(value: Any) -> str:
    """Type of a value, for error messages."""
    if isinstance(value, dict):
        return f"a dictionary with keys {list(value)[:5]}"
    return f"a {value.dtype} tensor" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"


def _load(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file; ValueError if it is truncated."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: truncated or invalid safetensors file ({error})") from error


def _existing(folder: Path, name: str) -> Path:
    """Path of a file in an adapter folder; FileNotFoundError if it is missing."""
    path = folder / name
    if not path.is_file():
        others = sorted(other.name for other in folder.glob("*") if other.suffix in (".safetensors", ".pt", ".bin"))
        present = f"; the folder contains {', '.join(others[:4])}" if others else ""
        raise FileNotFoundError(f"adapter: {path} is missing{present}")
    return path
