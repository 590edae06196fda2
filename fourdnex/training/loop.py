"""The steps of a fine-tuning run: draw, forward, backward, update, average, log, checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator

from fourdnex.training.checkpoint import save_checkpoint
from fourdnex.training.latent_shards import LatentClips
from fourdnex.training.settings import LoraTraining
from fourdnex.training.steps import draw, flow_matching_loss, learning_rate_factor

if TYPE_CHECKING:
    from fourdnex.tracking import TrackingRun

LOG_EVERY = 10


class TrainingInterrupted(Exception):
    """The process was asked to end; a checkpoint was written."""


@dataclass(kw_only=True, eq=False)
class TrainingLoop:
    """What a run works with, and the steps from `state["step"]` to the last."""

    config: LoraTraining
    accelerator: Accelerator
    model: torch.nn.Module
    optimiser: Any  # accelerate's wrapper
    parameters: dict[str, torch.nn.Parameter]
    """Those that are trained, by name."""
    averages: dict[str, torch.Tensor]
    """Their exponential moving averages, updated in place."""
    clips: LatentClips
    state: dict[str, Any]
    """`step`, the `losses` so far, and what else a checkpoint keeps."""
    checkpoint: Path
    log: Path
    run: TrackingRun | None
    _recent: list[torch.Tensor] = field(default_factory=list)

    def go(self, asked_to_end: Callable[[], bool]) -> None:
        """Train until the last step.

        Raises:
            ValueError: if the loss is not finite; the message names the clips of that step.
            TrainingInterrupted: when `asked_to_end` says so, after a checkpoint.
        """
        from tqdm import tqdm

        main, state, config = self.accelerator.is_main_process, self.state, self.config
        with tqdm(total=config.steps, initial=state["step"], desc="LoRA", disable=not main, mininterval=2.0) as bar:
            while state["step"] < config.steps:
                loss, parts = self._step(state["step"])
                self._average(state["step"])
                state["step"] += 1
                state["losses"].append(round(loss, 6))
                self._recent.append(parts)
                bar.update()
                if state["step"] % LOG_EVERY == 0 or state["step"] == config.steps:
                    rgb, xyz = self._write_log()
                    bar.set_postfix(rgb=f"{rgb:.4f}", xyz=f"{xyz:.4f}")
                ending = asked_to_end()
                if main and (ending or state["step"] % config.checkpoint_every == 0):
                    save_checkpoint(
                        self.checkpoint,
                        parameters=self.parameters,
                        averages=self.averages,
                        optimiser=self.optimiser.optimizer,
                        state=state,
                    )
                if ending:
                    raise TrainingInterrupted(
                        f"training was asked to end at step {state['step']}; the checkpoint is {self.checkpoint}"
                    )

    def _step(self, step: int) -> tuple[float, torch.Tensor]:
        """One update; this process's loss, and the errors of RGB and XYZ [2]."""
        config, accelerator = self.config, self.accelerator
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(config, step)
        chosen, sigma, noise = draw(config, self.clips, step)
        share = config.batch_size // (accelerator.num_processes * config.gradient_accumulation)
        step_loss, step_parts = 0.0, torch.zeros(2)
        for part in range(config.gradient_accumulation):
            offset = (part * accelerator.num_processes + accelerator.process_index) * share
            own = slice(offset, offset + share)
            items = [self.clips[i] for i in chosen[own]]
            batch = {
                key: torch.stack([item[key] for item in items]).to(accelerator.device)
                for key in ("latents", "condition", "text", "image")
            }
            with accelerator.accumulate(self.model), accelerator.autocast():
                loss, parts = flow_matching_loss(
                    self.model,
                    batch,
                    sigma=sigma[own].to(accelerator.device),
                    noise=noise[own].to(accelerator.device),
                    fusion=config.fusion,
                    xyz_weight=config.xyz_weight,
                    xyz_mask=config.xyz_mask,
                )
                if not torch.isfinite(loss):
                    names = [item["name"] for item in items]
                    raise ValueError(f"loss: expected a finite number at step {step}, got {loss.item()} on {names}")
                accelerator.backward(loss)
                if accelerator.sync_gradients:  # clipping unscales fp16 first
                    accelerator.clip_grad_norm_(list(self.parameters.values()), config.max_grad_norm)
                self.optimiser.step()
                self.optimiser.zero_grad()
            step_loss += loss.item() / config.gradient_accumulation
            step_parts += parts.cpu() / config.gradient_accumulation
        return step_loss, step_parts

    @torch.no_grad()
    def _average(self, step: int) -> None:
        decay = min(self.config.ema, (step + 1) / (step + 10)) if self.config.ema else 0.0
        for name, value in self.parameters.items():
            self.averages[name].lerp_(value.detach().float(), 1 - decay)

    def _write_log(self) -> tuple[float, float]:
        """Log the means since the last line; returns the errors of RGB and XYZ."""
        rgb, xyz = torch.stack(self._recent).mean(dim=0).tolist()
        self._recent.clear()
        losses = self.state["losses"][-LOG_EVERY:]
        line = {
            "loss": sum(losses) / len(losses),
            "rgb_loss": rgb,
            "xyz_loss": xyz,
            "learning_rate": self.optimiser.param_groups[0]["lr"],
        }
        if self.accelerator.is_main_process:
            with open(self.log, "a") as log:
                log.write(json.dumps({"step": self.state["step"], **line}) + "\n")
        if self.run:
            self.run.log_metrics(line, step=self.state["step"])
        return rgb, xyz
