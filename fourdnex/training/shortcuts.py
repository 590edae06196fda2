"""A quicker training step on the CPU, at the same numbers up to rounding.

A small model spends its time on the CPU in many operations of little work each. Three of them have a shorter way:

- LoRA: where the matrices are not much thinner than the layer, one product with W + s·B·A costs less than three thin
  ones and their gradients (`merge_narrow_lora`).
- Rotary positions: a product of complex numbers is one pass over memory; diffusers writes every second number, twice.
- RMS norm: PyTorch's gradient on the CPU is a chain of small operations; written out it is five passes.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor
from peft.tuners.lora import Linear as LoraLinear
from torch import nn
from torch.nn import functional as F


def take_shortcuts(transformer: WanTransformer3DModel) -> None:
    """Let `transformer`, with LoRA matrices on it, train by the shorter ways, in place; its state keeps its names."""
    merge_narrow_lora(transformer)
    for block in transformer.blocks:
        if type(block.attn1.processor) is WanAttnProcessor:
            block.attn1.set_processor(ComplexRotaryAttention())
        for attention in (block.attn1, block.attn2):
            for name in ("norm_q", "norm_k", "norm_added_k"):
                norm = getattr(attention, name, None)
                if isinstance(norm, nn.RMSNorm):
                    setattr(attention, name, FrozenRMSNorm(norm))


def merge_narrow_lora(transformer: nn.Module) -> None:
    """Compute LoRA layers as one product with W + s·B·A where that takes fewer operations, in place.

    For T tokens thin products take 6·T·r·(i + o) operations forward and backward, the merged weight and its gradient
    2·T·i·o (and 6·r·i·o, which many tokens outweigh): merged wins below 3·r·(i + o).
    """
    for module in transformer.modules():
        if isinstance(module, LoraLinear):
            rank = module.r[module.active_adapters[0]]
            if module.in_features * module.out_features < 3 * rank * (module.in_features + module.out_features):
                module.__class__ = _MergedLoraLinear


class _MergedLoraLinear(LoraLinear):
    """A layer with one adapter and no dropout."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        name = self.active_adapters[0]
        layer = self.get_base_layer()
        update = self.lora_B[name].weight @ self.lora_A[name].weight
        return F.linear(x, torch.add(layer.weight, update, alpha=self.scaling[name]), layer.bias)


class ComplexRotaryAttention(WanAttnProcessor):
    """Wan's self-attention, with rotary positions as products of complex numbers."""

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        assert encoder_hidden_states is None and rotary_emb is not None
        cos, sin = rotary_emb  # [1, N, 1, D], each number twice
        turn = torch.complex(cos[..., 0::2], sin[..., 1::2])

        def turned(x: torch.Tensor) -> torch.Tensor:
            pairs = torch.view_as_complex(x.float().unflatten(2, (attn.heads, -1, 2)))
            return torch.view_as_real(pairs * turn).flatten(3).type_as(x).transpose(1, 2)

        query, key = turned(attn.norm_q(attn.to_q(hidden_states))), turned(attn.norm_k(attn.to_k(hidden_states)))
        value = attn.to_v(hidden_states).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        result = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        return attn.to_out[1](attn.to_out[0](result.transpose(1, 2).flatten(2).type_as(hidden_states)))


class FrozenRMSNorm(nn.Module):
    """An RMS norm whose weight is not trained."""

    def __init__(self, norm: nn.RMSNorm):
        super().__init__()
        self.weight, self.eps = norm.weight, norm.eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _FrozenRMSNorm.apply(x, self.weight, self.eps)


class _FrozenRMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        square = torch.linalg.vector_norm(x.float(), dim=-1, keepdim=True).square_()
        inverse = square.div_(x.shape[-1]).add_(eps).rsqrt_()
        normed = x * inverse
        ctx.save_for_backward(normed, inverse, weight)
        return (normed * weight).type_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        normed, inverse, weight = ctx.saved_tensors
        scaled = gradients[0].float() * weight.float()
        along = torch.linalg.vecdot(scaled, normed).unsqueeze(-1).div_(-normed.shape[-1])
        return scaled.addcmul(normed, along).mul_(inverse).type_as(gradients[0]), None, None
