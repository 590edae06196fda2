"""The transformer's products in bfloat16 on a CPU; all between them, and the weights that are trained, in float32.

Norms, rotary positions, attention, the time embedding and the sum that runs through the blocks are a small part of the
time there and of most of the error. Frozen weights are converted once.
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
    """Let the linear layers of the blocks, and those that text and image pass, multiply in bfloat16, in place.

    `transformer` is in float32, and so are its inputs and outputs.
    """
    embedder = transformer.condition_embedder
    for part in (transformer.blocks, embedder.text_embedder, embedder.image_embedder):
        for module in part.modules() if part is not None else ():
            if type(module) is nn.Linear:
                module.__class__ = _BfloatLinear
            elif type(module) is GELU and module.approximate == "tanh":
                module.__class__ = _BfloatGelu


def merge_lora(module: LoraLinear) -> None:
    """Let a LoRA layer compute one product with W + s·B·A, in place.

    A layer with several adapters, or with its adapters switched off, goes peft's way.
    """
    module.__class__ = _MergedLoraLinear


def merge_all_lora(transformer: nn.Module) -> None:
    """`merge_lora` for all layers: where weights do not change, the merged one is made once."""
    for module in transformer.modules():
        if isinstance(module, LoraLinear):
            merge_lora(module)


class _BfloatLinear(nn.Linear):
    """Weights of this class stay in float32; it multiplies copies of them."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        weight, bias = self._converted()
        return bfloat_linear(input, weight, bias)

    def _converted(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self.weight.requires_grad or self.weight.is_inference():
            return self.weight.bfloat16(), None if self.bias is None else self.bias.bfloat16()
        key = (id(self.weight), self.weight._version)
        if getattr(self, "_copies_of", None) != key:
            self._copies_of = key
            with torch.inference_mode(False):  # copies made in inference could not be trained with
                weight, bias = self.weight.detach(), None if self.bias is None else self.bias.detach()
                self._copies = (weight.bfloat16(), None if bias is None else bias.bfloat16())
        return self._copies


def bfloat_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """A linear layer whose product is of bfloat16 numbers; the answer has the type of `x`."""
    return F.linear(x.bfloat16(), weight.bfloat16(), None if bias is None else bias.bfloat16()).type_as(x)


class _BfloatGelu(GELU):
    """A layer and its GELU, by erf: a quarter of the time of tanh, at most 5e-4 from it; bfloat16 rounds by more."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return F.gelu(self.proj(hidden_states.bfloat16()))


class _MergedLoraLinear(LoraLinear):
    """A layer with one adapter and no dropout."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if len(self.active_adapters) != 1 or self.disable_adapters:
            return super().forward(x, *args, **kwargs)
        layer = self.get_base_layer()
        if isinstance(layer, _BfloatLinear):
            return bfloat_linear(x, self._weight(layer), layer.bias)
        return F.linear(x, self._merged(layer), layer.bias)

    def _merged(self, layer: nn.Linear) -> torch.Tensor:
        name = self.active_adapters[0]
        update = self.lora_B[name].weight @ self.lora_A[name].weight
        return torch.add(layer.weight, update, alpha=self.scaling[name])

    def _weight(self, layer: nn.Linear) -> torch.Tensor:
        """The merged weight; kept in bfloat16 where nothing is trained."""
        if self.training or torch.is_grad_enabled():
            return self._merged(layer)
        name = self.active_adapters[0]
        parts = (layer.weight, self.lora_A[name].weight, self.lora_B[name].weight)
        if any(part.is_inference() for part in parts):
            return self._merged(layer)
        key = (self.scaling[name], *((id(part), part._version) for part in parts))
        if getattr(self, "_copy_of", None) != key:
            self._copy_of, self._copy = key, self._merged(layer).bfloat16()
        return self._copy
