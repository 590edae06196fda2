"""The 6D pipeline: images and captions in, RGB and XYZ video out."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import WanImageToVideoPipeline
from diffusers.models import WanTransformer3DModel
from diffusers.pipelines.wan.pipeline_wan_i2v import prompt_clean
from safetensors import SafetensorError
from transformers import BatchEncoding

from fourdnex.io.pixels import denormalize_pixels, normalize_pixels
from fourdnex.latents.codec import REFERENCE_STATISTICS, LatentCodec, LatentStatistics
from fourdnex.model import bfloat_linear, bfloat_vae
from fourdnex.model.adapter import Adapter, AdapterInfo, load_adapter
from fourdnex.model.attention_processors import use_fast_cpu_attention
from fourdnex.model.base import Base
from fourdnex.model.block_cache import Passes
from fourdnex.model.conditioning import condition_latents, styled_prompt
from fourdnex.model.denoising import Conditions, denoise, make_scheduler
from fourdnex.model.device_placement import place
from fourdnex.model.distilled_lora import use_distilled_lora
from fourdnex.model.fusion import get_fusion
from fourdnex.model.memory_settings import MemorySettings
from fourdnex.model.option_types import Precision
from fourdnex.model.precision import Resolved, resolve_precision
from fourdnex.model.presets import Preset, get_preset
from fourdnex.model.recipe import Recipe
from fourdnex.model.sampling import SamplingSettings
from fourdnex.model.text_padding import TEXT_TOKENS, compact_text_padding
from fourdnex.model.transformer import SixDTransformer
from fourdnex.model.vae_threads import map_clips
from fourdnex.quiet import hide_progress_bars


@dataclass(frozen=True, eq=False)
class SixDVideo:
    """A batch of generated clips."""

    rgb: np.ndarray  # [B, T, H, W, 3] uint8
    xyz: np.ndarray  # [B, T, H, W, 3] float32, normalized point maps in [-1, 1]
    passes: tuple[Passes, ...]  # B; those that images took together count for each


class SixDPipeline(WanImageToVideoPipeline):
    """Diffusers' Wan image-to-video pipeline over joined RGB and XYZ latents.

    The folder layout, the encoders and the scheduler are Wan's. `statistics` are those of the XYZ latents; `recipe` is
    what the adapter was trained with, `precision` what transformer and, on a CPU, VAE compute in.
    """

    recipe: Recipe = Recipe()
    statistics: LatentStatistics = REFERENCE_STATISTICS
    adapter_info: AdapterInfo | None = None
    precision: Resolved = "fp32"

    @torch.inference_mode()
    def generate(
        self,
        images: np.ndarray,
        prompts: list[str],
        *,
        num_frames: int,
        seeds: list[int],
        sampling: SamplingSettings,
        first_pointmaps: np.ndarray | None = None,
    ) -> SixDVideo:
        """Generate a clip for each image.

        Args:
            images: [B, H, W, 3] uint8, already at the working size.
            prompts: B captions, without the style word.
            num_frames: 4k+1.
            seeds: B seeds; an image's clip does not depend on the batch it is in.
            sampling: steps, guidance and all else between noise and latents.
            first_pointmaps: [B, H, W, 3] point maps of the images in their cameras' frames, in any unit; for an adapter that was
                trained with a given start, and for no other.

        Raises:
            ValueError: if the numbers of images, prompts and seeds differ, a size or a step-distilled LoRA does not
                fit, a prompt is too long, the cache never helped, or `first_pointmaps` are there or missing against the recipe.
        """
        self.recipe.check_first_pointmaps(first_pointmaps is not None)
        self.check_prompts(prompts)
        use_distilled_lora(self, sampling.distilled_lora, sampling.distilled_scale)
        if not len(images) == len(prompts) == len(seeds):
            raise ValueError(f"prompts, seeds: expected {len(images)} of each, got {len(prompts)} and {len(seeds)}")
        fusion = get_fusion(self.transformer.config.fusion)
        codec = LatentCodec(self.vae, self.statistics)
        device, dtype = self._execution_device, self.transformer.dtype
        pixels = normalize_pixels(torch.from_numpy(images).permute(0, 3, 1, 2).to(device))
        choices: dict[str, Any] = {"xyz_mask": self.recipe.xyz_mask, "condition": self.recipe.condition}
        condition = condition_latents(
            pixels, self.vae, num_frames, fusion.name, first_pointmaps=first_pointmaps, **choices
        ).to(dtype)
        text = self._embed([styled_prompt(prompt) for prompt in prompts], device, dtype)
        no_text = self._embed([""], device, dtype).expand_as(text) if sampling.is_guided else None
        image_embeds = self.encode_image(list(images), device).to(dtype)
        conditions = Conditions(condition, text, no_text, image_embeds)
        # A cache takes one decision for all that run together: an image's clip is its own only if it runs alone.
        size = 1 if sampling.cache_threshold else len(images)
        parts = [(start, min(start + size, len(images))) for start in range(0, len(images), size)]
        shape = (self.vae.config.z_dim, *fusion.split(condition)[0].shape[2:])
        sampled = [self._sample(shape, seeds[a:b], conditions.rows(a, b), sampling) for a, b in parts]
        if sampling.cache_threshold and not any(passes.cache_hits for _, passes in sampled):
            raise ValueError(
                f"cache_threshold: {sampling.cache_threshold} gave no cache hit in "
                f"{sum(passes.total for _, passes in sampled)} forward passes; raise it, or set 0 for no cache"
            )
        rgb_latents, xyz_latents = fusion.split(torch.cat([latents for latents, _ in sampled]))
        pairs = list(zip(rgb_latents.split(1), xyz_latents.split(1), strict=True))
        decoded = map_clips(lambda own, pair: own.decode_both(*pair, self.recipe.decode), pairs, codec)
        rgb_video, xyz_video = (torch.cat(videos) for videos in zip(*decoded, strict=True))
        return SixDVideo(
            rgb=denormalize_pixels(rgb_video).permute(0, 2, 3, 4, 1).cpu().numpy(),
            xyz=xyz_video.float().permute(0, 2, 3, 4, 1).cpu().numpy(),
            passes=tuple(passes for (a, b), (_, passes) in zip(parts, sampled, strict=True) for _ in range(a, b)),
        )

    def check_prompts(self, prompts: list[str]) -> None:
        """Raises ValueError for a prompt of which the text encoder would not see the end, where the style word is."""
        for number, prompt in enumerate(prompts):
            self.tokens(prompt, f"prompts[{number}]")

    def tokens(self, caption: str, name: str = "caption") -> BatchEncoding:
        """Tokens of a caption and the style word, cleaned as diffusers cleans prompts, without padding; one row.

        Raises:
            ValueError: naming the caption by `name`, if the text encoder would not see its end.
        """
        tokens = self.tokenizer(prompt_clean(styled_prompt(caption)), return_tensors="pt", verbose=False)
        if (count := tokens.input_ids.shape[1]) > TEXT_TOKENS:
            raise ValueError(
                f"{name}: expected at most {TEXT_TOKENS} tokens with the style word, "
                f"got {count} in {len(caption)} characters"
            )
        return tokens

    def _embed(self, texts: list[str], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Text embeddings [B, 512, D]; equal texts are encoded once."""
        different = list(dict.fromkeys(texts))
        embedded, _ = self.encode_prompt(
            different,
            do_classifier_free_guidance=False,
            max_sequence_length=TEXT_TOKENS,
            device=device,
            dtype=dtype,
        )
        return embedded[[different.index(text) for text in texts]]

    def _sample(
        self, shape: tuple[int, ...], seeds: list[int], conditions: Conditions, sampling: SamplingSettings
    ) -> tuple[torch.Tensor, Passes]:
        """Mean latents of the ensemble, joined, and the forward passes it took; `shape` is one modality's."""
        scheduler = make_scheduler(self.scheduler, sampling)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        total, passes = torch.zeros((), device=conditions.text.device), Passes()
        for _ in range(sampling.ensemble_size):
            # RGB and XYZ: a seed draws the same for both in every fusion
            drawn = torch.stack([torch.randn((2, *shape), generator=generator) for generator in generators])
            noise = self.transformer.fusion.join(drawn[:, 0], drawn[:, 1]).to(total.device)
            latents, taken = denoise(self.transformer, scheduler, noise, conditions, sampling)
            total, passes = total + latents, passes + taken
        return total / sampling.ensemble_size, passes


