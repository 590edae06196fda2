"""How RGB and XYZ are joined into one tensor for the transformer, and taken apart again."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch


class Fusion(ABC):
    """One way to join RGB and XYZ. Tensors are `[B, C, F, H, W]`; RGB comes first, XYZ second."""

    name: str

    @abstractmethod
    def join(self, rgb: torch.Tensor, xyz: torch.Tensor) -> torch.Tensor:
        """Two `[B, C, F, H, W]` tensors to the transformer's one."""

    @abstractmethod
    def split(self, joined: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inverse of `join`: RGB and XYZ, `[B, C, F, H, W]` each."""

    @abstractmethod
    def part(self, joined: torch.Tensor) -> torch.Tensor:
        """A tensor of the shape of ONE modality, whose token positions both share."""

    @abstractmethod
    def share_positions(self, frequencies: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
        """Rotary tables `[1, F*H*W, 1, D]` of one modality's token grid (F, H, W) to those of the joined sequence."""

    @abstractmethod
    def token_distance(self, grid: tuple[int, int, int]) -> int:
        """Tokens between an RGB token and the XYZ token of the same pixel, for one modality's grid (F, H, W)."""


class WidthFusion(Fusion):
    """XYZ to the right of RGB: the paper's choice, with the shortest way between partners."""

    name = "width"

    def join(self, rgb: torch.Tensor, xyz: torch.Tensor) -> torch.Tensor:
        return torch.cat([rgb, xyz], dim=-1)

    def split(self, joined: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if joined.shape[-1] % 2:
            raise ValueError(f"joined: expected an even width (RGB beside XYZ), got shape {tuple(joined.shape)}")
        rgb, xyz = joined.chunk(2, dim=-1)
        return rgb, xyz

    def part(self, joined: torch.Tensor) -> torch.Tensor:
        return self.split(joined)[0]

    def share_positions(self, frequencies: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
        num_frames, height, width = grid
        dim = frequencies.shape[-1]
        rows = frequencies.view(1, num_frames, height, width, dim)
        return torch.cat([rows, rows], dim=3).reshape(1, num_frames * height * 2 * width, 1, dim)

    def token_distance(self, grid: tuple[int, int, int]) -> int:
        return grid[2]


_FUSIONS = {fusion.name: fusion for fusion in (WidthFusion(),)}


def get_fusion(name: str) -> Fusion:
    """The fusion called `name`.

    Raises:
        ValueError: if there is none; the message lists those there are.
    """
    if name not in _FUSIONS:
        raise ValueError(f"fusion: expected one of {sorted(_FUSIONS)}, got {name!r}")
    return _FUSIONS[name]
