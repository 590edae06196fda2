"""The sampling loop: from noise to latents, with classifier-free guidance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SchedulerMixin, UniPCMultistepScheduler

from fourdnex.model.block_cache import Passes, counted_passes
from fourdnex.model.sampling import SamplingSettings
from fourdnex.model.transformer import SixDTransformer


@dataclass(frozen=True, eq=False)
class Conditions:
    """Conditions of the transformer, one row per image."""

    channels: torch.Tensor  # [B, 4 + C, F, ...] guided mask and condition latents, joined
    text: torch.Tensor  # [B, 512, D]
    no_text: torch.Tensor | None  # [B, 512, D], of the empty prompt; None without guidance
    image: torch.Tensor  # [B, N, D']

    def rows(self, start: int, end: int) -> Conditions:
        """Conditions of images `start` to `end`; joined channels may have several adjacent rows per image."""
        rows = len(self.channels) // len(self.text)
        return Conditions(
            channels=self.channels[start * rows : end * rows],
            text=self.text[start:end],
            no_text=None if self.no_text is None else self.no_text[start:end],
            image=self.image[start:end],
        )


def denoise(
    transformer: SixDTransformer,
    scheduler: UniPCMultistepScheduler | FlowMatchEulerDiscreteScheduler,
    noise: torch.Tensor,
    conditions: Conditions,
    settings: SamplingSettings,
) -> tuple[torch.Tensor, Passes]:
    """Sample latents from joined `noise` [B, C, F, ...]: float32 latents of the same shape, and the forward passes."""
    set_steps(scheduler, settings, noise.device)
    latents = noise
    with counted_passes(transformer, settings.cache_threshold) as passes:
        for timestep in scheduler.timesteps:
            guided = settings.guides_at(float(timestep) / scheduler.config.num_train_timesteps)
            velocity = _velocity(transformer, latents, timestep, conditions, settings, guided)
            latents = scheduler.step(velocity.float(), timestep, latents, return_dict=False)[0]
    return latents, passes


def make_scheduler(
    base: SchedulerMixin, settings: SamplingSettings
) -> UniPCMultistepScheduler | FlowMatchEulerDiscreteScheduler:
    """Create a scheduler for one run, so that runs do not share its state."""
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
    """Set the steps of a run. Euler steps are 1, (n-1)/n ... 1/n before the shift, as in step distillation."""
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
    """Predicted velocity, with guidance if `guided`."""
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
        both = run("both", torch.cat([hidden, hidden]), torch.cat([conditions.text, conditions.no_text]), 2)
        conditional, unconditional = both.chunk(2)
    else:
        conditional = run("cond", hidden, conditions.text)
        unconditional = run("uncond", hidden, conditions.no_text)
    return unconditional + settings.guidance_scale * (conditional - unconditional)
