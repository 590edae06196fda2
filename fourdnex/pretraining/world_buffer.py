"""A buffer of worlds that are rendered by CPU processes and encoded on the device while a model trains on them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fourdnex.cores import available_cores
from fourdnex.datasets.worlds import render_world, training_seeds
from fourdnex.io.pixels import denormalize_pixels
from fourdnex.latents.codec import LatentCodec, LatentStatistics
from fourdnex.model.text_padding import TEXT_TOKENS
from fourdnex.pretraining.conditioning_encoders import ConditioningEncoders
from fourdnex.pretraining.tokenizer import with_positions_suffix
from fourdnex.pretraining.transformer import TASKS
from fourdnex.pretraining.world_pairs import WorldPair, clip_pair, pair_pixels


@dataclass(frozen=True, kw_only=True)
class BufferSettings:
    """Size of a world buffer and of its worlds."""

    capacity: int
    """Worlds in the buffer; when it is full, the oldest world is replaced."""
    encode_batch_size: int
    """Worlds per batch of the VAE."""
    workers: int | None
    """Rendering processes; None: one per core."""
    size: Mapping[str, Any]
    """Arguments of `render_world`: frames, height and width."""


class WorldBuffer:
    """A ring buffer of latents, preprocessed first frames and text embeddings on the device of the VAE.

    Args:
        settings: sizes.
        codec: encodes the worlds.
        encoders: tokenizer, text encoder and image processor.
        pool: rendering processes.
        first_seed: seed of the first world; the training seeds from there on are used in order.
    """

    def __init__(
        self,
        settings: BufferSettings,
        codec: LatentCodec,
        encoders: ConditioningEncoders,
        pool: ProcessPoolExecutor,
        first_seed: int,
    ):
        self.settings, self.codec, self.encoders, self.pool = settings, codec, encoders, pool
        self.device = codec.vae.device
        self.num_encoded, self.next_seed = 0, first_seed
        self.statistics: LatentStatistics | None = None
        self._seeds: Iterator[int] = training_seeds(first_seed, 10_000_000)
        self._rendering: deque[Future[tuple[WorldPair, str]]] = deque()
        self._tensors: dict[str, torch.Tensor] = {}
        self._texts: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._empty_text = self._embed("")

    @property
    def count(self) -> int:
        """Worlds in the buffer."""
        return min(self.num_encoded, self.settings.capacity)

    @torch.inference_mode()
    def refill(self, *, wait: bool) -> None:
        """Encode the next batch of worlds and schedule the rendering of new ones.

        If they are not rendered yet, wait for them, or with `wait` False do nothing.
        """
        batch_size = self.settings.encode_batch_size
        while len(self._rendering) < 4 * batch_size + 2 * (self.settings.workers or available_cores()):
            self._rendering.append(self.pool.submit(_render, next(self._seeds), self.settings.size))
        if not wait and not all(self._rendering[i].done() for i in range(batch_size)):
            return
        worlds = [self._rendering.popleft().result() for _ in range(batch_size)]
        self.next_seed += batch_size
        pairs = torch.cat([pair_pixels(pair) for pair, _ in worlds]).to(self.device)  # RGB and XYZ alternate
        conditions = torch.zeros_like(pairs)
        conditions[:, :, 0] = pairs[:, :, 0]
        videos, first = (self.codec.encode(part, "rgb").unflatten(0, (-1, 2)) for part in (pairs, conditions))
        frames = denormalize_pixels(pairs[:, :, 0]).cpu().numpy().transpose(0, 2, 3, 1)
        pixels = self.encoders.processor(images=list(frames), return_tensors="pt").pixel_values
        for i, (_, caption) in enumerate(worlds):
            self._put("latents", videos[i])
            self._put("condition", first[i])
            self._put("pixels", pixels[2 * i : 2 * i + 2])
            texts = (self._embed(caption), self._embed(with_positions_suffix(caption)))
            if self.num_encoded < self.settings.capacity:
                self._texts.append(texts)
            else:
                self._texts[self.num_encoded % self.settings.capacity] = texts
            self.num_encoded += 1

    def estimate_statistics(self) -> None:
        """Set the XYZ statistics, one value per channel, from the worlds in the buffer."""
        flat = self._tensors["latents"][: self.count, 1].float().transpose(0, 1).flatten(1)
        self.statistics = LatentStatistics(mean=tuple(flat.mean(dim=1).tolist()), std=tuple(flat.std(dim=1).tolist()))
        mean, std = (torch.tensor(v, device=self.device) for v in (self.statistics.mean, self.statistics.std))
        self._mean, self._std = mean.view(-1, 1, 1, 1), std.view(-1, 1, 1, 1)

    def draw(
        self, size: int, rng: np.random.Generator, *, task_shares: Sequence[float], caption_dropout: float
    ) -> tuple[list[str], dict[str, torch.Tensor]]:
        """Draw a batch of the three tasks.

        Returns:
            Task names; `clean` and `condition` latents [B, 16, F, h, w], `text` [B, 512, D], `pixels` [B, 3, 64, 64].
        """
        tasks = [str(task) for task in rng.choice(TASKS, size=size, p=task_shares)]
        index = rng.integers(self.count, size=size)
        rows = torch.from_numpy(index).to(self.device)
        to_xyz = torch.tensor([int(task != "rgb") for task in tasks], device=self.device)
        from_xyz = torch.tensor([int(task == "xyz") for task in tasks], device=self.device)
        clean = self._tensors["latents"][rows, to_xyz].float()
        normalized = (clean - self._mean) / self._std
        text = torch.zeros(size, TEXT_TOKENS, self._empty_text.shape[1], device=self.device)
        for row, (task, i) in enumerate(zip(tasks, index.tolist(), strict=True)):
            words = self._texts[i][int(task != "rgb")]
            if task == "rgb" and rng.random() < caption_dropout:
                words = self._empty_text
            text[row, : len(words)] = words
        return tasks, {
            "clean": torch.where(to_xyz.bool().view(-1, 1, 1, 1, 1), normalized, clean),
            "condition": self._tensors["condition"][rows, from_xyz].float(),
            "text": text,
            "pixels": self._tensors["pixels"][rows, from_xyz].float(),
        }

    def _put(self, key: str, value: torch.Tensor) -> None:
        """Store a tensor of the world that is being added, in bfloat16."""
        if key not in self._tensors:
            with torch.inference_mode(False):
                shape = (self.settings.capacity, *value.shape)
                self._tensors[key] = torch.empty(shape, dtype=torch.bfloat16, device=self.device)
        self._tensors[key][self.num_encoded % self.settings.capacity] = value.to(self.device)

    @torch.no_grad()
    def _embed(self, prompt: str) -> torch.Tensor:
        """Embedding [L, D] of one prompt."""
        tokens = self.encoders.tokenizer(prompt, truncation=True, max_length=TEXT_TOKENS, return_tensors="pt")
        ids, mask = tokens.input_ids.to(self.device), tokens.attention_mask.to(self.device)
        embedded: torch.Tensor = self.encoders.text(ids, mask).last_hidden_state[0]
        return embedded


def _render(seed: int, size: Mapping[str, Any]) -> tuple[WorldPair, str]:
    """RGB and XYZ clips of a world, and its caption."""
    clip = render_world(seed, **size)
    return clip_pair(clip), clip.caption
