"""One pass through each component of the model, as in training and generation, with real or fake tensors.

A pass built in a `FakeTensorMode` holds no data; otherwise it computes on real tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from fourdnex.model.adapter import add_lora
from fourdnex.model.base_components import meta_component, meta_transformer
from fourdnex.model.conditioning import join_condition
from fourdnex.model.fusion import get_fusion
from fourdnex.model.option_types import FusionName
from fourdnex.model.text_padding import TEXT_TOKENS
from fourdnex.planning.allocations import Allocations, materialize, use_gpu_kernels
from fourdnex.training.loss import flow_matching_loss

Configs = dict[str, dict[str, Any]]  # see `base_components.component_configs`
Precision = Literal["bf16", "no"]
Kernels = Literal["gpu", "cpu"]
DTYPES = {"bf16": torch.bfloat16, "no": torch.float32}


@dataclass(frozen=True, kw_only=True)
class ClipShape:
    """What goes through the model at once."""

    num_frames: int
    height: int
    width: int
    batch_size: int = 1
    fusion: FusionName = "width"

    def latent_shape(self, vae: dict[str, Any]) -> tuple[int, int, int]:
        """Frames, height and width of one modality's latents."""
        temporal, spatial = vae.get("scale_factor_temporal", 4), vae.get("scale_factor_spatial", 8)
        return (self.num_frames - 1) // temporal + 1, self.height // spatial, self.width // spatial


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Bytes of one pass, without the model's weights."""

    inputs: int
    saved: int
    """Live bytes after the forward pass, without the inputs: the result, and tensors saved by autograd."""
    peak: int
    """Peak of live bytes, without the inputs."""


@dataclass(frozen=True, eq=False)
class Pass:
    """A model, its inputs, and the function that runs it."""

    model: nn.Module
    inputs: tuple[torch.Tensor, ...]
    call: Callable[..., torch.Tensor]
    """Runs the model; called with the inputs."""
    backward: bool = False
    autocast: bool = False

    def to(self, device: str) -> Pass:
        """Move model (in place) and inputs to a device."""
        self.model.to(device)
        return replace(self, inputs=tuple(value.to(device) for value in self.inputs))

    def forward(self) -> torch.Tensor:
        """Result of the forward pass; in training, the loss."""
        with torch.autocast(self.inputs[0].device.type, torch.bfloat16, enabled=self.autocast):
            with torch.set_grad_enabled(self.backward):
                return self.call(*self.inputs)

    def run(self) -> None:
        """Run forward and, in training, backward; gradients are discarded."""
        result = self.forward()
        if self.backward:
            result.backward()
            self.model.zero_grad()

    def measure(self) -> Measured:
        """Run on the CPU, with real or fake tensors, and track allocations."""
        allocations = Allocations()
        allocations.watch(*self.model.parameters(), *self.model.buffers(), *self.inputs)
        before = allocations.current
        with allocations:
            result = self.forward()
            saved = allocations.current - before
            if self.backward:
                result.backward()
        inputs = sum(value.nbytes for value in self.inputs)
        return Measured(inputs=inputs, saved=saved, peak=allocations.peak - before)

    def measure_on_gpu(self) -> int:
        """Run on a GPU; peak of PyTorch's allocator in bytes, beyond what was allocated before."""
        self.run()  # warm up: libraries allocate permanent workspaces
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self.run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before


