"""Bytes of weights and of full-size passes, measured by running the real classes with fake tensors.

The memory of a pass through n equal blocks, or over n equal chunks of frames, is a + b·n. It is measured at two small n
and extrapolated, which is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Literal

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fourdnex.model.adapter import add_lora
from fourdnex.model.base_components import component_configs, meta_component, meta_transformer, num_bytes
from fourdnex.model.device_placement import store_in_fp8
from fourdnex.model.option_types import FusionName
from fourdnex.model.presets import Preset
from fourdnex.planning.passes import (
    DTYPES,
    ClipShape,
    Configs,
    Kernels,
    Measured,
    Precision,
    denoising_pass,
    encoder_pass,
    training_pass,
    vae_pass,
)

_TILE, _TILE_STRIDE = 256, 192  # pixels; defaults of diffusers


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Bytes of a component that consists of blocks."""

    total: int
    block: int
    """Bytes of one block."""
    num_blocks: int
    largest_layer: int
    """Bytes of the largest layer in its compute type; for a transformer, of the largest layer of a block."""

    @property
    def outside(self) -> int:
        """Bytes outside of the blocks."""
        return self.total - self.num_blocks * self.block


@lru_cache(maxsize=64)
def training_bytes(
    preset: Preset, clip: ClipShape, *, rank: int, checkpointing: bool, precision: Precision, kernels: Kernels = "gpu"
) -> Measured:
    """Memory of a LoRA training step: forward and backward pass, including gradients."""
    configs = component_configs(preset)

    def run(num_layers: int) -> Measured:
        with FakeTensorMode():
            return training_pass(
                _with_layers(configs, num_layers),
                clip,
                rank=rank,
                checkpointing=checkpointing,
                precision=precision,
                kernels=kernels,
            ).measure()

    return _extrapolate(run, configs["transformer"]["num_layers"])


@lru_cache(maxsize=64)
def denoising_bytes(
    preset: Preset, clip: ClipShape, *, rank: int, precision: Precision, kernels: Kernels = "gpu"
) -> Measured:
    """Memory of one denoising pass of the transformer."""
    configs = component_configs(preset)

    def run(num_layers: int) -> Measured:
        with FakeTensorMode():
            shallow = _with_layers(configs, num_layers)
            return denoising_pass(shallow, clip, rank=rank, precision=precision, kernels=kernels).measure()

    return _extrapolate(run, configs["transformer"]["num_layers"])


@lru_cache(maxsize=64)
def vae_bytes(
    preset: Preset, clip: ClipShape, direction: Literal["encode", "decode"], *, precision: Precision
) -> Measured:
    """Memory of encoding or decoding one modality of one clip without tiling."""
    configs = component_configs(preset)
    factor = configs["vae"].get("scale_factor_temporal", 4)

    def run(latent_frames: int) -> Measured:
        shorter = replace(clip, num_frames=(latent_frames - 1) * factor + 1)
        with FakeTensorMode():
            return vae_pass(configs, shorter, direction, precision=precision).measure()

    return _extrapolate(run, clip.latent_shape(configs["vae"])[0], at=(3, 4))


def tiled_vae_bytes(
    preset: Preset, clip: ClipShape, direction: Literal["encode", "decode"], *, precision: Precision
) -> int:
    """Peak bytes of a VAE pass in tiles, as in `AutoencoderKLWan.enable_tiling`.

    The peak is either one tile's pass while the results of the previous tiles are held, or the blending of all tiles.
    Memory is proportional to the number of pixels.
    """
    whole = vae_bytes(preset, clip, direction, precision=precision)
    if clip.height <= _TILE and clip.width <= _TILE:
        return whole.inputs + whole.peak
    held, peak = 0.0, 0.0
    for top in range(0, clip.height, _TILE_STRIDE):
        for left in range(0, clip.width, _TILE_STRIDE):
            pixels = min(_TILE, clip.height - top) * min(_TILE, clip.width - left)
            share = pixels / (clip.height * clip.width)
            peak = max(peak, held + share * whole.peak)
            held += share * whole.saved
    return whole.inputs + round(max(peak, held + 2 * whole.saved))


