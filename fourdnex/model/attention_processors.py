"""Attention processors for Wan transformers, and faster CPU versions of attention and RMS norm.

- `CrossModalAttention`: self-attention over both sequences of an RGB and XYZ pair.
- `CompactCrossAttention`: cross-attention with the prompts' shared padding as one weighted token.
- `ComplexRotaryAttention`: rotary embedding as a product of complex numbers, one pass over memory.
- `BfloatRotaryAttention`: also computes the matrix products in bfloat16. On a CPU this is faster than PyTorch's fused
  kernel, which gains nothing from bfloat16.
- `FrozenRMSNorm`: an RMS norm with a hand-written gradient of five passes, instead of PyTorch's chain of small CPU
  operations.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor
from torch import nn
from torch.nn import functional as F

_MAX_TOKENS = 1024
"""Longest sequence for which the full attention matrix is materialized."""


def use_fast_cpu_attention(transformer: WanTransformer3DModel, *, bfloat16: bool) -> None:
    """Replace self-attention and RMS norms of `transformer` by the faster CPU versions, in place.

    The state dict keeps its names. The norms' weights receive no gradient. Processors set by a fusion are not replaced.
    """
    for block in transformer.blocks:
        if type(block.attn1.processor) is WanAttnProcessor:
            block.attn1.set_processor(BfloatRotaryAttention() if bfloat16 else ComplexRotaryAttention())
        for attention in (block.attn1, block.attn2):
            for name in ("norm_q", "norm_k", "norm_added_k"):
                norm = getattr(attention, name, None)
                if isinstance(norm, nn.RMSNorm):
                    setattr(attention, name, FrozenRMSNorm(norm))


class CrossModalAttention(WanAttnProcessor):  # type: ignore[misc]
    """Self-attention over both sequences of a pair, which are adjacent in the batch."""

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Attend over `hidden_states` `[2B, N, D]` as `[B, 2N, D]`; returns `[2B, N, D]`."""
        pairs = hidden_states.unflatten(0, (-1, 2)).flatten(1, 2)  # [B, 2N, D]
        positions = None if rotary_emb is None else tuple(torch.cat([table, table], dim=1) for table in rotary_emb)
        result = super().__call__(attn, pairs, encoder_hidden_states, attention_mask, positions)
        return result.unflatten(1, (2, -1)).flatten(0, 1)


class PromptLength:
    """Number of text tokens up to the last one that is not padding, over the prompts of the current forward pass.

    One object is shared by all cross-attention processors of a transformer. `update` is a forward pre-hook.
    """

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.num_tokens = max_tokens

    def update(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Measure the text embeddings that the transformer is called with; padding embeddings are zero."""
        text = kwargs["encoder_hidden_states"] if "encoder_hidden_states" in kwargs else args[2]
        used = (text.detach() != 0).any(dim=-1).any(dim=0).nonzero()
        self.num_tokens = int(used.max()) + 1 if len(used) else 0


class CompactCrossAttention(WanAttnProcessor):  # type: ignore[misc]
    """Wan's cross-attention to image and text tokens, with the prompts' shared padding as one weighted token."""

    def __init__(self, length: PromptLength):
        super().__init__()
        self.length = length

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """As `WanAttnProcessor`: `hidden_states` `[B, N, D]` to `[B, N, D]`."""
        max_tokens, num_tokens = self.length.max_tokens, self.length.num_tokens
        padding = max_tokens - num_tokens
        if encoder_hidden_states is None or attn.add_k_proj is None or padding < 2:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)
        start = encoder_hidden_states.shape[1] - max_tokens
        image = encoder_hidden_states[:, :start]
        text = encoder_hidden_states[:, start : start + num_tokens + 1]
        bias = text.new_zeros(text.shape[1])
        bias[-1] = math.log(padding)

        def heads(x: torch.Tensor) -> torch.Tensor:
            return x.unflatten(2, (attn.heads, -1)).transpose(1, 2)

        query = heads(attn.norm_q(attn.to_q(hidden_states)))
        key, value = heads(attn.norm_k(attn.to_k(text))), heads(attn.to_v(text))
        mask = bias.expand(len(text), 1, query.shape[2], len(bias))
        result = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        image_key, image_value = heads(attn.norm_added_k(attn.add_k_proj(image))), heads(attn.add_v_proj(image))
        result = result + F.scaled_dot_product_attention(query, image_key, image_value)
        result = result.transpose(1, 2).flatten(2).type_as(hidden_states)
        return attn.to_out[1](attn.to_out[0](result))


class ComplexRotaryAttention(WanAttnProcessor):  # type: ignore[misc]
    """Wan's self-attention with the rotary embedding as a product of complex numbers."""

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """As `WanAttnProcessor`, for self-attention only: `hidden_states` `[B, N, D]` to `[B, N, D]`."""
        assert encoder_hidden_states is None and rotary_emb is not None
        cos, sin = rotary_emb  # [1, N, 1, D], each value twice
        rotation = torch.complex(cos[..., 0::2], sin[..., 1::2])

        def rotate(x: torch.Tensor) -> torch.Tensor:
            pairs = torch.view_as_complex(x.float().unflatten(2, (attn.heads, -1, 2)))
            return torch.view_as_real(pairs * rotation).flatten(3).type_as(x).transpose(1, 2)

        query, key = rotate(attn.norm_q(attn.to_q(hidden_states))), rotate(attn.norm_k(attn.to_k(hidden_states)))
        value = attn.to_v(hidden_states).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        result = self._attend(query, key, value, attention_mask)
        return attn.to_out[1](attn.to_out[0](result.transpose(1, 2).flatten(2).type_as(hidden_states)))

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Scaled dot-product attention, `[B, heads, N, D]`."""
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


class BfloatRotaryAttention(ComplexRotaryAttention):
    """`ComplexRotaryAttention` with both matrix products in bfloat16, for sequences of up to 1,024 tokens."""

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Scaled dot-product attention, `[B, heads, N, D]`."""
        if mask is not None or query.shape[2] > _MAX_TOKENS:
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
        """Normalize the last dimension of `x`, in float32; the result has the type of `x`."""
        return _FrozenRMSNorm.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]


class _FrozenRMSNorm(torch.autograd.Function):
    """Forward and backward pass of `FrozenRMSNorm`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """`x` over its root mean square, times `weight`."""
        square = torch.linalg.vector_norm(x.float(), dim=-1, keepdim=True).square_()
        inverse = square.div_(x.shape[-1]).add_(eps).rsqrt_()
        normed = x * inverse
        ctx.save_for_backward(normed, inverse, weight)
        return (normed * weight).type_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Gradient with respect to `x` only."""
        normed, inverse, weight = ctx.saved_tensors
        scaled = gradients[0].float() * weight.float()
        along = torch.linalg.vecdot(scaled, normed).unsqueeze(-1).div_(-normed.shape[-1])
        return scaled.addcmul(normed, along).mul_(inverse).type_as(gradients[0]), None, None
