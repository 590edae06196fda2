"""Pretraining of the tiny image-to-video transformer, with its image encoder, on procedural worlds.

The model learns to continue a first frame into a clip, one modality at a time, in three tasks: RGB clips from their
first frame and caption; coordinate clips (normalized XYZ painted as colors) from their first frame; and coordinate
clips from the RGB first frame. The prompt of the last two ends in a word of their own. They stand for what a large
video model knows of geometry. RGB and XYZ together, from the sloped plane, is what LoRA fine-tuning teaches.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanImageToVideoPipeline, WanTransformer3DModel
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    T5Tokenizer,
    UMT5EncoderModel,
)

from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.evaluation.psnr import psnr
from fourdnex.io.files import atomic_dir, copy_unless_same
from fourdnex.model.bfloat_linear import use_bfloat16
from fourdnex.model.conditioning import guided_mask
from fourdnex.model.noise_schedule import draw_sigmas, set_pure_noise, shift_sigmas
from fourdnex.model.option_types import Precision
from fourdnex.model.precision import resolve_precision
from fourdnex.model.text_padding import TEXT_TOKENS, compact_text_padding
from fourdnex.pretraining.encoded_worlds import load_worlds, xyz_statistics
from fourdnex.pretraining.muon import Muon, split_parameters
from fourdnex.pretraining.tokenizer import build_tokenizer, with_positions_suffix

TRANSFORMER_CONFIG = {
    "num_attention_heads": 4,
    "attention_head_dim": 48,
    "in_channels": 36,
    "out_channels": 16,
    "text_dim": 64,
    "freq_dim": 128,
    "ffn_dim": 768,
    "num_layers": 6,
    "image_dim": 64,
    "added_kv_proj_dim": 192,
    "rope_max_seq_len": 256,
}
TASKS = ("rgb", "xyz", "rgb_to_xyz")


@dataclass(frozen=True, kw_only=True)
class TransformerPretraining:
    """Settings of the transformer's pretraining."""

    minutes: float = 90.0
    batch: int = 24
    rate: float = 0.02
    """Peak learning rate of Muon on the hidden layers; AdamW's, for everything else, is a tenth of it."""
    weight_decay: float = 0.3
    """Of Muon; without it the residual stream grows until what the text adds is lost in it."""
    warmup: int = 50
    caption_dropout: float = 0.3
    """Share of prompts that tell nothing: images come without captions."""
    task_shares: tuple[float, float, float] = (0.45, 0.1, 0.45)
    """Of RGB clips, coordinate clips from their own first frame, and coordinate clips from the RGB first frame."""
    sigma_shift: float = 3.0
    """Noise levels are uniform, then shifted towards noise (`shift_sigmas`): the base is sampled in few steps."""
    sigma_one_prob: float = 0.4
    """Share of clips at noise level 1, where nothing but the caption tells how things move."""
    ema: float = 0.998
    precision: Precision = "fp32"
    """bf16 multiplies matrices in bfloat16 (`fourdnex.model.bfloat_linear`), auto where the CPU is faster in it."""
    seed: int = 0