@lru_cache(maxsize=16)
def encoder_bytes(preset: Preset, part: Literal["text_encoder", "image_encoder"], *, precision: Precision) -> Measured:
    """Memory of encoding one prompt or one image."""
    configs = component_configs(preset)
    depth = {"text_encoder": "num_layers", "image_encoder": "num_hidden_layers"}[part]

    def run(num_layers: int) -> Measured:
        with FakeTensorMode():
            shallow = configs | {part: configs[part] | {depth: num_layers}}
            return encoder_pass(shallow, part, precision=precision).measure()

    return _extrapolate(run, configs[part][depth])


@lru_cache(maxsize=16)
def transformer_weights(
    preset: Preset, *, precision: Precision, fusion: FusionName = "width", fp8: bool = False
) -> Weights:
    """Weights of the transformer without adapter; `fp8` as in `MemorySettings.fp8_storage`."""
    configs = component_configs(preset)
    num_layers = configs["transformer"]["num_layers"]
    sizes, largest = {}, 0
    for count in (1, 2):
        config = _with_layers(configs, count)["transformer"]
        model = meta_transformer(config, fusion=fusion, dtype=DTYPES[precision])
        linear = [module for module in model.blocks.modules() if isinstance(module, torch.nn.Linear)]
        largest = max(map(num_bytes, linear))
        if fp8:
            store_in_fp8(model)
        sizes[count] = num_bytes(model)
    block = sizes[2] - sizes[1]
    total = sizes[1] + (num_layers - 1) * block
    return Weights(total=total, block=block, num_blocks=num_layers, largest_layer=largest)


@lru_cache(maxsize=16)
def adapter_bytes(preset: Preset, *, rank: int, fusion: FusionName = "width") -> int:
    """Bytes of LoRA matrices and domain embeddings in float32."""
    configs = component_configs(preset)
    sizes = []
    for count in (1, 2):
        model = meta_transformer(_with_layers(configs, count)["transformer"], fusion=fusion, dtype=torch.bfloat16)
        add_lora(model, rank=rank, alpha=rank)
        sizes.append(4 * sum(value.numel() for value in model.parameters() if value.requires_grad))
    return sizes[0] + (configs["transformer"]["num_layers"] - 1) * (sizes[1] - sizes[0])


@lru_cache(maxsize=16)
def encoder_weights(preset: Preset, part: str, *, precision: Precision) -> Weights:
    """Weights of text encoder, image encoder or VAE; the VAE counts as one block."""
    model = meta_component(part, component_configs(preset)[part], dtype=DTYPES[precision])
    total = num_bytes(model)
    stacks = {"text_encoder": "encoder.block", "image_encoder": "encoder.layers"}
    if part not in stacks:
        return Weights(total=total, block=total, num_blocks=1, largest_layer=total)
    name = next(name for name, _ in model.named_modules() if name.endswith(stacks[part]))
    stack = list(model.get_submodule(name).children())
    largest = max(num_bytes(module) for module in model.modules() if not list(module.children()))
    return Weights(total=total, block=num_bytes(stack[0]), num_blocks=len(stack), largest_layer=largest)


def _with_layers(configs: Configs, num_layers: int) -> Configs:
    """`configs` with another number of transformer layers."""
    return configs | {"transformer": configs["transformer"] | {"num_layers": num_layers}}


def _extrapolate(run: Callable[[int], Measured], count: int, at: tuple[int, int] = (1, 2)) -> Measured:
    """`run(count)`, extrapolated from two consecutive smaller counts if `count` is larger than these."""
    if count <= at[1]:
        return run(count)
    few, more = asdict(run(at[0])), asdict(run(at[1]))
    return Measured(**{name: few[name] + (count - at[0]) * (more[name] - few[name]) for name in few})
