"""The 6D pipeline: generates RGB and XYZ video from images and captions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import WanImageToVideoPipeline
from diffusers.models import WanTransformer3DModel
from transformers import BatchEncoding

from fourdnex.io.pixels import denormalize_pixels, normalize_pixels
from fourdnex.latents.codec import REFERENCE_STATISTICS, LatentCodec, LatentStatistics
from fourdnex.model import bfloat_linear, bfloat_vae
from fourdnex.model.adapter import Adapter, AdapterInfo, load_adapter
from fourdnex.model.attention_processors import use_fast_cpu_attention
from fourdnex.model.base import Base
from fourdnex.model.base_loading import load_components, resolve_device, weight_dtype
from fourdnex.model.block_cache import Passes
from fourdnex.model.captions import tokenize_caption
from fourdnex.model.conditioning import condition_latents, styled_prompt
from fourdnex.model.denoising import Conditions, denoise, make_scheduler
from fourdnex.model.device_placement import place
from fourdnex.model.distilled_lora import use_distilled_lora
from fourdnex.model.fusion import get_fusion
from fourdnex.model.memory_settings import MemorySettings
from fourdnex.model.precision import Resolved
from fourdnex.model.presets import Preset
from fourdnex.model.recipe import Recipe
from fourdnex.model.sampling import SamplingSettings
from fourdnex.model.text_padding import TEXT_TOKENS, compact_text_padding
from fourdnex.model.transformer import SixDTransformer
from fourdnex.model.vae_threads import map_clips


@dataclass(frozen=True, eq=False)
class SixDVideo:
    """A batch of generated clips."""

    rgb: np.ndarray  # [B, T, H, W, 3] uint8
    xyz: np.ndarray  # [B, T, H, W, 3] float32, normalized point maps in [-1, 1]
    passes: tuple[Passes, ...]  # B; shared passes count for each image


class SixDPipeline(WanImageToVideoPipeline):  # type: ignore[misc]
    """Diffusers' Wan image-to-video pipeline over joined RGB and XYZ latents.

    Folder layout, encoders and scheduler are those of Wan.

    Attributes:
        recipe: the adapter's recipe.
        statistics: statistics of XYZ latents.
        adapter_info: metadata of the adapter; None without one.
        precision: compute precision of the transformer, and on a CPU also of the VAE.
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
        """Generate one clip per image.

        Args:
            images: [B, H, W, 3] uint8, at the size to generate.
            prompts: B captions, without the style suffix.
            num_frames: number of frames, 4k+1.
            seeds: B seeds; a clip depends on its seed, not on the other images of the batch.
            sampling: sampling steps, guidance and other sampling settings.
            first_pointmaps: [B, H, W, 3] point maps of the images in their cameras' frames, in any unit. Required if
                the adapter's `xyz_init` is "pointmap", not allowed otherwise.

        Raises:
            ValueError: if the numbers of images, prompts and seeds differ, the size is not supported, a step-distilled
                LoRA does not fit, a prompt is too long, the cache had no hits, or `first_pointmaps` does not agree with
                the recipe.
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
        # The cache decides for the whole batch: with a cache, images run one by one to be independent of each other.
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
        """Raise ValueError for prompts that are too long for the text encoder, which would cut the style suffix."""
        for number, prompt in enumerate(prompts):
            self.tokens(prompt, f"prompts[{number}]")

    def tokens(self, caption: str, name: str = "caption") -> BatchEncoding:
        """Tokenize a caption with the style suffix, cleaned as in diffusers, without padding; one row.

        Raises:
            ValueError: if the text is too long for the text encoder; the message names the caption by `name`.
        """
        return tokenize_caption(self.tokenizer, caption, name)

    def _embed(self, texts: list[str], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Text embeddings [B, 512, D]; equal texts are encoded once."""
        unique = list(dict.fromkeys(texts))
        embedded, _ = self.encode_prompt(
            unique,
            do_classifier_free_guidance=False,
            max_sequence_length=TEXT_TOKENS,
            device=device,
            dtype=dtype,
        )
        return embedded[[unique.index(text) for text in texts]]

    def _sample(
        self, shape: tuple[int, ...], seeds: list[int], conditions: Conditions, sampling: SamplingSettings
    ) -> tuple[torch.Tensor, Passes]:
        """Mean joined latents of the ensemble, and its forward passes; `shape` is that of one modality."""
        scheduler = make_scheduler(self.scheduler, sampling)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        total, passes = torch.zeros((), device=conditions.text.device), Passes()
        for _ in range(sampling.ensemble_size):
            # RGB and XYZ: the same noise for a seed in every fusion
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
    """Load a base and, optionally, an adapter.

    With precision bf16 on a GPU, all weights of the transformer are in bfloat16 and the VAE is in float32, as in
    diffusers' Wan example. On a CPU, matrix products and convolutions of both compute in bfloat16, and everything else
    in float32. Pixels, latents and the image encoder are always in float32: the 8-bit mantissa of bfloat16 is too
    coarse for coordinates.

    Args:
        model: preset or folder of the base.
        adapter: adapter, or its folder.
        device: default: the GPU if there is one, else the CPU.
        scale: scale of the adapter's weight update; None takes alpha / rank.
        memory: compute precision and memory options.

    Raises:
        ValueError: if a file of the base is truncated, or the adapter was trained on another base or does not fit.
    """
    base = Base.resolve(model)
    preset = base.preset
    adapter = Adapter.read(adapter) if adapter is not None else None
    if adapter is not None:
        _check_base(adapter.info, base)
    recipe = adapter.info if adapter is not None else Recipe()
    memory = memory or MemorySettings()
    device, precision = resolve_device(device, memory.precision)
    dtype = weight_dtype(device, precision)
    wan = WanTransformer3DModel.from_pretrained(preset.location, subfolder="transformer", dtype=dtype)
    transformer = SixDTransformer.from_base(wan, fusion=recipe.fusion, positions=recipe.positions).eval()
    pipeline = load_components(SixDPipeline, preset, transformer, dtype)
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


def _check_base(info: AdapterInfo, base: Base) -> None:
    """Raise ValueError if the adapter was trained on another base."""
    if info.base_digest and info.base_digest != base.digest:
        raise ValueError(
            f"adapter: trained on base {info.base_name} {info.base_digest[:12]}, "
            f"got {base.preset.name} {base.digest[:12]}"
        )
