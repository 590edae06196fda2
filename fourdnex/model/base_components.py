"""Components of a base model: their configurations, and the modules without weights (on the meta device).

Configurations of the released bases are stored here, so that planning needs neither weights nor the hub. Sources:

- `wan2.1-i2v-14b-480p`: transformer as in diffusers' `convert_wan_to_diffusers.py` ("Wan-I2V-14B-480p"). It has
  16,394,878,784 parameters: the count that public surveys of hub metadata give for SkyReels-V2-I2V-14B, which has the
  same architecture. The released index of the text-to-video model (57,153,966,336 bytes of float32) agrees with the
  same code without the image layers.
- `wan2.1-fun-1.3b-inp`: Wan2.1-Fun-1.3B-InP is released in Wan's original layout (DiffSynth-Studio lists it as
  has_image_input, in_dim 36, dim 1536, ffn_dim 8960, 12 heads, 30 layers). The conversion FastVideo and SGLang load
  is `weizhou03/Wan2.1-Fun-1.3B-InP-Diffusers`. It conditions on CLIP image tokens as the 14 B model does.
  1,564,428,608 parameters, the count of SkyReels-V2-I2V-1.3B.
- Both: UMT5-XXL's encoder (5,680,910,336 parameters; 11,361,820,672 bytes in bfloat16, the total of the published
  index), CLIP ViT-H/14's image tower (630,766,080, by its architecture), Wan 2.1's VAE (126,892,531, diffusers'
  defaults; the published float32 file is 508 MB).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

from fourdnex.io.files import read_json
from fourdnex.model.presets import Preset
from fourdnex.model.transformer import SixDTransformer

COMPONENTS = ("transformer", "text_encoder", "image_encoder", "vae")

_TRANSFORMER: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "in_channels": 36,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 13824,
    "num_layers": 40,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "image_dim": 1280,
    "added_kv_proj_dim": 5120,
    "rope_max_seq_len": 1024,
    "pos_embed_seq_len": None,
}
_TEXT_ENCODER: dict[str, Any] = {
    "vocab_size": 256384,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
_IMAGE_ENCODER: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 224,
    "hidden_act": "gelu",
}
_ENCODERS = {"text_encoder": _TEXT_ENCODER, "image_encoder": _IMAGE_ENCODER, "vae": {}}
_PUBLISHED: dict[str, dict[str, dict[str, Any]]] = {
    "wan2.1-i2v-14b-480p": {"transformer": _TRANSFORMER, **_ENCODERS},
    "wan2.1-fun-1.3b-inp": {
        "transformer": _TRANSFORMER
        | {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30, "added_kv_proj_dim": 1536},
        **_ENCODERS,
    },
}


def component_configs(preset: Preset) -> dict[str, dict[str, Any]]:
    """Configuration of each of `COMPONENTS`: from the folder of a local base, else the published one.

    Raises:
        FileNotFoundError: if a local base lacks a component.
        ValueError: if the base is neither local nor published.
    """
    if preset.is_local:
        return {part: read_json(Path(preset.location) / part / "config.json") for part in COMPONENTS}
    if preset.name not in _PUBLISHED:
        raise ValueError(f"model: expected a local folder or one of {sorted(_PUBLISHED)}, got {preset.name!r}")
    return _PUBLISHED[preset.name]


def meta_transformer(config: dict[str, Any], *, fusion: str = "width", dtype: torch.dtype) -> SixDTransformer:
    """The 6D transformer on the meta device, with the parameter types that loading with `dtype` gives.

    Diffusers always keeps some small layers in float32.
    """
    with torch.device("meta"):
        base = WanTransformer3DModel(**{key: value for key, value in config.items() if key in _TRANSFORMER})
    kept = set(WanTransformer3DModel._keep_in_fp32_modules)
    for name, value in base.named_parameters():
        if not kept & set(name.split(".")):
            value.data = value.data.to(dtype)
    return SixDTransformer.from_base(base, fusion=fusion).requires_grad_(False)


def meta_component(part: str, config: dict[str, Any], *, dtype: torch.dtype) -> nn.Module:
    """Text encoder, image encoder or VAE on the meta device."""
    with torch.device("meta"):
        if part == "text_encoder":
            model: nn.Module = UMT5EncoderModel(UMT5Config(**config))
        elif part == "image_encoder":
            model = CLIPVisionModel(CLIPVisionConfig(**config))
        elif part == "vae":
            model = AutoencoderKLWan(**{key: value for key, value in config.items() if not key.startswith("_")})
        else:
            raise ValueError(f"part: expected one of {COMPONENTS[1:]}, got {part!r}")
    for value in model.parameters():
        value.data = value.data.to(dtype)
    return model.requires_grad_(False).eval()


def num_bytes(model: nn.Module) -> int:
    """Bytes of the parameters and buffers of `model`."""
    return sum(value.numel() * value.element_size() for value in (*model.parameters(), *model.buffers()))