def load_pipeline(
    model: str | Path | Base = "tiny",
    adapter: str | Path | Adapter | None = None,
    *,
    device: str | None = None,
    scale: float | None = None,
    memory: MemorySettings | None = None,
) -> tuple[SixDPipeline, Preset]:
    """Load a base and, if given, an adapter on it.

    Device defaults to the GPU if there is one. `memory` says in which precision the base runs, and what to do when not
    all fits there. In bfloat16 on a GPU all weights of the transformer are, and the VAE is in float32, as in diffusers'
    own Wan example; on a CPU the matrix products and convolutions of both are, and what is between them in float32.
    Pixels, latents and the image encoder are in float32 everywhere: 8 bits of a coordinate are too few.

    Raises:
        ValueError: if a file of the base is cut short, or the adapter was trained on another base or does not fit.
    """
    base = Base.resolve(model)
    preset = base.preset
    adapter = Adapter.read(adapter) if adapter is not None else None
    if adapter is not None:
        _check_base(adapter.info, base)
    recipe = adapter.info if adapter is not None else Recipe()
    memory = memory or MemorySettings()
    device, precision = _where(device, memory.precision)
    dtype = _weights(device, precision)
    wan = WanTransformer3DModel.from_pretrained(preset.location, subfolder="transformer", dtype=dtype)
    transformer = SixDTransformer.from_base(wan, fusion=recipe.fusion, positions=recipe.positions).eval()
    pipeline = _read(preset, transformer, dtype)
    pipeline.precision = precision
    if device == "cpu":
        compact_text_padding(transformer)
    if adapter is not None:
        info = load_adapter(transformer, adapter, scale)
        pipeline.recipe = info
        pipeline.statistics = info.statistics
        pipeline.adapter_info = info
    place(pipeline, memory, device=device)
    if device == "cpu" and precision == "bf16":
        bfloat_vae.use_bfloat16(pipeline.vae)
        if not memory.fp8_storage:
            bfloat_linear.use_bfloat16(transformer)
            bfloat_linear.merge_all_lora(transformer)
            use_fast_cpu_attention(transformer, bfloat16=True)
    return pipeline, preset


