"""Fusions: how RGB and XYZ are joined into one tensor for the transformer, and split again.

The five fusions of the paper, with a variant of batch fusion.

| fusion | joined shape | token distance, grid 13x30x45 | base weights |
| --- | --- | --- | --- |
| width | `[B, C, F, H, 2W]` | 45 | unchanged |
| height | `[B, C, F, 2H, W]` | 1,350 | unchanged |
| frame | `[B, C, 2F, H, W]` | 17,550 | unchanged |
| batch | `[2B, C, F, H, W]`, XYZ after RGB in each pair | infinite: two sequences | unchanged |
| batch-cross-modal | as batch; self-attention over both sequences of a pair | 17,550 | unchanged |
| channel | `[B, 2C, F, H, W]` | 0: one token for both | patch embedding and output projection doubled |

The token distance is the number of tokens from an RGB token to the XYZ token of the same pixel. Both share one rotary
position (unless the transformer has `positions="own"`), and attention is invariant to token order. Width, height, frame
and batch-cross-modal fusion therefore compute the same function up to rounding.
Source: 4DNeX, arXiv 2508.13154.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch

DOMAIN_KEY = "patch_embedding.domain_embeddings"


class Fusion(ABC):
    """Interface of fusions. Tensors are `[B, C, F, H, W]`; RGB comes first, XYZ second.

    Grids (F, H, W) are token grids of one modality.
    """

    name: str
    modalities_per_token = 1
    """2 if a token represents both modalities of a pixel: channels double, and there are no domain embeddings."""
    sequences_per_pair = 1
    """2 if RGB and XYZ are two items of the batch."""
    crosses_sequences = False
    """Whether self-attention spans both sequences of a pair."""
    trained: tuple[str, ...] = (DOMAIN_KEY,)
    """Parameters of the transformer that are trained and saved in full, in addition to the LoRA matrices."""

    @abstractmethod
    def join(self, rgb: torch.Tensor, xyz: torch.Tensor) -> torch.Tensor:
        """Join two `[B, C, F, H, W]` tensors to the transformer's input."""

    @abstractmethod
    def split(self, joined: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inverse of `join`: RGB and XYZ, `[B, C, F, H, W]` each.

        Raises:
            ValueError: if the joined size is odd.
        """

    @abstractmethod
    def token_distance(self, grid: tuple[int, int, int]) -> float:
        """Number of tokens from an RGB token to the XYZ token of the same pixel; infinite across sequences."""

    def share_positions(self, frequencies: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
        """Expand rotary tables `[1, F*H*W, 1, D]` of one modality to the joined sequence, with shared positions."""
        return frequencies

    def share_condition(self, condition: torch.Tensor) -> torch.Tensor:
        """Expand timesteps, text or image embeddings `[B, ...]` from one per pair to one per sequence."""
        return condition.repeat_interleave(self.sequences_per_pair, dim=0) if self.sequences_per_pair > 1 else condition

    def adapted_weights(self, base: Mapping[str, torch.Tensor], *, out_channels: int) -> dict[str, torch.Tensor]:
        """Initial weights of the 6D model from the base's weights; frozen weights are the same tensors."""
        weight = base["patch_embedding.weight"]
        return {**base, DOMAIN_KEY: weight.new_zeros(2, weight.shape[0])}


class _AxisFusion(Fusion):
    """Concatenates XYZ to RGB along an axis of the token grid: one sequence of twice the length."""

    axis: int
    """0: frames, 1: height, 2: width."""

    def join(self, rgb: torch.Tensor, xyz: torch.Tensor) -> torch.Tensor:
        """Join two `[B, C, F, H, W]` tensors."""
        return torch.cat([rgb, xyz], dim=self.axis + 2)

    def split(self, joined: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inverse of `join`."""
        return _halves(joined, self.axis + 2, ("frames", "height", "width")[self.axis])

    def token_distance(self, grid: tuple[int, int, int]) -> float:
        """Number of tokens between a pixel's RGB and XYZ tokens."""
        return math.prod(grid[self.axis :])

    def share_positions(self, frequencies: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
        """Repeat the tables for XYZ."""
        table = frequencies.view(1, *grid, frequencies.shape[-1])
        return torch.cat([table, table], dim=self.axis + 1).flatten(1, 3).unsqueeze(2)


class WidthFusion(_AxisFusion):
    """XYZ to the right of RGB, as in the paper and the reference weights."""

    name = "width"
    axis = 2


class HeightFusion(_AxisFusion):
    """XYZ below RGB."""

    name = "height"
    axis = 1


class FrameFusion(_AxisFusion):
    """All XYZ frames after all RGB frames."""

    name = "frame"
    axis = 0


class BatchFusion(Fusion):
    """RGB and XYZ as two sequences without attention between them, and with the same text, image and timestep.

    The sequences of a pair are adjacent in the batch, so batches can be concatenated and split.
    """

    name = "batch"
    sequences_per_pair = 2

    def join(self, rgb: torch.Tensor, xyz: torch.Tensor) -> torch.Tensor:
        """Join two `[B, C, F, H, W]` tensors."""
        return torch.stack([rgb, xyz], dim=1).flatten(0, 1)

    def split(self, joined: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inverse of `join`."""
        if joined.shape[0] % 2:
            raise ValueError(f"joined: expected an even batch (RGB and XYZ), got shape {tuple(joined.shape)}")
        return joined[0::2], joined[1::2]

    def token_distance(self, grid: tuple[int, int, int]) -> float:
        """Number of tokens between a pixel's RGB and XYZ tokens."""
        return math.inf


class CrossModalBatchFusion(BatchFusion):
    """Two sequences with self-attention over both sequences of a pair."""

    name = "batch-cross-modal"
    crosses_sequences = True

    def token_distance(self, grid: tuple[int, int, int]) -> float:
        """Number of tokens between a pixel's RGB and XYZ tokens."""
        return math.prod(grid)


class ChannelFusion(Fusion):
    """One token for both modalities of a pixel: half the sequence length, but new input and output weights.

    The patch embedding and output projection are trained in full and saved with the adapter. The weights of the new
    input and output channels are initialized to zero, so that RGB initially equals the base's output for any XYZ. There
    are no domain embeddings: a vector added to every token is equivalent to the bias of the patch embedding.
    """

    name = "channel"
    modalities_per_token = 2
    trained = ("patch_embedding.weight", "patch_embedding.bias", "proj_out.weight", "proj_out.bias")

    def join(self, rgb: torch.Tensor, xyz: torch.Tensor) -> torch.Tensor:
        """Join two `[B, C, F, H, W]` tensors."""
        return torch.cat([rgb, xyz], dim=1)

    def split(self, joined: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inverse of `join`."""
        return _halves(joined, 1, "number of channels")

    def token_distance(self, grid: tuple[int, int, int]) -> float:
        """Number of tokens between a pixel's RGB and XYZ tokens."""
        return 0

    def adapted_weights(self, base: Mapping[str, torch.Tensor], *, out_channels: int) -> dict[str, torch.Tensor]:
        """The base's weights, with zeros for the new channels."""
        inputs = base["patch_embedding.weight"]  # [D, noise + mask + condition, 1, 2, 2], joined separately
        groups = inputs.split([out_channels, inputs.shape[1] - 2 * out_channels, out_channels], dim=1)
        outputs, bias = (
            base["proj_out.weight"],
            base["proj_out.bias"],
        )  # [P*C, D], [P*C]: C channels per pixel
        outputs, bias = outputs.unflatten(0, (-1, out_channels)), bias.unflatten(0, (-1, out_channels))
        return {
            **base,
            "patch_embedding.weight": torch.cat([half for g in groups for half in (g, torch.zeros_like(g))], dim=1),
            "patch_embedding.bias": base["patch_embedding.bias"].clone(),
            "proj_out.weight": torch.cat([outputs, torch.zeros_like(outputs)], dim=1).flatten(0, 1),
            "proj_out.bias": torch.cat([bias, torch.zeros_like(bias)], dim=1).flatten(),
        }


_FUSIONS: dict[str, Fusion] = {
    fusion.name: fusion
    for fusion in (
        WidthFusion(),
        HeightFusion(),
        FrameFusion(),
        BatchFusion(),
        CrossModalBatchFusion(),
        ChannelFusion(),
    )
}


def get_fusion(name: str) -> Fusion:
    """Return the fusion with the name `name`.

    Raises:
        ValueError: if there is none; the message lists all names.
    """
    if name not in _FUSIONS:
        raise ValueError(f"fusion: expected one of {sorted(_FUSIONS)}, got {name!r}")
    return _FUSIONS[name]


def _halves(joined: torch.Tensor, dim: int, size_name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Split a tensor into two halves; ValueError if its size is odd."""
    if joined.shape[dim] % 2:
        raise ValueError(f"joined: expected an even {size_name} (RGB and XYZ), got shape {tuple(joined.shape)}")
    rgb, xyz = joined.chunk(2, dim=dim)
    return rgb, xyz
