"""Pretraining of a `small` base on a GPU: 30 million weights, 25 frames of 128x192, on worlds rendered as it trains.

It learns the tasks of `pretrain_transformer`, and takes VAE and text encoder from the tiny base. Processes on the CPU
render worlds, the GPU encodes them between two steps into a buffer, and batches are drawn from that: no world is stored
on disk. Matrix products are in bfloat16 (autocast), weights in float32. `python -m benchmarks.gpu_session` runs it.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanImageToVideoPipeline, WanTransformer3DModel
from torch import nn
from transformers import UMT5EncoderModel

from fourdnex.cores import available_cores
from fourdnex.datasets.worlds import render_world, training_seeds
from fourdnex.io.files import atomic_dir
from fourdnex.io.pixels import denormalize_pixels
from fourdnex.latents.codec import REFERENCE_STATISTICS, LatentCodec, LatentStatistics
from fourdnex.model.bfloat_vae import use_bfloat16
from fourdnex.model.text_padding import TEXT_TOKENS, compact_text_padding
from fourdnex.pretraining.muon import Muon, split_parameters
from fourdnex.pretraining.tokenizer import build_tokenizer, with_positions_suffix
from fourdnex.pretraining.transformer import (
    TASKS,
    TRANSFORMER_CONFIG,
    Encoders,
    TransformerPretraining,
    flow_matching_errors,
    init_cross_attention_bias,
    measure_base,
)
from fourdnex.pretraining.world_pairs import clip_pair, pair_pixels
from fourdnex.training.checkpoint import Checkpoints, collect, restore

SMALL_CONFIG = TRANSFORMER_CONFIG | {
    "num_attention_heads": 6,
    "attention_head_dim": 64,
    "ffn_dim": 1536,
    "num_layers": 10,
    "added_kv_proj_dim": 384,
}
SHARD_SIZE = "15MB"
_RUN = "small"


@dataclass(frozen=True, kw_only=True)
class SmallPretraining:
    """Settings of the small base's pretraining."""

    minutes: float = 7.0
    """Of training in all, over all resumes."""
    num_frames: int = 25
    height: int = 128
    width: int = 192
    transformer: Mapping[str, Any] | None = None
    """Changes of `SMALL_CONFIG`."""
    batch: int = 32
    rate: float = 0.02
    """Peak learning rate of Muon on the hidden layers; AdamW's, for everything else, is a tenth of it."""
    weight_decay: float = 0.3
    warmup: int = 100
    ema: float = 0.998
    first_worlds: int = 256
    """Worlds in the buffer before the first step; XYZ statistics are theirs."""
    max_worlds: int = 16_384
    """In the buffer; then the oldest is replaced."""
    encoded_together: int = 4
    """Worlds that pass the VAE at a time, at most once every `encode_every` steps."""
    encode_every: int = 4
    workers: int | None = None
    """Processes that render; None: one a core but one."""
    save_every: float = 60.0
    """Seconds between two checkpoints."""
    measured_worlds: int = 8
    seed: int = 0

    @property
    def size(self) -> dict[str, int]:
        return {"num_frames": self.num_frames, "height": self.height, "width": self.width}


