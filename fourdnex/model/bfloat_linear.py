"""Matrix products of the transformer in bfloat16 on a CPU; everything else and trained weights stay in float32.

Norms, rotary embedding, attention, time embedding and the residual stream take little of the time but would cause most
of the error. Frozen weights are converted once.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.activations import GELU
from peft.tuners.lora import Linear as LoraLinear
from torch import nn
from torch.nn import functional as F


def use_bfloat16(transformer: WanTransformer3DModel) -> None:
    """Compute the linear layers of the blocks, and of the text and image embedders, in bfloat16, in place.

    `transformer`, its inputs and its outputs are in float32.
    """
    embedder = transformer.condition_embedder
    for part in (transformer.blocks, embedder.text_embedder, embedder.image_embedder):
        for module in part.modules() if part is not None else ():
            if type(module) is nn.Linear:
                module.__class__ = _BfloatLinear
            elif type(module) is GELU and module.approximate == "tanh":
                module.__class__ = _BfloatGelu


def merge_lora(module: LoraLinear) -> None:
    """Compute a LoRA layer as one product with W + s·B·A, in place.

    Layers with several adapters, or with disabled adapters, use peft's computation.
    """
    module.__class__ = _MergedLoraLinear


def merge_all_lora(transformer: nn.Module) -> None:
    """Apply `merge_lora` to all layers; constant weights are merged once."""
    for module in transformer.modules():
        if isinstance(module, LoraLinear):
            merge_lora(module)


class _BfloatLinear(nn.Linear):
    """A linear layer with float32 weights that multiplies bfloat16 copies of them."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`input` `[..., in_features]` to `[..., out_features]`."""
        weight, bias = self._bfloat_weights()
        return bfloat_linear(input, weight, bias)

    def _bfloat_weights(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight and bias in bfloat16; cached if they are frozen."""
        if self.weight.requires_grad or self.weight.is_inference():
            return self.weight.bfloat16(), None if self.bias is None else self.bias.bfloat16()
        key = (id(self.weight), self.weight._version)
        if getattr(self, "_copies_key", None) != key:
            self._copies_key = key
            with torch.inference_mode(False):  # inference tensors could not be used in training
                weight, bias = self.weight.detach(), None if self.bias is None else self.bias.detach()
                self._copies = (weight.bfloat16(), None if bias is None else bias.bfloat16())
        return self._copies


def bfloat_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """A linear layer computed in bfloat16; the result has the type of `x`."""
    return F.linear(x.bfloat16(), weight.bfloat16(), None if bias is None else bias.bfloat16()).type_as(x)


class _BfloatGelu(GELU):  # type: ignore[misc]
    """A linear layer and its GELU with erf, which takes a quarter of the time of tanh and differs by at most 5e-4."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Project and apply GELU in bfloat16."""
        return F.gelu(self.proj(hidden_states.bfloat16()))


class _MergedLoraLinear(LoraLinear):  # type: ignore[misc]
    """A LoRA layer with one adapter and without dropout."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """`x` `[..., in_features]` to `[..., out_features]`."""
        if len(self.active_adapters) != 1 or self.disable_adapters:
            return super().forward(x, *args, **kwargs)
        layer = self.get_base_layer()
        if isinstance(layer, _BfloatLinear):
            return bfloat_linear(x, self._bfloat_weight(layer), layer.bias)
        return F.linear(x, self._merged_weight(layer), layer.bias)

    def _merged_weight(self, layer: nn.Linear) -> torch.Tensor:
        """W + s·B·A in float32."""
        name = self.active_adapters[0]
        update = self.lora_B[name].weight @ self.lora_A[name].weight
        return torch.add(layer.weight, update, alpha=self.scaling[name])

    def _bfloat_weight(self, layer: nn.Linear) -> torch.Tensor:
        """The merged weight; a cached bfloat16 copy if nothing is trained."""
        if self.training or torch.is_grad_enabled():
            return self._merged_weight(layer)
        name = self.active_adapters[0]
        parts = (layer.weight, self.lora_A[name].weight, self.lora_B[name].weight)
        if any(part.is_inference() for part in parts):
            return self._merged_weight(layer)
        key = (self.scaling[name], *((id(part), part._version) for part in parts))
        if getattr(self, "_copy_key", None) != key:
            self._copy_key, self._copy = key, self._merged_weight(layer).bfloat16()
        return self._copy
