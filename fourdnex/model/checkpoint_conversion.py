"""What the public 4DNeX code wrote: state dicts of its transformer, and its pair of adapter files."""

from __future__ import annotations

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
from fourdnex.model.fusion import DOMAIN_KEY
from fourdnex.model.presets import get_preset
from fourdnex.model.transformer import SixDTransformer

UPSTREAM_DOMAIN_KEY = "learnable_domain_embeddings"


def load_reference_weights(transformer: SixDTransformer, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Load a state dict of the public code into `transformer`, in place.

    Names are those of diffusers' Wan transformer, plus `learnable_domain_embeddings` `[2, inner_dim]`.

    Raises:
        ValueError: if a key is missing or unexpected, or a shape differs; the message lists them.
    """
    renamed = {DOMAIN_KEY if key == UPSTREAM_DOMAIN_KEY else key: value for key, value in state_dict.items()}
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


@dataclass(frozen=True, kw_only=True)
class ImportedAdapter:
    """What an import has found and written."""

    digest: str
    info: AdapterInfo
    num_layers: int
    """Layers with LoRA matrices."""
    num_parameters: int
    """In them, and in the domain embeddings."""


def import_adapter(public: str | Path, out: str | Path, *, model: str = "wan2.1-i2v-14b-480p") -> ImportedAdapter:
    """Write the public pair of files as one of our adapter folders, without pickle and with what is known of it.

    Every key and shape is checked against the base's configuration; its weights are not needed.

    Args:
        public: folder with `pytorch_lora_weights.safetensors` and `learnable_domain_embeddings.pt`.
        out: folder to make.
        model: preset or folder of the base that the adapter was trained on.

    Raises:
        FileNotFoundError: if a file is missing.
        FileExistsError: if `out` is there already.
        ValueError: if the folder is one of ours already, a file holds anything else, or does not fit the base.
    """
    from fourdnex.model.base_parts import meta_transformer, part_configs

    public, out = Path(public), Path(out)
    if (public / INFO_FILE).exists():
        raise ValueError(f"{public}: expected the public pair of files, got an adapter folder with {INFO_FILE}")
    if out.exists():
        raise FileExistsError(f"{out}: expected a folder to make, it is there already")
    preset = get_preset(model)
    found = read_adapter_info(public)
    state = read_adapter_state(public, found.fusion)
    transformer = meta_transformer(part_configs(preset)["transformer"], fusion=found.fusion, dtype=torch.float32)
    layers = check_adapter(transformer, state, found)
    names = (LORA_FILE, DOMAIN_FILE if (public / DOMAIN_FILE).exists() else REFERENCE_DOMAIN_FILE)
    files = {name: sha256_file(public / name) for name in names}
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