def pretrain_small(config: SmallPretraining, base: Path, folder: Path, work: Path) -> dict[str, float]:
    """Train until the minutes are over, and write the base to `folder`; bfloat16, in files of at most 15 MB.

    A run that was killed goes on from its last checkpoint in `work`.

    Args:
        config: the settings.
        base: a base in the Diffusers layout, whose VAE and text encoder are taken.
        folder: of the result; its log is `training/transformer.jsonl`.
        work: checkpoints, some 600 MB.

    Returns:
        RGB PSNR of held-out worlds, generated and held still; steps, steps a second, worlds.

    Raises:
        ValueError: if a loss is not finite.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(config.seed)
    text = UMT5EncoderModel.from_pretrained(base / "text_encoder", dtype=torch.float32).eval()
    encoders = Encoders(build_tokenizer(), text)
    transformer = WanTransformer3DModel(**SMALL_CONFIG | dict(config.transformer or {}))
    init_cross_attention_bias(transformer)
    compact_text_padding(transformer)
    model = nn.ModuleDict({"transformer": transformer, "encoders": encoders}).to(device)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    averages = {name: value.detach().clone() for name, value in trained.items()}
    hidden, rest = split_parameters(trained.items(), keep=("embed", "proj_out", "scale_shift"))
    optimizers = [
        Muon(hidden, lr=config.rate, weight_decay=config.weight_decay),
        torch.optim.AdamW(rest, lr=config.rate / 10, betas=(0.9, 0.95), weight_decay=0.01),
    ]
    is_hidden = {id(value) for value in hidden}
    owners = [
        {name: value for name, value in trained.items() if (id(value) in is_hidden) == own} for own in (True, False)
    ]
    checkpoints = Checkpoints(work, _RUN)
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "next_seed": config.seed * 10_000_000, "lines": []}
    if (found := checkpoints.load()) is not None:
        tensors, state = found[0], {key: found[1][key] for key in state}
        for parameters, optimizer in zip(owners, optimizers, strict=True):
            restore(_of(tensors, parameters), parameters, averages, optimizer)
    vae = AutoencoderKLWan.from_pretrained(base / "vae", torch_dtype=torch.float32).eval().to(device)
    use_bfloat16(vae)
    settings = TransformerPretraining(seed=config.seed)
    rng = np.random.default_rng((config.seed, state["step"]))

    def save() -> None:
        whole: dict[str, torch.Tensor] = {}
        for parameters, optimizer in zip(owners, optimizers, strict=True):
            whole |= collect(parameters, averages, optimizer)
        checkpoints.save(whole, state)

    with ProcessPoolExecutor(
        config.workers or max(1, available_cores() - 1), mp_context=get_context("spawn"), initializer=_one_thread
    ) as pool:
        buffer = _Buffer(config, LatentCodec(vae, REFERENCE_STATISTICS), encoders, pool, state["next_seed"])
        begun, before, saved, unread = time.monotonic(), state["seconds"], time.monotonic(), []
        while buffer.count < config.first_worlds:
            buffer.take(wait=True)
        buffer.estimate_statistics()
        while (done := state["seconds"] / (60 * config.minutes)) < 1 or state["step"] == 0:
            factor = min(1.0, (state["step"] + 1) / config.warmup) * max(0.02, 0.5 * (1 + np.cos(np.pi * min(1, done))))
            for optimizer, peak in zip(optimizers, (config.rate, config.rate / 10), strict=True):
                optimizer.param_groups[0]["lr"] = peak * factor
            if state["step"] % config.encode_every == 0:
                buffer.take(wait=False)
            tasks, batch = buffer.draw(settings, rng)
            with torch.autocast(device.type, torch.bfloat16):
                image = encoders.image(batch.pop("pixels"), output_hidden_states=True).hidden_states[-2]
                errors = flow_matching_errors(transformer, **batch, image=image, config=settings)
            model.zero_grad(set_to_none=True)
            errors.mean().backward()
            nn.utils.clip_grad_norm_(trained.values(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
            state["step"] += 1
            decay = min(config.ema, state["step"] / (state["step"] + 10))
            torch._foreach_lerp_(list(averages.values()), [value.detach() for value in trained.values()], 1 - decay)
            unread.append((tasks, errors.detach()))
            state["seconds"] = before + time.monotonic() - begun
            if state["step"] % 50 == 0:
                state["lines"].append(_line(state, unread, buffer.made))
                unread.clear()
            if time.monotonic() - saved > config.save_every:
                state["next_seed"], saved = buffer.next_seed, time.monotonic()
                save()
        state["next_seed"] = buffer.next_seed
        save()
        made = buffer.made
        pool.shutdown(cancel_futures=True)
    with torch.no_grad():
        for name, value in trained.items():
            value.copy_(averages[name])
    figures: dict[str, float] = {"steps": state["step"], "worlds": made}
    figures["steps_a_second"] = round(state["step"] / max(state["seconds"], 1e-9), 3)
    return _write(config, base, folder, model, state["lines"], figures)


class _Buffer:
    """Worlds that are encoded: a ring of latents, pixels and text embeddings on the device."""

    def __init__(
        self,
        config: SmallPretraining,
        codec: LatentCodec,
        encoders: Encoders,
        pool: ProcessPoolExecutor,
        first_seed: int,
    ):
        self.config, self.codec, self.encoders, self.pool = config, codec, encoders, pool
        self.device = codec.vae.device
        self.made, self.next_seed = 0, first_seed
        self.statistics: LatentStatistics | None = None
        self._seeds: Iterator[int] = training_seeds(first_seed, 10_000_000)
        self._waiting: deque[Future[tuple[np.ndarray, np.ndarray, str]]] = deque()
        self._tensors: dict[str, torch.Tensor] = {}
        self._texts: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._no_text = self._embed("")

    @property
    def count(self) -> int:
        return min(self.made, self.config.max_worlds)

    @torch.inference_mode()
    def take(self, *, wait: bool) -> None:
        """Encode the next worlds if they are rendered, or when they are; and ask for new ones."""
        together = self.config.encoded_together
        while len(self._waiting) < 4 * together + 2 * (self.config.workers or available_cores()):
            self._waiting.append(self.pool.submit(_render, next(self._seeds), self.config.size))
        if not wait and not all(self._waiting[i].done() for i in range(together)):
            return
        worlds = [self._waiting.popleft().result() for _ in range(together)]
        self.next_seed += together
        pairs = torch.cat([pair_pixels((rgb, xyz)) for rgb, xyz, _ in worlds]).to(self.device)  # RGB, XYZ in turn
        conditions = torch.zeros_like(pairs)
        conditions[:, :, 0] = pairs[:, :, 0]
        videos, first = (self.codec.encode(part, "rgb").unflatten(0, (-1, 2)) for part in (pairs, conditions))
        frames = denormalize_pixels(pairs[:, :, 0]).cpu().numpy().transpose(0, 2, 3, 1)
        pixels = self.encoders.processor(images=list(frames), return_tensors="pt").pixel_values
        for i, (_, _, caption) in enumerate(worlds):
            self._put("latents", videos[i])
            self._put("condition", first[i])
            self._put("pixels", pixels[2 * i : 2 * i + 2])
            texts = (self._embed(caption), self._embed(with_positions_suffix(caption)))
            if self.made < self.config.max_worlds:
                self._texts.append(texts)
            else:
                self._texts[self.made % self.config.max_worlds] = texts
            self.made += 1

    def estimate_statistics(self) -> None:
        """Mean and deviation of the XYZ latents that are there, one a channel."""
        flat = self._tensors["latents"][: self.count, 1].float().transpose(0, 1).flatten(1)
        self.statistics = LatentStatistics(mean=tuple(flat.mean(dim=1).tolist()), std=tuple(flat.std(dim=1).tolist()))
        mean, std = (torch.tensor(v, device=self.device) for v in (self.statistics.mean, self.statistics.std))
        self._mean, self._std = mean.view(-1, 1, 1, 1), std.view(-1, 1, 1, 1)

    def draw(
        self, settings: TransformerPretraining, rng: np.random.Generator
    ) -> tuple[list[str], dict[str, torch.Tensor]]:
        """Task names; clean and condition latents [B, 16, F, h, w], text [B, 512, D], pixels [B, 3, 64, 64]."""
        size = self.config.batch
        tasks = [str(task) for task in rng.choice(TASKS, size=size, p=settings.task_shares)]
        index = rng.integers(self.count, size=size)
        rows = torch.from_numpy(index).to(self.device)
        to_xyz = torch.tensor([int(task != "rgb") for task in tasks], device=self.device)
        from_xyz = torch.tensor([int(task == "xyz") for task in tasks], device=self.device)
        clean = self._tensors["latents"][rows, to_xyz].float()
        normalized = (clean - self._mean) / self._std
        text = torch.zeros(size, TEXT_TOKENS, self._no_text.shape[1], device=self.device)
        for row, (task, i) in enumerate(zip(tasks, index.tolist(), strict=True)):
            words = self._texts[i][int(task != "rgb")]
            if task == "rgb" and rng.random() < settings.caption_dropout:
                words = self._no_text
            text[row, : len(words)] = words
        return tasks, {
            "clean": torch.where(to_xyz.bool().view(-1, 1, 1, 1, 1), normalized, clean),
            "condition": self._tensors["condition"][rows, from_xyz].float(),
            "text": text,
            "pixels": self._tensors["pixels"][rows, from_xyz].float(),
        }

    def _put(self, key: str, value: torch.Tensor) -> None:
        if key not in self._tensors:
            with torch.inference_mode(False):
                shape = (self.config.max_worlds, *value.shape)
                self._tensors[key] = torch.empty(shape, dtype=torch.bfloat16, device=self.device)
        self._tensors[key][self.made % self.config.max_worlds] = value.to(self.device)

    @torch.no_grad()
    def _embed(self, prompt: str) -> torch.Tensor:
        """[L, D] of one prompt."""
        tokens = self.encoders.tokenizer(prompt, truncation=True, max_length=TEXT_TOKENS, return_tensors="pt")
        ids, mask = tokens.input_ids.to(self.device), tokens.attention_mask.to(self.device)
        embedded: torch.Tensor = self.encoders.text(ids, mask).last_hidden_state[0]
        return embedded


def _one_thread() -> None:
    torch.set_num_threads(1)


def _render(seed: int, size: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, str]:
    """RGB [T, H, W, 3] uint8, normalized and clipped XYZ [T, H, W, 3] float16, and the caption."""
    clip = render_world(seed, **size)
    return *clip_pair(clip), clip.caption


def _of(tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """Those of a checkpoint's tensors that belong to these parameters."""
    return {
        key: value
        for key, value in tensors.items()
        if key.partition("/")[2] in parameters or key.partition("/")[2].rpartition("/")[0] in parameters
    }