class Encoders(nn.Module):
    """The frozen text encoder, and the image encoder, which is trained together with the transformer."""

    def __init__(self, tokenizer: T5Tokenizer, text: UMT5EncoderModel):
        super().__init__()
        self.tokenizer = tokenizer
        self.text = text.requires_grad_(False)
        image = CLIPVisionConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=64,
            patch_size=16,
        )
        self.image = CLIPVisionModel(image)
        self.processor = CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})

    def forward(self, prompts: list[str], pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of prompts [B, 512, 64], zero after the last token, and of images [B, 17, 64]."""
        tokens = self.tokenizer(prompts, padding=True, truncation=True, max_length=TEXT_TOKENS, return_tensors="pt")
        mask = tokens.attention_mask
        text = self.text(tokens.input_ids, mask).last_hidden_state * mask[..., None]
        text = nn.functional.pad(text, (0, 0, 0, TEXT_TOKENS - text.shape[1]))
        return text, self.image(pixels, output_hidden_states=True).hidden_states[-2]


def pretrain_transformer(
    config: TransformerPretraining,
    vae: AutoencoderKLWan,
    text: UMT5EncoderModel,
    worlds: Path,
    folder: Path,
    *,
    start: Path | None = None,
) -> None:
    """Train on the encoded worlds in folder `worlds`, and write the whole base into `folder`, half precision.

    It begins with random weights, or with those of the base in folder `start`, whose log is then carried on; `text`
    knows the words and stays as it is.

    Parts of worlds that are added while it runs are taken in. `folder` gets the Diffusers layout.
    The log is `training/transformer.jsonl` in `folder`; the base is measured and written every ten minutes.

    Raises:
        ValueError: if a loss is not finite.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    encoders = Encoders(build_tokenizer(), text)
    transformer = WanTransformer3DModel(**TRANSFORMER_CONFIG)
    if start is None:
        init_cross_attention_bias(transformer)
    else:
        for part, name in ((transformer, "transformer"), (encoders.image, "image_encoder")):
            part.load_state_dict(type(part).from_pretrained(start / name, dtype=torch.float32).state_dict())
    compact_text_padding(transformer)
    if resolve_precision(config.precision, "cpu") == "bf16":
        use_bfloat16(transformer)
    model = nn.ModuleDict({"transformer": transformer, "encoders": encoders})
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    batches = _Batches(worlds, encoders, config, rng)
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    hidden_weights, rest = split_parameters(trained, keep=("embed", "proj_out", "scale_shift"))
    peaks = (config.rate, config.rate / 10)
    optimizers = [
        Muon(hidden_weights, lr=peaks[0], weight_decay=config.weight_decay),
        torch.optim.AdamW(rest, lr=peaks[1], betas=(0.9, 0.95), weight_decay=0.01),
    ]
    log = folder / "training" / "transformer.jsonl"
    first = step = begin_log(log, start)
    recent: dict[str, list[float]] = defaultdict(list)
    started = saved = time.monotonic()
    _write(log, {"config": asdict(config), "xyz_statistics": asdict(batches.statistics)})
    while (done := (time.monotonic() - started) / (60 * config.minutes)) < 1:
        factor = min(1.0, (step - first + 1) / config.warmup) * max(0.02, 0.5 * (1 + np.cos(np.pi * done)))
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * factor
        tasks, clean, condition, words, image = batches.next()
        errors = flow_matching_errors(transformer, clean, condition, words, image, config)
        loss = errors.mean()
        if not torch.isfinite(loss):
            raise ValueError(f"loss: expected a finite number at step {step}, got {loss.item()}")
        model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        with torch.no_grad():
            decay = min(config.ema, (step - first) / (step - first + 10))
            for name, value in model.state_dict().items():
                if value.dtype.is_floating_point:
                    average[name].lerp_(value, 1 - decay)
        for task, error in zip(tasks, errors.tolist(), strict=True):
            recent[f"{task}_loss"].append(error)
        if step % 50 == 0:
            means = {key: round(float(np.mean(values)), 5) for key, values in sorted(recent.items())}
            _write(log, {"step": step, "minutes": round((time.monotonic() - started) / 60, 2)} | means)
            recent.clear()
            batches.reload()
        if time.monotonic() - saved > 600:
            saved = time.monotonic()
            _write(log, {"step": step} | _save(folder, model, average, vae))
    _write(log, {"step": step} | _save(folder, model, average, vae))


def init_cross_attention_bias(transformer: WanTransformer3DModel, *, gain: float = 1.5) -> None:
    """Let the cross-attention of fresh weights pass over the padding of prompts, in place.

    Wan pads every prompt to 512 tokens of zeros, which at the start hold nine tenths of the attention, and with heads
    as narrow as the tiny base's it can hardly learn to look past them. Here the biases of queries and keys point
    opposite ways: a key that is nothing but its bias, as padding's, repels every query; a word's key is its own.
    """
    with torch.no_grad():
        embedder = transformer.condition_embedder.text_embedder
        embedder.linear_1.bias.zero_()
        embedder.linear_2.bias.zero_()
        embedder.linear_2.weight.mul_(3.0)
        for block in transformer.blocks:
            attention = block.attn2
            direction = torch.where(torch.rand_like(attention.to_q.bias) < 0.5, -1.0, 1.0)
            attention.to_q.bias.copy_(0.6 * direction)
            attention.to_k.bias.copy_(-0.1 * direction)
            attention.to_v.bias.zero_()
            attention.norm_q.weight.fill_(gain)
            attention.norm_k.weight.fill_(gain)


class _Batches:
    """Draws batches of the three tasks, each of worlds of one size."""

    def __init__(self, folder: Path, encoders: Encoders, config: TransformerPretraining, rng: np.random.Generator):
        self.folder, self.encoders, self.config, self.rng = folder, encoders, config, rng
        self.groups = load_worlds(folder)
        self.statistics = xyz_statistics(self.groups)
        self._prepare()

    def reload(self) -> None:
        """Take in parts that were added since; the statistics stay those of the beginning."""
        if len(list(self.folder.glob("[!.]*.safetensors"))) != sum(group.num_parts for group in self.groups):
            self.groups = load_worlds(self.folder)
            self._prepare()

    def _prepare(self) -> None:
        mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (self.statistics.mean, self.statistics.std))
        self.sizes = np.array([len(group.seeds) for group in self.groups])
        self.xyz = [(group.xyz - mean) / std for group in self.groups]
        self.rgb_pixels, self.xyz_pixels = (
            [self.encoders.processor(images=list(images.numpy()), return_tensors="pt").pixel_values for images in parts]
            for parts in ([g.rgb_image for g in self.groups], [g.xyz_image for g in self.groups])
        )

    def next(self) -> tuple[list[str], torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Task names, clean and condition latents [B, 16, F, h, w], text and image embeddings."""
        tasks, clean, condition, prompts, pixels = [], [], [], [], []
        g = int(self.rng.choice(len(self.groups), p=self.sizes / self.sizes.sum()))
        worlds, xyz = self.groups[g], self.xyz[g]
        for _ in range(self.config.batch):
            task = str(self.rng.choice(TASKS, p=self.config.task_shares))
            i = int(self.rng.integers(len(xyz)))
            caption = "" if self.rng.random() < self.config.caption_dropout else worlds.captions[i]
            tasks.append(task)
            clean.append(worlds.rgb[i] if task == "rgb" else xyz[i])
            condition.append(worlds.xyz_condition[i] if task == "xyz" else worlds.rgb_condition[i])
            pixels.append(self.xyz_pixels[g][i] if task == "xyz" else self.rgb_pixels[g][i])
            prompts.append(caption if task == "rgb" else with_positions_suffix(caption))
        text, image = self.encoders(prompts, torch.stack(pixels))
        return tasks, torch.stack(clean), torch.stack(condition), text, image


def flow_matching_errors(
    transformer: nn.Module,
    clean: torch.Tensor,
    condition: torch.Tensor,
    text: torch.Tensor,
    image: torch.Tensor,
    config: TransformerPretraining,
) -> torch.Tensor:
    """Flow-matching error of each clip [B], at noise levels of the settings."""
    noise = torch.randn_like(clean)
    sigma = shift_sigmas(draw_sigmas(len(clean), device=clean.device), config.sigma_shift)
    sigma = set_pure_noise(sigma, config.sigma_one_prob)
    s = sigma.view(-1, 1, 1, 1, 1)
    hidden = torch.cat([(1 - s) * clean + s * noise, guided_mask(clean, 1.0), condition], dim=1)
    velocity = transformer(
        hidden, timestep=sigma * 1000, encoder_hidden_states=text, encoder_hidden_states_image=image
    ).sample
    return (velocity - (noise - clean)).square().mean(dim=(1, 2, 3, 4))


def begin_log(log: Path, start: Path | None) -> int:
    """Begin a new log, or go on with that of the base in folder `start` if it has one; returns the step it has come to.

    What another run left at `log` is removed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    earlier = start / "training" / log.name if start is not None else None
    if earlier is None or not earlier.exists():
        log.unlink(missing_ok=True)
        return 0
    copy_unless_same(earlier, log)
    return max((json.loads(line).get("step", 0) for line in log.read_text().splitlines()), default=0)


def _write(log: Path, line: dict[str, Any]) -> None:
    with open(log, "a") as file:
        file.write(json.dumps(line) + "\n")


def _save(
    folder: Path, model: nn.ModuleDict, average: dict[str, torch.Tensor], vae: AutoencoderKLWan
) -> dict[str, float]:
    """Write the averaged weights as a pipeline, and measure how well it continues held-out worlds."""
    kept = {k: v.detach().clone() for k, v in model.state_dict().items()}
    model.load_state_dict(average)
    model.eval()
    encoders = model["encoders"]
    pipeline = WanImageToVideoPipeline(
        tokenizer=encoders.tokenizer,
        text_encoder=encoders.text,
        image_encoder=encoders.image,
        image_processor=encoders.processor,
        vae=vae,
        transformer=model["transformer"],
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0),
    )
    figures = measure_base(pipeline)
    pipeline.register_modules(tokenizer=build_tokenizer())  # measuring left its padding in the one before
    with atomic_dir(folder) as temporary:
        shutil.copytree(folder / "training", temporary / "training")
        pipeline.to(torch.float16).save_pretrained(temporary)
    pipeline.to(torch.float32)
    model.load_state_dict(kept)
    model.train()
    return figures


