"""The 6D transformer: diffusers' Wan transformer with shared positions and domain embeddings.

Everything that makes RGB and XYZ one sequence happens before the first block: `SharedRotaryEmbedding` gives both
modalities the positions of one of them, `DomainPatchEmbedding` adds a learned vector for each. The blocks are
diffusers' own, so LoRA, caching, compilation, context parallelism and export work as for any Wan model.
"""

from __future__ import annotations

import torch
from diffusers import WanTransformer3DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from torch import nn

from fourdnex.model.fusion import Fusion, get_fusion

DOMAIN_KEY = "patch_embedding.domain_embeddings"


class SharedRotaryEmbedding(WanRotaryPosEmbed):
    """Rotary tables in which an RGB token and its XYZ partner have the same position."""

    def __init__(self, attention_head_dim: int, patch_size: tuple[int, int, int], max_seq_len: int, fusion: Fusion):
        super().__init__(attention_head_dim, patch_size, max_seq_len)
        self.fusion = fusion

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        part = self.fusion.part(hidden_states)
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
    `[B, in_channels, F, H, 2W]` to `[B, out_channels, F, H, 2W]`. Source: 4DNeX, arXiv 2508.13154.
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
    ) -> None:
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
        self.rope = SharedRotaryEmbedding(attention_head_dim, patch, rope_max_seq_len, strategy)
        self.patch_embedding = DomainPatchEmbedding(
            in_channels, num_attention_heads * attention_head_dim, patch, strategy
        )

    @classmethod
    def from_base(cls, base: WanTransformer3DModel, *, fusion: str = "width") -> SixDTransformer:
        """The 6D model that starts from an image-to-video base: its very weights, and zero domain embeddings.

        The weights are shared with `base`, not copied: 14 billion parameters need not lie in memory twice.
        """
        config = {key: value for key, value in base.config.items() if key in _WAN_CONFIG_KEYS}
        with torch.device("meta"):
            model = cls(fusion=fusion, **config)
        weight = base.patch_embedding.weight
        state = base.state_dict() | {
            DOMAIN_KEY: torch.zeros(2, weight.shape[0], dtype=weight.dtype, device=weight.device)
        }
        model.load_state_dict(state, assign=True)
        model.rope = SharedRotaryEmbedding(  # tables, no weights: not in the state
            model.config.attention_head_dim, tuple(model.config.patch_size), model.config.rope_max_seq_len, model.fusion
        ).to(weight.device)
        return model

    @property
    def domain_embeddings(self) -> nn.Parameter:
        """`[2, inner_dim]`: the vector of RGB, the vector of XYZ."""
        return self.patch_embedding.domain_embeddings


_WAN_CONFIG_KEYS = (
    "patch_size",
    "num_attention_heads",
    "attention_head_dim",
    "in_channels",
    "out_channels",
    "text_dim",
    "freq_dim",
    "ffn_dim",
    "num_layers",
    "cross_attn_norm",
    "qk_norm",
    "eps",
    "image_dim",
    "added_kv_proj_dim",
    "rope_max_seq_len",
    "pos_embed_seq_len",
)
