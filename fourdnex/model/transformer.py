"""The 6D transformer: diffusers' Wan transformer with shared positions and domain embeddings.

What makes RGB and XYZ one sequence happens before the first block: `SharedRotaryEmbedding` gives both modalities the
positions of one of them, `DomainPatchEmbedding` adds a learned vector for each. The blocks are diffusers' own, so LoRA,
caching, compilation, context parallelism and export work as for any Wan model.
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


class SharedRotaryEmbedding(WanRotaryPosEmbed):
    """Rotary tables in which an RGB token and its XYZ partner have the same position."""

    def __init__(self, attention_head_dim: int, patch_size: tuple[int, int, int], max_seq_len: int, fusion: Fusion):
        super().__init__(attention_head_dim, patch_size, max_seq_len)
        self.fusion = fusion

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        part = self.fusion.split(hidden_states)[0]  # its size tells the positions
        cos, sin = super().forward(part)
        frames, height, width = (size // patch for size, patch in zip(part.shape[2:], self.patch_size, strict=True))
        grid = (frames, height, width)
        return self.fusion.share_positions(cos, grid), self.fusion.share_positions(sin, grid)


class DomainPatchEmbedding(nn.Conv3d):
    """Patch embedding that adds one learned vector to every RGB token and one to every XYZ token."""

    def __init__(self, in_channels: int, inner_dim: int, patch_size: tuple[int, int, int], fusion: Fusion):
        super().__init__(in_channels, inner_dim, kernel_size=patch_size, stride=patch_size)
        self.fusion = fusion
        self.domain_embeddings = nn.Parameter(torch.zeros(2, inner_dim))  # RGB, XYZ

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        rgb, xyz = self.fusion.split(super().forward(hidden_states))
        rgb_vector, xyz_vector = self.domain_embeddings.to(rgb.dtype)[..., None, None, None]
        return self.fusion.join(rgb + rgb_vector, xyz + xyz_vector)


class SixDTransformer(WanTransformer3DModel):
    """A `WanTransformer3DModel` over joined RGB and XYZ latents.

    `forward` takes and returns what the base class does, on the joined tensor: for width fusion
    `[B, in_channels, F, H, 2W]` to `[B, out_channels, F, H, 2W]`, for the others see `fourdnex.model.fusion`. The input
    is the joined noisy latents, then mask and condition as `condition_latents` joins them. Timesteps and embeddings are
    one a pair, `in_channels` and `out_channels` those of one modality. `positions`: "shared" gives an RGB token and its
    XYZ partner one rotary position, "own" leaves each the one where it lies in the joined tensor.
    Source: 4DNeX, arXiv 2508.13154.
    """

    @register_to_config
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
        """The 6D model that starts from an image-to-video base: its very weights, and those that the fusion adds.

        The weights are shared with `base`, not copied: 14 billion parameters need not lie in memory twice.
        """
        config = {key: base.config[key] for key in inspect.signature(WanTransformer3DModel).parameters}
        with torch.device("meta"):
            model = cls(fusion=fusion, positions=positions, **config)
        model.load_state_dict(
            model.fusion.adapted_weights(base.state_dict(), out_channels=model.config.out_channels), assign=True
        )
        model.rope = model._rotary_embedding().to(base.patch_embedding.weight.device)  # tables: not in the state
        return model

    def _rotary_embedding(self) -> WanRotaryPosEmbed:
        size = (self.config.attention_head_dim, tuple(self.config.patch_size), self.config.rope_max_seq_len)
        return WanRotaryPosEmbed(*size) if self.config.positions == "own" else SharedRotaryEmbedding(*size, self.fusion)

    @property
    def domain_embeddings(self) -> nn.Parameter:
        """`[2, inner_dim]`: the vector of RGB, the vector of XYZ. Channel fusion has none."""
        return self.get_parameter(DOMAIN_KEY)
