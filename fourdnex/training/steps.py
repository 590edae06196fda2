"""One training step: what it draws, its learning rate, its loss; and how a loop is asked to end between two of them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import lru_cache

import torch

from fourdnex.latents.shards import LatentClips
from fourdnex.model.conditioning import XYZ_MASK, join_condition
from fourdnex.model.fusion import get_fusion
from fourdnex.training.lora_settings import LoraTraining


def flow_matching_loss(
    transformer: torch.nn.Module,
    batch: dict[str, torch.Tensor],
    *,
    sigma: torch.Tensor,
    noise: torch.Tensor,
    fusion: str = "width",
    xyz_weight: float = 1.0,
    xyz_mask: float = XYZ_MASK,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow matching on both halves: x_s = (1-s) x_0 + s noise, target noise - x_0.

    Args:
        transformer: the 6D transformer, or what wraps it.
        batch: `latents`, `condition` [B, 2, 16, F, h, w] (RGB, XYZ), `text`, `image` embeddings.
        sigma: [B] noise levels in [0, 1].
        noise: [B, 2, 16, F, h, w].
        fusion: the transformer's.
        xyz_weight: weight of the XYZ half.
        xyz_mask: guided mask of the XYZ half's first frame.

    Returns:
        The loss, and the mean squared error of RGB and of XYZ [2], detached.
    """
    s = sigma.view(-1, 1, 1, 1, 1, 1)
    clean = batch["latents"]
    noisy = (1 - s) * clean + s * noise
    strategy = get_fusion(fusion)
    condition = join_condition(batch["condition"][:, 0], batch["condition"][:, 1], fusion=fusion, xyz_mask=xyz_mask)
    hidden = torch.cat([strategy.join(noisy[:, 0], noisy[:, 1]), condition], dim=1)
    velocity = transformer(
        hidden,
        timestep=sigma * 1000,
        encoder_hidden_states=batch["text"],
        encoder_hidden_states_image=batch["image"],
        return_dict=False,
    )[0]
    error = torch.stack(strategy.split(velocity.float()), dim=1) - (noise - clean)
    parts = error.square().mean(dim=(0, 2, 3, 4, 5))
    return (parts[0] + xyz_weight * parts[1]) / (1 + xyz_weight), parts.detach()


def shifted(sigma: torch.Tensor, shift: float) -> torch.Tensor:
    """Noise levels in [0, 1] moved towards noise: s -> shift*s / (1 + (shift-1)*s); 1 leaves them uniform."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def draw(config: LoraTraining, clips: LatentClips, step: int) -> tuple[list[int], torch.Tensor, torch.Tensor]:
    """Clips, noise levels [B] and noise [B, 2, C, F, h, w] of a step, from the seed and the step alone.

    All clips of a step have one size. Each size is shown in an order of its own, epoch after epoch, and takes its turn
    as often as it has clips.
    """
    number, turn = _turns(tuple(len(bucket.indices) for bucket in clips.buckets))[step]
    bucket = clips.buckets[number]
    chosen = []
    for position in range(turn * config.batch_size, (turn + 1) * config.batch_size):
        epoch, place = divmod(position, len(bucket.indices))
        chosen.append(bucket.indices[int(_order(len(bucket.indices), config.seed, epoch)[place])])
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    if config.timesteps == "logit-normal":  # Esser et al., arXiv 2403.03206, with mean 0 and deviation 1
        sigma = torch.randn(config.batch_size, generator=generator).sigmoid()
    else:
        sigma = torch.rand(config.batch_size, generator=generator)
    noise = torch.randn(config.batch_size, *bucket.shape, generator=generator)
    pure = torch.rand(config.batch_size, generator=generator) < config.sigma_one_prob
    return chosen, torch.where(pure, 1.0, shifted(sigma, config.sigma_shift)), noise


class _Turns:
    """Which bucket each step shows, and which batch of it: that which is furthest behind its share is next."""

    def __init__(self, counts: tuple[int, ...]) -> None:
        self._counts, self._taken = counts, [0] * len(counts)
        self._turns: list[tuple[int, int]] = []

    def __getitem__(self, step: int) -> tuple[int, int]:
        for done in range(len(self._turns), step + 1):
            behind = [
                count * (done + 1) - sum(self._counts) * taken
                for count, taken in zip(self._counts, self._taken, strict=True)
            ]
            bucket = behind.index(max(behind))
            self._turns.append((bucket, self._taken[bucket]))
            self._taken[bucket] += 1
        return self._turns[step]


_turns = lru_cache(maxsize=4)(_Turns)


@lru_cache(maxsize=16)  # a batch may begin in one epoch and end in the next, in each of a few buckets
def _order(count: int, seed: int, epoch: int) -> torch.Tensor:
    """The order in which an epoch shows its clips."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed * 100_003 + epoch))


def learning_rate_factor(config: LoraTraining, step: int) -> float:
    """Linear warm-up, then cosine to 2 % or constant."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return max(0.02, 0.5 * (1 + torch.cos(torch.tensor(torch.pi * done)).item()))


class EndSignals:
    """Within the context SIGTERM and SIGINT only raise a flag, so that a step is never cut in half."""

    def __enter__(self) -> Callable[[], bool]:
        self.asked = False
        self.before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return lambda: self.asked

    def _note(self, *_: object) -> None:
        self.asked = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
