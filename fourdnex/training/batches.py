"""Batches of LoRA fine-tuning: the clips, noise levels and noise of each step, from the seed and the step alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch

from fourdnex.latents.dataset import LatentClips
from fourdnex.model.noise_schedule import draw_sigmas, set_pure_noise, shift_sigmas
from fourdnex.training.lora_settings import LoraTraining


def draw_batch(config: LoraTraining, clips: LatentClips, step: int) -> tuple[list[int], torch.Tensor, torch.Tensor]:
    """Indices of the clips of a step, their noise levels [B] and their noise [B, 2, C, F, h, w].

    All clips of a step have the same size. The clips of each size are shuffled anew in each epoch, and sizes alternate
    in proportion to their number of clips.
    """
    number, turn = _bucket_schedule(tuple(len(bucket.indices) for bucket in clips.buckets))[step]
    bucket = clips.buckets[number]
    chosen = []
    for position in range(turn * config.batch_size, (turn + 1) * config.batch_size):
        epoch, index = divmod(position, len(bucket.indices))
        chosen.append(bucket.indices[int(_epoch_order(len(bucket.indices), config.seed, epoch)[index])])
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    sigmas = draw_sigmas(config.batch_size, timesteps=config.timesteps, generator=generator)
    noise = torch.randn(config.batch_size, *bucket.shape, generator=generator)
    sigmas = set_pure_noise(shift_sigmas(sigmas, config.sigma_shift), config.sigma_one_prob, generator=generator)
    return chosen, sigmas, noise


def collate(items: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """The batch of the items of `LatentClips`: `xyz_weight` is present if any item has it, and 1 for the others."""
    batch = {key: torch.stack([item[key] for item in items]) for key in ("latents", "condition", "text", "image")}
    if any("xyz_weight" in item for item in items):
        ones = torch.ones(items[0]["latents"].shape[2:])
        batch["xyz_weight"] = torch.stack([item.get("xyz_weight", ones) for item in items])
    return batch


class _BucketSchedule:
    """The bucket of each step and the index of the batch within it: the bucket furthest behind its share is next."""

    def __init__(self, counts: tuple[int, ...]) -> None:
        self._counts, self._drawn = counts, [0] * len(counts)
        self._schedule: list[tuple[int, int]] = []

    def __getitem__(self, step: int) -> tuple[int, int]:
        for done in range(len(self._schedule), step + 1):
            deficits = [
                count * (done + 1) - sum(self._counts) * drawn
                for count, drawn in zip(self._counts, self._drawn, strict=True)
            ]
            bucket = deficits.index(max(deficits))
            self._schedule.append((bucket, self._drawn[bucket]))
            self._drawn[bucket] += 1
        return self._schedule[step]


_bucket_schedule = lru_cache(maxsize=4)(_BucketSchedule)


@lru_cache(maxsize=16)  # a batch may span two epochs, in each of a few buckets
def _epoch_order(count: int, seed: int, epoch: int) -> torch.Tensor:
    """The permutation of `count` clips in an epoch."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed * 100_003 + epoch))
