"""Pretraining of the tiny image-to-video transformer, with its text and image encoders, on procedural worlds.

The model learns to continue a first frame into a clip: on RGB clips from their captions, and on clips of coordinate
maps (normalised XYZ painted as colours) whose prompt ends in the style word. It never sees the two
together: joining them is what LoRA fine-tuning teaches.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanImageToVideoPipeline, WanTransformer3DModel
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world, training_seeds
from fourdnex.model.conditioning import guided_mask, styled_prompt
from fourdnex.model.latents import LatentCodec, LatentStatistics
from fourdnex.training.muon import Muon, split_parameters
from fourdnex.training.pretrain_vae import world_pair
from fourdnex.training.text import build_tokenizer

TEXT_TOKENS = 512
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


@dataclass(frozen=True, kw_only=True)
class TransformerPretraining:
    """Settings of the transformer's pretraining."""

    minutes: float = 40.0
    num_rgb: int = 1400
    """Worlds whose RGB clips are encoded."""
    num_xyz: int = 700
    """Worlds, of the same, whose coordinate clips are encoded too."""
    first_seed: int = 10_000
    batch: int = 8
    rate: float = 0.02
    """Peak learning rate of Muon on the hidden layers; AdamW's, for everything else, is a tenth of it."""
    warmup: int = 50
    caption_dropout: float = 0.1
    xyz_share: float = 0.35
    """Share of coordinate clips in a batch."""
    ema: float = 0.999
    flow_shift: float = 1.0
    seed: int = 0


def latent_moments(vae: AutoencoderKLWan, *, num_worlds: int = 48, first_seed: int = 5_000) -> LatentStatistics:
    """Set the VAE's `latents_mean` and `latents_std` from RGB clips; return the statistics of XYZ on top of them."""
    rgb, xyz = [], []
    for seed in training_seeds(first_seed, num_worlds):
        pair = _pixels(world_pair(seed))
        with torch.inference_mode():
            latents = vae.encode(pair).latent_dist.mode()
        rgb.append(latents[0].flatten(1))
        xyz.append(latents[1].flatten(1))
    rgb_all, xyz_all = torch.cat(rgb, dim=1), torch.cat(xyz, dim=1)
    mean, std = rgb_all.mean(dim=1), rgb_all.std(dim=1)
    vae.register_to_config(
        latents_mean=[round(v, 5) for v in mean.tolist()], latents_std=[round(v, 5) for v in std.tolist()]
    )
    xyz_all = (xyz_all - mean[:, None]) / std[:, None]
    return LatentStatistics(mean=tuple(xyz_all.mean(dim=1).tolist()), std=tuple(xyz_all.std(dim=1).tolist()))


def encode_worlds(codec: LatentCodec, config: TransformerPretraining) -> dict[str, list]:
    """Latents, condition latents, captions and first frames of the training worlds."""
    data: dict[str, list] = {"latents": [], "condition": [], "prompt": [], "image": [], "is_xyz": []}
    with torch.inference_mode():
        for i, seed in enumerate(training_seeds(config.first_seed, config.num_rgb)):
            pair = _pixels(world_pair(seed))
            caption = render_world(seed, num_frames=1, height=8, width=8).caption
            for modality in ("rgb", "xyz")[: 2 if i < config.num_xyz else 1]:
                clip = pair[0:1] if modality == "rgb" else pair[1:2]
                data["latents"].append(codec.encode(clip, modality)[0])
                data["condition"].append(codec.encode_condition(clip[:, :, 0], clip.shape[2])[0])
                data["prompt"].append(caption if modality == "rgb" else styled_prompt(caption))
                data["image"].append(((clip[0, :, 0].permute(1, 2, 0).numpy() + 1) * 127.5).astype(np.uint8))
                data["is_xyz"].append(modality == "xyz")
            if i % 100 == 0:
                print(f"encoded {i} worlds", flush=True)
    return data