def _line(state: dict[str, Any], unread: list[tuple[list[str], torch.Tensor]], worlds: int) -> dict[str, Any]:
    """A line of the log; ValueError if a loss is not finite."""
    tasks = [task for own, _ in unread for task in own]
    errors = torch.cat([values for _, values in unread]).float().cpu().numpy()
    if not np.isfinite(errors).all():
        wrong = errors[~np.isfinite(errors)][0]
        raise ValueError(f"loss: expected finite numbers up to step {state['step']}, got {wrong}")
    means = {f"{task}_loss": [e for t, e in zip(tasks, errors, strict=True) if t == task] for task in TASKS}
    line = {"step": state["step"], "minutes": round(state["seconds"] / 60, 2), "worlds": worlds}
    return line | {key: round(float(np.mean(values)), 5) for key, values in means.items() if values}


def _write(
    config: SmallPretraining,
    base: Path,
    folder: Path,
    model: nn.ModuleDict,
    lines: list[dict[str, Any]],
    figures: dict[str, float],
) -> dict[str, float]:
    """Write the base, with the VAE and the text encoder as they were, and measure it."""
    encoders, transformer = model["encoders"], model["transformer"]
    pipeline = WanImageToVideoPipeline(
        tokenizer=build_tokenizer(),
        text_encoder=encoders.text,
        image_encoder=encoders.image,
        image_processor=encoders.processor,
        vae=AutoencoderKLWan.from_pretrained(base / "vae", torch_dtype=torch.float32),
        transformer=transformer.eval(),
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0),
    ).to(encoders.image.device)
    figures = figures | measure_base(pipeline, num_worlds=config.measured_worlds, size=config.size)
    pipeline.register_modules(tokenizer=build_tokenizer())  # measuring left its padding in the one before
    pipeline.to("cpu")
    pipeline.transformer.to(torch.bfloat16)
    pipeline.image_encoder.to(torch.float16)
    pipeline.text_encoder.to(torch.float16)
    pipeline.vae.to(torch.float16)
    settings = asdict(config) | {"transformer": SMALL_CONFIG | dict(config.transformer or {})}
    with atomic_dir(folder) as temporary:
        pipeline.save_pretrained(temporary, max_shard_size=SHARD_SIZE)
        (temporary / "training").mkdir()
        log = "".join(json.dumps(line) + "\n" for line in [{"config": settings}, *lines, figures])
        (temporary / "training" / "transformer.jsonl").write_text(log)
    return figures
