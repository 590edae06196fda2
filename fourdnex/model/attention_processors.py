"""Attention on a CPU: fewer passes over memory than diffusers' and PyTorch's own ways, and the products in bfloat16.

- Rotary positions: a product of complex numbers is one pass over memory; diffusers writes every second number, twice.
- RMS norm: PyTorch's gradient on the CPU is a chain of small operations; written out it is five passes.
- Self-attention in bfloat16: PyTorch's fused kernel gains nothing by it on a CPU, matrix products and a softmax do.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor
from torch import nn
from torch.nn import functional as F

_LONGEST = 1024
"""Tokens up to which all weights of an attention are kept in memory."""


def use_quick_attention(transformer: WanTransformer3DModel, *, bfloat16: bool) -> None:
    """Let the blocks of `transformer` attend and normalize by these ways, in place; its state keeps its names.

    Weights of the norms are not trained. Processors that a fusion has put there stay.
    """
    for block in transformer.blocks:
        if type(block.attn1.processor) is WanAttnProcessor:
            block.attn1.set_processor(BfloatRotaryAttention() if bfloat16 else ComplexRotaryAttention())
        for attention in (block.attn1, block.attn2):
            for name in ("norm_q", "norm_k", "norm_added_k"):
                norm = getattr(attention, name, None)
                if isinstance(norm, nn.RMSNorm):
                    setattr(attention, name, FrozenRMSNorm(norm))


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
        result = self._attend(query, key, value, attention_mask)
        return attn.to_out[1](attn.to_out[0](result.transpose(1, 2).flatten(2).type_as(hidden_states)))

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


class BfloatRotaryAttention(ComplexRotaryAttention):
    """The same; queries, keys, weights and values are multiplied in bfloat16."""

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        if mask is not None or query.shape[2] > _LONGEST:
            return super()._attend(query, key, value, mask)
        scaled = (query * query.shape[-1] ** -0.5).bfloat16()
        weights = torch.matmul(scaled, key.bfloat16().transpose(-1, -2)).softmax(dim=-1)
        return torch.matmul(weights, value.bfloat16()).type_as(query)


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
