"""Noise levels of flow matching: how they are drawn, and how they are shifted toward noise."""

from __future__ import annotations

from typing import Literal

import torch

Timesteps = Literal["uniform", "logit-normal"]


def draw_sigmas(
    count: int,
    *,
    timesteps: Timesteps = "uniform",
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Noise levels [count] in [0, 1], before any shift.

    "logit-normal" concentrates them around 0.5 (Esser et al., arXiv 2403.03206, with mean 0 and deviation 1).
    """
    if timesteps == "logit-normal":
        return torch.randn(count, generator=generator, device=device).sigmoid()
    return torch.rand(count, generator=generator, device=device)


def shift_sigmas(sigmas: torch.Tensor, shift: float) -> torch.Tensor:
    """Shift noise levels in [0, 1] toward noise: s -> shift*s / (1 + (shift-1)*s); a shift of 1 changes nothing."""
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def set_pure_noise(sigmas: torch.Tensor, prob: float, *, generator: torch.Generator | None = None) -> torch.Tensor:
    """Replace each noise level by 1 (pure noise) with probability `prob`."""
    is_pure = torch.rand(len(sigmas), generator=generator, device=sigmas.device) < prob
    return torch.where(is_pure, 1.0, sigmas)
