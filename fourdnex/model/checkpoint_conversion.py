"""Loads checkpoints of the reference 4DNeX implementation: transformer state dicts, and its pair of adapter files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fourdnex.io.files import sha256_file
from fourdnex.model.adapter import check_adapter
from fourdnex.model.adapter_files import (
    DOMAIN_FILE,
    INFO_FILE,
    LORA_FILE,
    REFERENCE_DOMAIN_FILE,
    AdapterInfo,
    read_adapter_info,
    read_adapter_state,
    save_adapter,
)
from fourdnex.model.base_components import component_configs, meta_transformer
from fourdnex.model.fusion import DOMAIN_KEY
from fourdnex.model.presets import get_preset
from fourdnex.model.transformer import SixDTransformer

REFERENCE_DOMAIN_KEY = "learnable_domain_embeddings"
"""Name of the domain embeddings in state dicts of the reference implementation."""


def load_reference_weights(transformer: SixDTransformer, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Load a state dict of the reference implementation into `transformer`, in place.

    Keys are those of diffusers' Wan transformer, plus `learnable_domain_embeddings` `[2, inner_dim]`.

    Raises:
        ValueError: if a key is missing or unexpected, or a shape differs; the message lists them.
    """
    renamed = {DOMAIN_KEY if key == REFERENCE_DOMAIN_KEY else key: value for key, value in state_dict.items()}
    expected = transformer.state_dict()
    missing = sorted(expected.keys() - renamed.keys())
    unexpected = sorted(renamed.keys() - expected.keys())
    shapes = [
        f"{key} (expected {tuple(expected[key].shape)}, got {tuple(renamed[key].shape)})"
        for key in sorted(expected.keys() & renamed.keys())
        if expected[key].shape != renamed[key].shape
    ]
    if missing or unexpected or shapes:
        raise ValueError(f"state_dict: missing keys {missing}, unexpected keys {unexpected}, wrong shapes {shapes}")
    transformer.load_state_dict(renamed)


def load_upstream_weights(transformer: SixDTransformer, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Deprecated alias of `load_reference_weights`."""
    warnings.warn("load_upstream_weights is deprecated, use load_reference_weights", DeprecationWarning, stacklevel=2)
    load_reference_weights(transformer, state_dict)


@dataclass(frozen=True, kw_only=True)
class ImportedAdapter:
    """Result of `import_adapter`."""

    digest: str
    """Digest of the adapter folder (see `adapter_digest`)."""
    info: AdapterInfo
    num_layers: int
    """Number of layers with LoRA matrices."""
    num_parameters: int
    """Number of parameters of the LoRA matrices and the domain embeddings."""


def import_adapter(reference: str | Path, out: str | Path, *, model: str = "wan2.1-i2v-14b-480p") -> ImportedAdapter:
    """Convert the reference implementation's pair of adapter files to an adapter folder, without pickle.

    Checks every key and shape against the base model's configuration; the base model's weights are not needed.

    Args:
        reference: folder with `pytorch_lora_weights.safetensors` and `learnable_domain_embeddings.pt`.
        out: adapter folder to create.
        model: preset or folder of the base model that the adapter was trained on.

    Raises:
        FileNotFoundError: if a file is missing.
        FileExistsError: if `out` already exists.
        ValueError: if `reference` already is an adapter folder, or a file has other contents or does not fit the base.
    """
    reference, out = Path(reference), Path(out)
    if (reference / INFO_FILE).exists():
        raise ValueError(
            f"{reference}: expected the reference implementation's pair of files, got an adapter folder "
            f"with {INFO_FILE}"
        )
    if out.exists():
        raise FileExistsError(f"{out}: expected a new folder, it already exists")
    preset = get_preset(model)
    found = read_adapter_info(reference)
    state = read_adapter_state(reference, found.fusion)
    transformer = meta_transformer(component_configs(preset)["transformer"], fusion=found.fusion, dtype=torch.float32)
    layers = check_adapter(transformer, state, found)
    names = (LORA_FILE, DOMAIN_FILE if (reference / DOMAIN_FILE).exists() else REFERENCE_DOMAIN_FILE)
    files = {name: sha256_file(reference / name) for name in names}
    info = replace(
        found,
        base_name=preset.name,
        num_frames=preset.num_frames,
        height=preset.height,
        width=preset.width,
        identity={"imported_sha256": files},
    )
    return ImportedAdapter(
        digest=save_adapter(out, state, info),
        info=info,
        num_layers=len(layers),
        num_parameters=sum(value.numel() for value in state.values()),
    )
