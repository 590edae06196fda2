"""The loop of a fine-tuning run: batches, forward, backward, update, averaged weights, log and checkpoints."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator

from fourdnex.latents.dataset import LatentClips
from fourdnex.model.sharding import local_shard, unsharded
from fourdnex.training.batches import collate, draw_batch
from fourdnex.training.checkpoint import Checkpoints, collect
from fourdnex.training.interruption import TrainingInterrupted
from fourdnex.training.lora_settings import LoraTraining
from fourdnex.training.loss import flow_matching_loss
from fourdnex.training.lr_schedule import warmup_then_decay

if TYPE_CHECKING:
    from fourdnex.tracking import TrackingRun

LOG_EVERY = 10
"""Steps between two log lines."""


@dataclass(kw_only=True, eq=False)
class TrainingLoop:
    """A run from step `state["step"]` to its last step."""

    config: LoraTraining
    accelerator: Accelerator
    model: torch.nn.Module
    optimizer: Any  # accelerate's wrapper
    parameters: dict[str, torch.nn.Parameter]
    """The trained parameters, by name."""
    averages: dict[str, torch.Tensor]
    """Exponential moving averages of the parameters, updated in place."""
    clips: LatentClips
    state: dict[str, Any]
    """State in checkpoints: `step`, `losses` (loss, RGB, XYZ and gradient norm of each step so far), and more."""
    checkpoints: Checkpoints
    log: Path
    tracking: TrackingRun | None = None
    _unread: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)

    def run(self, stop_requested: Callable[[], bool]) -> None:
        """Train to the last step.

        Raises:
            ValueError: the loss is not finite; the message names the clips of the step.
            TrainingInterrupted: `stop_requested` returned True; a checkpoint was written.
        """
        from tqdm import tqdm

        main, state, config = self.accelerator.is_main_process, self.state, self.config
        seconds = 2.0 if sys.stderr.isatty() else 15.0  # a log file keeps every update of the bar
        with tqdm(total=config.steps, initial=state["step"], desc="LoRA", disable=not main, mininterval=seconds) as bar:
            while state["step"] < config.steps:
                self._unread.append(self.update(state["step"]))
                state["step"] += 1
                bar.update()
                is_last, stopping = state["step"] == config.steps, self._in_any_process(stop_requested())
                is_logged = self._is_logged(state["step"])
                is_saved = is_last or stopping or state["step"] % config.checkpoint_every == 0
                if is_logged or is_saved:
                    self._read_losses()
                if is_logged:
                    line = self._write_log(state["step"])
                    if self.tracking:
                        self.tracking.log_metrics(line, step=state["step"])
                    bar.set_postfix(rgb=f"{line['rgb_loss']:.4f}", xyz=f"{line['xyz_loss']:.4f}", refresh=False)
                if is_saved:
                    self._save_checkpoint()
                if stopping:
                    raise TrainingInterrupted(
                        f"training was interrupted at step {state['step']}; "
                        f"its checkpoint is in {self.checkpoints.folder}"
                    )

    def begin_log(self) -> None:
        """Write the log lines of all steps done so far to a new log, since the file may be from another run."""
        self.log.unlink(missing_ok=True)
        for step in filter(self._is_logged, range(1, self.state["step"] + 1)):
            self._write_log(step)

    def update(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One step of the optimizer and of the averages.

        The results stay on the device, so that a single process does not wait for it. Several processes do: after each
        step they exchange whether to stop.

        Returns:
            Loss and errors of RGB and XYZ in this process [accumulation, 3], and the gradient norm.
        """
        config, accelerator = self.config, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(step)
        chosen, sigma, noise = draw_batch(config, self.clips, step)
        share = config.batch_size // (accelerator.num_processes * config.gradient_accumulation)
        losses, norm = [], torch.zeros(())
        for part in range(config.gradient_accumulation):
            offset = (part * accelerator.num_processes + accelerator.process_index) * share
            local = slice(offset, offset + share)
            items = [self.clips[i] for i in chosen[local]]
            batch = {key: value.to(accelerator.device) for key, value in collate(items).items()}
            with accelerator.accumulate(self.model):
                with accelerator.autocast():
                    loss, parts = flow_matching_loss(
                        self.model,
                        batch,
                        sigma=sigma[local].to(accelerator.device),
                        noise=noise[local].to(accelerator.device),
                        fusion=config.fusion,
                        xyz_weight=config.xyz_weight,
                        xyz_mask=config.xyz_mask,
                    )
                accelerator.backward(loss)
                if accelerator.sync_gradients:  # clipping unscales the gradients of fp16 first
                    norm = accelerator.clip_grad_norm_(list(self.parameters.values()), config.max_grad_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
            losses.append(torch.cat([loss.detach()[None], parts]))
        self._update_averages(step)
        return torch.stack(losses), norm

    @torch.no_grad()
    def use_averages(self) -> None:
        """Replace the parameters by their averages."""
        for name, value in self.parameters.items():
            value.copy_(self.averages[name])

    def _learning_rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        config = self.config
        return config.learning_rate * warmup_then_decay(
            step, total_steps=config.steps, warmup_steps=config.warmup_steps, schedule=config.schedule
        )

    @torch.no_grad()
    def _update_averages(self, step: int) -> None:
        """Update the averages after a step; their decay rises from 0.1 to `ema`."""
        decay = min(self.config.ema, (step + 1) / (step + 10)) if self.config.ema else 0.0
        averages = [local_shard(value) for value in self.averages.values()]
        torch._foreach_lerp_(averages, [local_shard(value) for value in self.parameters.values()], 1 - decay)

    def _read_losses(self) -> None:
        """Append the losses since the last call to the state, averaged over the processes.

        Raises:
            ValueError: a loss or a gradient norm is not finite; raised in all processes.
        """
        if not self._unread:
            return
        losses = self.accelerator.reduce(torch.stack([losses for losses, _ in self._unread]), "mean").cpu()
        norms = torch.stack([unsharded(norm) for _, norm in self._unread]).cpu()
        self._unread.clear()
        first = self.state["step"] - len(losses)
        for index, (parts, norm) in enumerate(zip(losses, norms, strict=True)):
            finite = parts.isfinite().all(dim=1)
            if not finite.all():
                part = int(finite.int().argmin())
                self._raise_not_finite("loss", parts[part, 0].item(), first + index, part=part)
            if not norm.isfinite() and self.accelerator.scaler is None:  # a gradient scaler skips such steps
                self._raise_not_finite("gradient", norm.item(), first + index)
            row = [*parts.mean(dim=0).tolist(), norm.item()]
            self.state["losses"].append([round(value, 6) for value in row])

    def _raise_not_finite(self, what: str, value: float, step: int, part: int | None = None) -> None:
        """Raise ValueError with the clips of a step, or of one part of its accumulation."""
        chosen, _, _ = draw_batch(self.config, self.clips, step)
        if part is not None:
            size = len(chosen) // self.config.gradient_accumulation
            chosen = chosen[part * size : (part + 1) * size]
        names = [self.clips.index[i][1] for i in chosen]
        raise ValueError(f"{what}: expected a finite number at step {step}, got {value} on clips {names}")

    def _is_logged(self, step: int) -> bool:
        """Whether the log has a line after this number of steps."""
        return step % LOG_EVERY == 0 or step == self.config.steps

    def _write_log(self, step: int) -> dict[str, float]:
        """Log the means since the previous line; returns the line without its step."""
        rows = torch.tensor(self.state["losses"][step - (step % LOG_EVERY or LOG_EVERY) : step], dtype=torch.float64)
        names = ("loss", "rgb_loss", "xyz_loss", "gradient_norm")
        line = dict(zip(names, rows.mean(dim=0).tolist(), strict=True))
        line["learning_rate"] = self._learning_rate(step - 1)
        if self.accelerator.is_main_process:
            with open(self.log, "a") as log:
                log.write(json.dumps({"step": step, **line}) + "\n")
        return line

    def _save_checkpoint(self) -> None:
        """Write a checkpoint in the main process; all processes must call it."""
        scaler = self.accelerator.scaler
        self.state["scaler"] = scaler.state_dict() if scaler else None
        tensors = collect(self.parameters, self.averages, self.optimizer.optimizer)
        if self.accelerator.is_main_process:
            self.checkpoints.save(tensors, self.state)

    def _in_any_process(self, stop: bool) -> bool:
        """Whether `stop` is True in any process, since signals arrive in different steps."""
        if self.accelerator.num_processes == 1:
            return stop
        flag = torch.tensor(float(stop), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum"))