def load_encoders(
    model: str | Path = "tiny", *, device: str | None = None, precision: Precision = "auto"
) -> tuple[SixDPipeline, Preset]:
    """A base without its transformer, which nine tenths of a large one are: all that encoding clips needs.

    Device and precision are `load_pipeline`'s.
    """
    preset = get_preset(model)
    device, precision = _where(device, precision)
    pipeline = _read(preset, None, _weights(device, precision)).to(device)
    pipeline.precision = precision
    if device == "cpu" and precision == "bf16":
        bfloat_vae.use_bfloat16(pipeline.vae)
    return pipeline, preset


def _where(device: str | None, precision: Precision) -> tuple[str, Resolved]:
    """Device and precision: as asked for, or what the machine has."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return device, resolve_precision(precision, device)


def _weights(device: str, precision: Resolved) -> torch.dtype:
    return torch.bfloat16 if precision == "bf16" and device != "cpu" else torch.float32


def _read(preset: Preset, transformer: SixDTransformer | None, dtype: torch.dtype) -> SixDPipeline:
    """The base's other parts around `transformer`, in host memory: VAE and image encoder in float32."""
    dtypes = {"default": dtype, "vae": torch.float32, "image_encoder": torch.float32}
    try:
        with hide_progress_bars() if preset.is_local else nullcontext():
            pipeline = SixDPipeline.from_pretrained(preset.location, transformer=transformer, dtype=dtypes)
    except SafetensorError as error:
        raise ValueError(f"model: {preset.location}: expected whole safetensors files, got {error}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _check_base(info: AdapterInfo, base: Base) -> None:
    """Raise ValueError if the adapter was trained on another base."""
    if info.base_digest and info.base_digest != base.digest:
        raise ValueError(
            f"adapter: trained on base {info.base_name} {info.base_digest[:12]}, "
            f"got {base.preset.name} {base.digest[:12]}"
        )
