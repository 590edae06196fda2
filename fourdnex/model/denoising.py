"""The sampling loop: from noise to latents, under guidance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SchedulerMixin, UniPCMultistepScheduler

from fourdnex.model.fusion import Fusion
from fourdnex.model.sampling import SamplingSettings
from fourdnex.model.transformer import SixDTransformer


@dataclass(frozen=True, eq=False)
class Conditions:
    """What the transformer is told, a row a picture."""

    channels: torch.Tensor  # [B, 4 + C, F, ...] guided mask and condition latents, joined
    text: torch.Tensor  # [B, 512, D]
    no_text: torch.Tensor | None  # [B, 512, D], the empty prompt's; None without guidance
    image: torch.Tensor  # [B, N, D']


def denoise(
    transformer: SixDTransformer,
    scheduler: UniPCMultistepScheduler | FlowMatchEulerDiscreteScheduler,
    noise: torch.Tensor,
    conditions: Conditions,
    settings: SamplingSettings,
) -> torch.Tensor:
    """Latents of the shape of `noise` [B, C, F, ...] (joined), float32."""
    set_steps(scheduler, settings, noise.device)
    latents = noise
    for timestep in scheduler.timesteps:
        guided = settings.guides_at(float(timestep) / scheduler.config.num_train_timesteps)
        velocity = _velocity(transformer, latents, timestep, conditions, settings, guided)
        latents = scheduler.step(velocity.float(), timestep, latents, return_dict=False)[0]
    return latents


def make_scheduler(
    base: SchedulerMixin, settings: SamplingSettings
) -> UniPCMultistepScheduler | FlowMatchEulerDiscreteScheduler:
    """A scheduler of its own for one run, so that runs do not share its history."""
    config = base.config
    shift = config.flow_shift if settings.flow_shift is None else settings.flow_shift
    if settings.scheduler == "euler":
        return FlowMatchEulerDiscreteScheduler(num_train_timesteps=config.num_train_timesteps, shift=shift)
    return UniPCMultistepScheduler.from_config(config, flow_shift=shift)


def set_steps(
    scheduler: UniPCMultistepScheduler | FlowMatchEulerDiscreteScheduler,
    settings: SamplingSettings,
    device: torch.device,
) -> None:
    """Begin a run. Euler steps are 1, (n-1)/n ... 1/n before their shift: what step distillation teaches."""
    count = settings.num_inference_steps
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        scheduler.set_timesteps(sigmas=[1 - i / count for i in range(count)], device=device)
    else:
        scheduler.set_timesteps(count, device=device)


def _velocity(
    transformer: SixDTransformer,
    latents: torch.Tensor,
    timestep: torch.Tensor,
    conditions: Conditions,
    settings: SamplingSettings,
    guided: bool,
) -> torch.Tensor:
    hidden = torch.cat([latents.to(conditions.channels.dtype), conditions.channels], dim=1)
    times = timestep.expand(len(conditions.text))

    def run(name: str, hidden: torch.Tensor, text: torch.Tensor, copies: int = 1) -> torch.Tensor:
        image = torch.cat([conditions.image] * copies)
        with transformer.cache_context(name):
            return transformer(hidden, times.repeat(copies), text, image, return_dict=False)[0]

    if not guided:
        return run("cond", hidden, conditions.text)
    assert conditions.no_text is not None
    if settings.joint_guidance:
        both = run("both", _twice(hidden, transformer.fusion), torch.cat([conditions.text, conditions.no_text]), 2)
        told, free = _halves(both, transformer.fusion)
    else:
        told, free = run("cond", hidden, conditions.text), run("uncond", hidden, conditions.no_text)
    return free + settings.guidance_scale * (told - free)


def _twice(joined: torch.Tensor, fusion: Fusion) -> torch.Tensor:
    """A joined batch and the same again; in every fusion an RGB row keeps its XYZ partner."""
    rgb, xyz = fusion.split(joined)
    return fusion.join(torch.cat([rgb, rgb]), torch.cat([xyz, xyz]))


def _halves(joined: torch.Tensor, fusion: Fusion) -> tuple[torch.Tensor, torch.Tensor]:
    """Inverse of joining two batches: the first and the second."""
    (rgb_a, rgb_b), (xyz_a, xyz_b) = (part.chunk(2) for part in fusion.split(joined))
    return fusion.join(rgb_a, xyz_a), fusion.join(rgb_b, xyz_b)