class Encoders(nn.Module):
    """Text and image encoder, trained together with the transformer and frozen ever after."""

    def __init__(self, tokenizer: T5Tokenizer):
        super().__init__()
        self.tokenizer = tokenizer
        self.text = UMT5EncoderModel(
            UMT5Config(
                vocab_size=len(tokenizer),
                d_model=64,
                d_kv=16,
                d_ff=128,
                num_layers=2,
                num_heads=4,
                pad_token_id=0,
                eos_token_id=1,
            )
        )
        self.image = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=64,
                intermediate_size=128,
                num_hidden_layers=3,
                num_attention_heads=4,
                image_size=64,
                patch_size=16,
            )
        )
        self.processor = CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})

    def forward(self, prompts: list[str], pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of prompts [B, 512, 64], zero after the last token, and of images [B, 17, 64]."""
        tokens = self.tokenizer(prompts, padding=True, truncation=True, max_length=TEXT_TOKENS, return_tensors="pt")
        text = self.text(tokens.input_ids, tokens.attention_mask).last_hidden_state * tokens.attention_mask[..., None]
        text = nn.functional.pad(text, (0, 0, 0, TEXT_TOKENS - text.shape[1]))
        return text, self.image(pixels, output_hidden_states=True).hidden_states[-2]


def pretrain_transformer(config: TransformerPretraining, vae: AutoencoderKLWan, folder: Path, cache: Path) -> None:
    """Train and write the whole base into `folder` in the Diffusers layout, half precision.

    `cache` keeps the encoded worlds between runs. The log is `training/transformer.jsonl` in `folder`.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    vae.eval().requires_grad_(False)
    statistics = latent_moments(vae)
    codec = LatentCodec(vae, statistics)
    if cache.exists():
        data = _load_cache(cache)
    else:
        data = encode_worlds(codec, config)
        _save_cache(cache, data)
    encoders = Encoders(build_tokenizer())
    transformer = WanTransformer3DModel(**TRANSFORMER_CONFIG)
    model = nn.ModuleDict({"transformer": transformer, "encoders": encoders})
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    images = encoders.processor(images=data["image"], return_tensors="pt").pixel_values
    latents, condition = torch.stack(data["latents"]), torch.stack(data["condition"])
    groups = [np.flatnonzero(np.array(data["is_xyz"]) == flag) for flag in (False, True)]
    hidden_weights, rest = split_parameters(model.named_parameters(), keep=("embed", "proj_out", "scale_shift"))
    optimisers = [
        Muon(hidden_weights, lr=config.rate),
        torch.optim.AdamW(rest, lr=config.rate / 10, betas=(0.9, 0.95), weight_decay=0.01),
    ]
    (folder / "training").mkdir(parents=True, exist_ok=True)
    started, step, recent = time.monotonic(), 0, []
    saved = started
    with open(folder / "training" / "transformer.jsonl", "a") as log:
        log.write(json.dumps({"config": asdict(config), "xyz_statistics": asdict(statistics)}) + "\n")
        while (done := (time.monotonic() - started) / (60 * config.minutes)) < 1:
            factor = min(1.0, (step + 1) / config.warmup) * max(0.02, 0.5 * (1 + np.cos(np.pi * done)))
            for optimiser, peak in zip(optimisers, (config.rate, config.rate / 10), strict=True):
                optimiser.param_groups[0]["lr"] = peak * factor
            chosen = np.array(
                [
                    rng.choice(groups[int(rng.random() < config.xyz_share and len(groups[1]))])
                    for _ in range(config.batch)
                ]
            )
            prompts = ["" if rng.random() < config.caption_dropout else data["prompt"][i] for i in chosen]
            text, image = encoders(prompts, images[chosen])
            clean, noise = latents[chosen], torch.randn(len(chosen), *latents.shape[1:])
            sigma = shifted(torch.rand(len(chosen)), config.flow_shift)
            s = sigma[:, None, None, None, None]
            noisy = (1 - s) * clean + s * noise
            hidden = torch.cat([noisy, guided_mask(clean, 1.0), condition[chosen]], dim=1)
            output = transformer(
                hidden, timestep=sigma * 1000, encoder_hidden_states=text, encoder_hidden_states_image=image
            ).sample
            errors = (output - (noise - clean)).square().mean(dim=(1, 2, 3, 4))
            loss = errors.mean()
            model.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimiser in optimisers:
                optimiser.step()
            step += 1
            with torch.no_grad():
                decay = min(config.ema, step / (step + 10))
                for name, value in model.state_dict().items():
                    if value.dtype.is_floating_point:
                        average[name].lerp_(value, 1 - decay)
            flags = np.array(data["is_xyz"])[chosen]
            recent.append(
                (
                    errors.detach().numpy()[~flags].mean() if (~flags).any() else np.nan,
                    errors.detach().numpy()[flags].mean() if flags.any() else np.nan,
                )
            )
            if step % 50 == 0:
                rgb, xyz = np.nanmean(np.array(recent), axis=0)
                line = {
                    "step": step,
                    "minutes": round((time.monotonic() - started) / 60, 2),
                    "rgb_loss": round(float(rgb), 5),
                    "xyz_loss": round(float(xyz), 5),
                }
                recent = []
                log.write(json.dumps(line) + "\n")
                log.flush()
            if time.monotonic() - saved > 600:
                saved = time.monotonic()
                _save(folder, model, average, vae, config, log, step)
        _save(folder, model, average, vae, config, log, step)


def shifted(sigma: torch.Tensor, shift: float) -> torch.Tensor:
    """Flow-matching noise levels moved towards noise by `shift` (1 leaves them): s -> shift*s / (1 + (shift-1)*s)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def _save(folder, model, average, vae, config, log, step) -> None:
    """Write the averaged weights as a pipeline and log how well it continues held-out worlds."""
    kept = {k: v.detach().clone() for k, v in model.state_dict().items()}
    model.load_state_dict(average)
    model.eval()
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=config.flow_shift
    )
    encoders = model["encoders"]
    pipeline = WanImageToVideoPipeline(
        tokenizer=encoders.tokenizer,
        text_encoder=encoders.text,
        vae=vae,
        scheduler=scheduler,
        image_processor=encoders.processor,
        image_encoder=encoders.image,
        transformer=model["transformer"],
    )
    log.write(json.dumps({"step": step} | measure_base(pipeline)) + "\n")
    log.flush()
    pipeline.to(torch.float16).save_pretrained(folder)
    pipeline.to(torch.float32)
    model.load_state_dict(kept)
    model.train()


def measure_base(pipeline: WanImageToVideoPipeline, *, num_worlds: int = 8, steps: int = 12) -> dict[str, float]:
    """RGB PSNR of frames 2..17 on held-out worlds: generated from first frame and caption, and the frame held still."""
    from PIL import Image

    pipeline.set_progress_bar_config(disable=True)
    generated, still = [], []
    for seed in HELD_OUT_SEEDS[:num_worlds]:
        clip = render_world(seed)
        with torch.inference_mode():
            frames = pipeline(
                image=Image.fromarray(clip.rgb[0]),
                prompt=clip.caption,
                height=64,
                width=96,
                num_frames=17,
                num_inference_steps=steps,
                guidance_scale=1.0,
                generator=torch.Generator().manual_seed(0),
                output_type="np",
            ).frames[0]
        truth = clip.rgb[1:] / 255.0
        generated.append(-10 * np.log10(np.mean((frames[1:] - truth) ** 2)))
        still.append(-10 * np.log10(max(1e-6, np.mean((clip.rgb[:1] / 255.0 - truth) ** 2))))
    return {"generated_psnr_db": round(float(np.mean(generated)), 3), "still_psnr_db": round(float(np.mean(still)), 3)}


def _pixels(pair: tuple[np.ndarray, np.ndarray]) -> torch.Tensor:
    """RGB and XYZ of a world as [2, 3, T, H, W] in [-1, 1]."""
    stacked = np.stack([pair[0] / np.float32(127.5) - 1, pair[1].astype(np.float32)])
    return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 4, 1, 2, 3), dtype=np.float32))


def _save_cache(path: Path, data: dict[str, list]) -> None:
    from safetensors.numpy import save_file

    arrays = {
        "latents": torch.stack(data["latents"]).numpy(),
        "condition": torch.stack(data["condition"]).numpy(),
        "image": np.stack(data["image"]),
        "is_xyz": np.array(data["is_xyz"]),
    }
    save_file(arrays, path, metadata={"prompts": json.dumps(data["prompt"])})


def _load_cache(path: Path) -> dict[str, list]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        prompts = json.loads(file.metadata()["prompts"])
        return {
            "latents": list(file.get_tensor("latents")),
            "condition": list(file.get_tensor("condition")),
            "image": list(file.get_tensor("image").numpy()),
            "is_xyz": file.get_tensor("is_xyz").tolist(),
            "prompt": prompts,
        }