def training_pass(
    configs: Configs, clip: ClipShape, *, rank: int, checkpointing: bool, precision: Precision, kernels: Kernels = "cpu"
) -> Pass:
    """Forward and backward pass of a LoRA training step; bf16 runs under autocast, as in the trainer."""
    with unset_fake_temporarily():  # modules with fake tensors cannot be cast
        model = meta_transformer(configs["transformer"], fusion=clip.fusion, dtype=DTYPES[precision]).train()
        add_lora(model, rank=rank, alpha=rank)
        for value in model.parameters():
            if value.requires_grad:
                value.data = value.data.float()
    if checkpointing:
        model.enable_gradient_checkpointing()
    _materialize(model, kernels)
    batch = _batch(configs, clip)
    names = tuple(batch)

    def loss(sigma: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        named = dict(zip(names, values, strict=True))
        return flow_matching_loss(model, named, sigma=sigma, noise=named.pop("noise"), fusion=clip.fusion)[0]

    sigma = torch.full((clip.batch_size,), 0.5)
    return Pass(model, (sigma, *batch.values()), loss, backward=True, autocast=precision == "bf16")


def denoising_pass(
    configs: Configs, clip: ClipShape, *, rank: int, precision: Precision, kernels: Kernels = "cpu"
) -> Pass:
    """One denoising pass of the transformer with an adapter, or without one if rank is 0."""
    dtype = DTYPES[precision]
    with unset_fake_temporarily():
        model = meta_transformer(configs["transformer"], fusion=clip.fusion, dtype=dtype).eval()
        if rank:
            add_lora(model, rank=rank, alpha=rank)
    _materialize(model, kernels)
    batch = _batch(configs, clip)
    noise = get_fusion(clip.fusion).join(batch["noise"][:, 0], batch["noise"][:, 1])
    condition = join_condition(batch["condition"][:, 0], batch["condition"][:, 1], fusion=clip.fusion)
    hidden = torch.cat([noise, condition], dim=1).to(dtype)
    times = torch.full((clip.batch_size,), 500.0)
    inputs = (hidden, times, batch["text"].to(dtype), batch["image"].to(dtype))
    return Pass(model, inputs, lambda *inputs: model(*inputs, return_dict=False)[0])


def vae_pass(
    configs: Configs, clip: ClipShape, direction: Literal["encode", "decode"], *, precision: Precision
) -> Pass:
    """Encoding or decoding of one modality of one clip, without tiling."""
    config, dtype = configs["vae"], DTYPES[precision]
    with unset_fake_temporarily():
        model: Any = meta_component("vae", config, dtype=dtype)
    _materialize(model)
    if direction == "decode":
        latents = torch.rand(1, config.get("z_dim", 16), *clip.latent_shape(config)).to(dtype)
        return Pass(model, (latents,), lambda values: model.decode(values).sample)
    pixels = torch.rand(1, 3, clip.num_frames, clip.height, clip.width).to(dtype)
    return Pass(model, (pixels,), lambda values: model.encode(values).latent_dist.mode())


def encoder_pass(configs: Configs, part: Literal["text_encoder", "image_encoder"], *, precision: Precision) -> Pass:
    """Encoding of one prompt or one image."""
    config, dtype = configs[part], DTYPES[precision]
    with unset_fake_temporarily():
        model: Any = meta_component(part, config, dtype=dtype)
    _materialize(model)
    if part == "text_encoder":
        tokens = torch.zeros(1, TEXT_TOKENS, dtype=torch.long)
        return Pass(model, (tokens,), lambda values: model(values, torch.ones_like(values)).last_hidden_state)
    pixels = torch.rand(1, 3, config["image_size"], config["image_size"]).to(dtype)
    return Pass(model, (pixels,), lambda values: model(values, output_hidden_states=True).hidden_states[-2])


def _materialize(model: nn.Module, kernels: Kernels = "cpu") -> None:
    """Initialize a meta model, with the memory of GPU kernels if requested."""
    materialize(model)
    if kernels == "gpu":
        use_gpu_kernels(model)


def _batch(configs: Configs, clip: ClipShape) -> dict[str, torch.Tensor]:
    """A training batch in float32, as in latent shards, and noise [B, 2, C, F, h, w]."""
    transformer, vision = configs["transformer"], configs["image_encoder"]
    shape = (clip.batch_size, 2, transformer["out_channels"], *clip.latent_shape(configs["vae"]))
    tokens = (vision["image_size"] // vision["patch_size"]) ** 2 + 1
    return {
        "latents": torch.rand(shape),
        "condition": torch.rand(shape),
        "noise": torch.rand(shape),
        "text": torch.rand(clip.batch_size, TEXT_TOKENS, transformer["text_dim"]),
        "image": torch.rand(clip.batch_size, tokens, transformer["image_dim"]),
    }