def measure_base(
    pipeline: WanImageToVideoPipeline, *, num_worlds: int = 8, steps: int = 12, size: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """RGB PSNR on held-out worlds but for the first frame: generated from it and the caption, and the frame held still.

    `size`: of `render_world`, in place of the tiny base's.
    """
    from PIL import Image

    pipeline.set_progress_bar_config(disable=True)
    generated, still = [], []
    for seed in HELD_OUT_SEEDS[:num_worlds]:
        clip = render_world(seed, **(size or {}))
        with torch.inference_mode():
            frames = pipeline(
                image=Image.fromarray(clip.rgb[0]),
                prompt=clip.caption,
                height=clip.height,
                width=clip.width,
                num_frames=clip.num_frames,
                num_inference_steps=steps,
                guidance_scale=1.0,
                generator=torch.Generator().manual_seed(0),
                output_type="np",
            ).frames[0]
        truth = clip.rgb[1:] / 255.0
        generated.append(psnr(frames[1:], truth, data_range=1.0))
        still.append(psnr(np.broadcast_to(clip.rgb[:1] / 255.0, truth.shape), truth, data_range=1.0, max_db=60.0))
    return {
        "generated_psnr_db": round(float(np.mean(generated)), 3),
        "still_psnr_db": round(float(np.mean(still)), 3),
    }
