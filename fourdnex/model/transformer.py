"""The 6D transformer: diffusers' Wan transformer with shared positions and domain embeddings.

RGB and XYZ are combined before the first block: `SharedRotaryEmbedding` gives both modalities the same positions, and
`DomainPatchEmbedding` adds a learned vector per modality. The blocks are those of diffusers, so LoRA, caching,
compilation, context parallelism and export work as for any Wan model.
"""

from __future__ import annotations

import inspect
import math
from typing import Any, get_args

import torch
from diffusers import WanTransformer3DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from torch import nn

from fourdnex.model.attention_processors import CrossModalAttention
from fourdnex.model.fusion import DOMAIN_KEY, Fusion, get_fusion
from fourdnex.model.option_types import Positions


class SharedRotaryEmbedding(WanRotaryPosEmbed):  # type: ignore[misc]
    """Rotary embedding that gives a pixel's RGB and XYZ tokens the same position."""

    def __init__(self, attention_head_dim: int, patch_size: tuple[int, int, int], max_seq_len: int, fusion: Fusion):
        super().__init__(attention_head_dim, patch_size, max_seq_len)
        self.fusion = fusion

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine tables for joined latents."""
        part = self.fusion.split(hidden_states)[0]  # one modality defines the positions
        cos, sin = super().forward(part)
        frames, height, width = (size // patch for size, patch in zip(part.shape[2:], self.patch_size, strict=True))
        grid = (frames, height, width)
        return self.fusion.share_positions(cos, grid), self.fusion.share_positions(sin, grid)


class DomainPatchEmbedding(nn.Conv3d):
    """Patch embedding that adds a learned vector to RGB tokens and another one to XYZ tokens."""

    def __init__(self, in_channels: int, inner_dim: int, patch_size: tuple[int, int, int], fusion: Fusion):
        super().__init__(in_channels, inner_dim, kernel_size=patch_size, stride=patch_size)
        self.fusion = fusion
        self.domain_embeddings = nn.Parameter(torch.zeros(2, inner_dim))  # RGB, XYZ

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Embed joined latents `[B, in_channels, ...]`."""
        rgb, xyz = self.fusion.split(super().forward(hidden_states))
        rgb_vector, xyz_vector = self.domain_embeddings.to(rgb.dtype)[..., None, None, None]
        return self.fusion.join(rgb + rgb_vector, xyz + xyz_vector)


class SixDTransformer(WanTransformer3DModel):  # type: ignore[misc]
    """A `WanTransformer3DModel` over joined RGB and XYZ latents.

    `forward` has the signature of the base class, on joined tensors: for width fusion `[B, in_channels, F, H, 2W]` to
    `[B, out_channels, F, H, 2W]`, for other fusions see `fourdnex.model.fusion`. The input channels are the joined
    noisy latents, then mask and condition as returned by `condition_latents`. There is one timestep and one embedding
    per pair; `in_channels` and `out_channels` are those of one modality.

    Args:
        fusion: how RGB and XYZ are joined.
        positions: "shared" gives a pixel's RGB and XYZ tokens the same rotary position, "own" gives each its position
            in the joined tensor.

    All other arguments are those of `WanTransformer3DModel`. Source: 4DNeX, arXiv 2508.13154.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        fusion: str = "width",
        patch_size: tuple[int, ...] = (1, 2, 2),
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        in_channels: int = 36,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 13824,
        num_layers: int = 40,
        cross_attn_norm: bool = True,
        qk_norm: str | None = "rms_norm_across_heads",
        eps: float = 1e-6,
        image_dim: int | None = None,
        added_kv_proj_dim: int | None = None,
        rope_max_seq_len: int = 1024,
        pos_embed_seq_len: int | None = None,
        positions: str = "shared",
    ) -> None:
        if positions not in get_args(Positions):
            raise ValueError(f"positions: expected one of {get_args(Positions)}, got {positions!r}")
        strategy = get_fusion(fusion)
        super().__init__(
            patch_size=patch_size,
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            in_channels=in_channels,
            out_channels=out_channels,
            text_dim=text_dim,
            freq_dim=freq_dim,
            ffn_dim=ffn_dim,
            num_layers=num_layers,
            cross_attn_norm=cross_attn_norm,
            qk_norm=qk_norm,
            eps=eps,
            image_dim=image_dim,
            added_kv_proj_dim=added_kv_proj_dim,
            rope_max_seq_len=rope_max_seq_len,
            pos_embed_seq_len=pos_embed_seq_len,
        )
        patch = (patch_size[0], patch_size[1], patch_size[2])
        self.fusion = strategy
        self.rope = self._rotary_embedding()
        inner_dim = num_attention_heads * attention_head_dim
        self.patch_embedding: nn.Conv3d = DomainPatchEmbedding(in_channels, inner_dim, patch, strategy)
        if (factor := strategy.modalities_per_token) > 1:
            self.patch_embedding = nn.Conv3d(factor * in_channels, inner_dim, kernel_size=patch, stride=patch)
            self.proj_out = nn.Linear(inner_dim, factor * out_channels * math.prod(patch))
        if strategy.crosses_sequences:
            for block in self.blocks:
                block.attn1.set_processor(CrossModalAttention())

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        encoder_hidden_states_image: torch.Tensor | None = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> Transformer2DModelOutput | tuple[torch.Tensor]:
        """Predict the velocity of joined latents (see the class)."""
        share = self.fusion.share_condition
        return super().forward(
            hidden_states,
            share(timestep),
            share(encoder_hidden_states),
            None if encoder_hidden_states_image is None else share(encoder_hidden_states_image),
            return_dict=return_dict,
            attention_kwargs=attention_kwargs,
        )

    @classmethod
    def from_base(
        cls, base: WanTransformer3DModel, *, fusion: str = "width", positions: str = "shared"
    ) -> SixDTransformer:
        """Create the 6D model from an image-to-video base: the base's weights, and those added by the fusion.

        Weights are shared with `base`, not copied, which saves memory for 14 billion parameters.
        """
        config = {key: base.config[key] for key in inspect.signature(WanTransformer3DModel).parameters}
        with torch.device("meta"):
            model = cls(fusion=fusion, positions=positions, **config)
        model.load_state_dict(
            model.fusion.adapted_weights(base.state_dict(), out_channels=model.config.out_channels), assign=True
        )
        model.rope = model._rotary_embedding().to(
            base.patch_embedding.weight.device
        )  # tables are not in the state dict
        return model

    def _rotary_embedding(self) -> WanRotaryPosEmbed:
        """Rotary embedding for `positions`."""
        size = (self.config.attention_head_dim, tuple(self.config.patch_size), self.config.rope_max_seq_len)
        return WanRotaryPosEmbed(*size) if self.config.positions == "own" else SharedRotaryEmbedding(*size, self.fusion)

    @property
    def domain_embeddings(self) -> nn.Parameter:
        """Vectors of RGB and XYZ, `[2, inner_dim]`. Channel fusion has none."""
        return self.get_parameter(DOMAIN_KEY)
