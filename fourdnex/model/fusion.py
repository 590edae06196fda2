"""How RGB and XYZ are joined into one tensor for the transformer, and taken apart again: the five ways of the paper.

| fusion | joined `[B, C, F, H, W]` | tokens between partners, grid 13x30x45 | of the base's weights |
| --- | --- | --- | --- |
| width | `[B, C, F, H, 2W]` | 45 | all stay |
| height | `[B, C, F, 2H, W]` | 1,350 | all stay |
| frame | `[B, C, 2F, H, W]` | 17,550 | all stay |
| batch | `[2B, C, F, H, W]`, XYZ after RGB in each pair | infinite: two sequences | all stay |
| batch-cross-modal | as batch; self-attention sees both sequences of a pair | 17,550 | all stay |
| channel | `[B, 2C, F, H, W]` | 0: one token for both | patch embedding and output projection double |

Partners share one rotary position (unless the transformer's `positions` are "own"), and attention does not know the
order of its tokens: width, height, frame and batch-cross-modal are then one function of the two halves, and differ in
rounding alone.
Source: 4DNeX, arXiv 2508.13154.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch

DOMAIN_KEY = "patch_embedding.domain_embeddings"


class Fusion(ABC):
    """One way to join RGB and XYZ. Tensors are `[B, C, F, H, W]`; RGB comes first, XYZ second.

    Grids (F, H, W) are those of ONE modality's tokens.
    """

    name: str
    modalities_per_token = 1
    """2 where a token stands for a pixel's color and point: channels double, and no domain embedding can tell them."""
    sequences_per_pair = 1
    """2 where RGB and XYZ are two items of the batch."""
    crosses_sequences = False
    """Whether self-attention goes over all sequences of a pair."""
    trained: tuple[str, ...] = (DOMAIN_KEY,)
    """Parameters of the transformer that are trained and saved whole, beside the LoRA matrices."""

    @abstractmethod
    def join(self, rgb: torch.Tensor, xyz: torch.Tensor) -> torch.Tensor:
        """Two `[B, C, F, H, W]` tensors to the transformer's one."""

    @abstractmethod
    def split(self, joined: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inverse of `join`: RGB and XYZ, `[B, C, F, H, W]` each.

        Raises:
            ValueError: if the joined size is odd where two must share it.
        """

    @abstractmethod
    def token_distance(self, grid: tuple[int, int, int]) -> float:
        """Steps in the sequence from an RGB token to the XYZ token of the same pixel; infinite in another sequence."""

    def share_positions(self, frequencies: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
        """Rotary tables `[1, F*H*W, 1, D]` of one modality's grid to those of the joined sequence."""
        return frequencies

    def share_condition(self, condition: torch.Tensor) -> torch.Tensor:
        """Timesteps, text or image embeddings `[B, ...]` of the pairs to those of the sequences."""
        return condition.repeat_interleave(self.sequences_per_pair, dim=0) if self.sequences_per_pair > 1 else condition

    def adapted_weights(self, base: Mapping[str, torch.Tensor], *, out_channels: int) -> dict[str, torch.Tensor]:
        """Weights to start training from, out of the base's own: those that stay frozen are the same tensors."""
        weight = base["patch_embedding.weight"]
        return {**base, DOMAIN_KEY: weight.new_zeros(2, weight.shape[0])}


class _AxisFusion(Fusion):
    """XYZ behind RGB along one axis of the token grid: one sequence, twice as long."""

    axis: int
    """0 frames, 1 height, 2 width."""

    def join(self, rgb: torch.Tensor, xyz: torch.Tensor) -> torch.Tensor:
        return torch.cat([rgb, xyz], dim=self.axis + 2)

    def split(self, joined: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return _halves(joined, self.axis + 2, ("frames", "height", "width")[self.axis])

    def token_distance(self, grid: tuple[int, int, int]) -> float:
        return math.prod(grid[self.axis :])

    def share_positions(self, frequencies: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
        table = frequencies.view(1, *grid, frequencies.shape[-1])
        return torch.cat([table, table], dim=self.axis + 1).flatten(1, 3).unsqueeze(2)


class WidthFusion(_AxisFusion):
    """XYZ to the right of RGB: the paper's choice, and that of the public weights."""

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
    """RGB and XYZ as two sequences that never see each other; text, image and time are the same for both.

    Pairs lie next to each other in the batch, so batches of pairs can be put together and cut as any others.
    """

    name = "batch"
    sequences_per_pair = 2

    def join(self, rgb: torch.Tensor, xyz: torch.Tensor) -> torch.Tensor:
        return torch.stack([rgb, xyz], dim=1).flatten(0, 1)

    def split(self, joined: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if joined.shape[0] % 2:
            raise ValueError(f"joined: expected an even batch (RGB and XYZ), got shape {tuple(joined.shape)}")
        return joined[0::2], joined[1::2]

    def token_distance(self, grid: tuple[int, int, int]) -> float:
        return math.inf


class CrossModalBatchFusion(BatchFusion):
    """Two sequences, but self-attention goes over both of a pair at once."""

    name = "batch-cross-modal"
    crosses_sequences = True

    def token_distance(self, grid: tuple[int, int, int]) -> float:
        return math.prod(grid)


class ChannelFusion(Fusion):
    """One token for a pixel's color and point: half the sequence, but new weights where tokens begin and end.

    They are trained whole and saved with the adapter. At the start the new input channels weigh nothing and the new
    output channels give zero, so that the RGB half is exactly the base's, whatever XYZ holds. There are no domain
    embeddings: a vector that is added to every token is a bias, and the patch embedding has one.
    """

    name = "channel"
    modalities_per_token = 2
    trained = ("patch_embedding.weight", "patch_embedding.bias", "proj_out.weight", "proj_out.bias")

    def join(self, rgb: torch.Tensor, xyz: torch.Tensor) -> torch.Tensor:
        return torch.cat([rgb, xyz], dim=1)

    def split(self, joined: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return _halves(joined, 1, "number of channels")

    def token_distance(self, grid: tuple[int, int, int]) -> float:
        return 0

    def adapted_weights(self, base: Mapping[str, torch.Tensor], *, out_channels: int) -> dict[str, torch.Tensor]:
        inputs = base["patch_embedding.weight"]  # [D, noise + mask + condition, 1, 2, 2], each joined on its own
        groups = inputs.split([out_channels, inputs.shape[1] - 2 * out_channels, out_channels], dim=1)
        outputs, bias = base["proj_out.weight"], base["proj_out.bias"]  # [P*C, D], [P*C]: C channels a pixel of a patch
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
    """The fusion called `name`.

    Raises:
        ValueError: if there is none; the message lists those there are.
    """
    if name not in _FUSIONS:
        raise ValueError(f"fusion: expected one of {sorted(_FUSIONS)}, got {name!r}")
    return _FUSIONS[name]


def _halves(joined: torch.Tensor, dim: int, what: str) -> tuple[torch.Tensor, torch.Tensor]:
    if joined.shape[dim] % 2:
        raise ValueError(f"joined: expected an even {what} (RGB and XYZ), got shape {tuple(joined.shape)}")
    rgb, xyz = joined.chunk(2, dim=dim)
    return rgb, xyz
