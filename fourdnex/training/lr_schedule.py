"""Learning rate schedules, as factors of the peak learning rate."""

from __future__ import annotations

import math
from typing import Literal

import torch

MIN_FACTOR = 0.02
"""Cosine schedules decay to this factor."""
Schedule = Literal["cosine", "constant"]


def warmup_then_decay(step: int, *, total_steps: int, warmup_steps: int, schedule: Schedule) -> float:
    """Linear warmup, then cosine decay over the remaining steps, or a constant factor of 1."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    # The cosine is computed in float32: the digests of adapters depend on it.
    return max(MIN_FACTOR, 0.5 * (1 + torch.cos(torch.tensor(torch.pi * progress)).item()))


def warmup_times_cosine(step: int, *, progress: float, warmup_steps: int) -> float:
    """Linear warmup times a cosine decay over the whole run, warmup included; `progress` of the run is in [0, 1].

    For runs that are limited by time, whose number of steps is not known in advance.
    """
    warmup = min(1.0, (step + 1) / warmup_steps)
    return warmup * max(MIN_FACTOR, 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
