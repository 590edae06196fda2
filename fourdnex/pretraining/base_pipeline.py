"""The pipeline of a base in pretraining, and its measurement on held-out worlds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanImageToVideoPipeline, WanTransformer3DModel

from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.metrics.psnr import psnr
from fourdnex.pretraining.conditioning_encoders import ConditioningEncoders


def make_pipeline(
    transformer: WanTransformer3DModel, encoders: ConditioningEncoders, vae: AutoencoderKLWan
) -> WanImageToVideoPipeline:
    """An image-to-video pipeline of these components."""
    return WanImageToVideoPipeline(
        tokenizer=encoders.tokenizer,
        text_encoder=encoders.text,
        image_encoder=encoders.image,
        image_processor=encoders.processor,
        vae=vae,
        transformer=transformer,
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0),
    )


def measure_base(
    pipeline: WanImageToVideoPipeline, *, num_worlds: int = 8, steps: int = 12, size: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """Mean RGB PSNR in dB on held-out worlds, without the first frame.

    Args:
        pipeline: continues the first frame of each world, given its caption. Its tokenizer keeps the padding that is
            set here.
        num_worlds: number of held-out worlds.
        steps: denoising steps.
        size: arguments of `render_world`; None is the size of the tiny base.

    Returns:
        `generated_psnr_db`, and `static_psnr_db` of the static-first-frame baseline.
    """
    from PIL import Image

    pipeline.set_progress_bar_config(disable=True)
    generated, static = [], []
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
        static.append(psnr(np.broadcast_to(clip.rgb[:1] / 255.0, truth.shape), truth, data_range=1.0, max_db=60.0))
    return {
        "generated_psnr_db": round(float(np.mean(generated)), 3),
        "static_psnr_db": round(float(np.mean(static)), 3),
    }
