"""The steps of a fine-tuning run: draw, forward, backward, update, average, log, checkpoint."""

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
from fourdnex.training.batches import draw_batch
from fourdnex.training.checkpoint import Checkpoints, collect
from fourdnex.training.interruption import TrainingInterrupted
from fourdnex.training.lora_settings import LoraTraining
from fourdnex.training.loss import flow_matching_loss
from fourdnex.training.lr_schedule import warmup_then_decay

if TYPE_CHECKING:
    from fourdnex.tracking import TrackingRun

LOG_EVERY = 10


@dataclass(kw_only=True, eq=False)
class TrainingLoop:
    """What a run works with, and the steps from `state["step"]` to the last."""

    config: LoraTraining
    accelerator: Accelerator
    model: torch.nn.Module
    optimizer: Any  # accelerate's wrapper
    parameters: dict[str, torch.nn.Parameter]
    """Those that are trained, by name."""
    averages: dict[str, torch.Tensor]
    """Their exponential moving averages, updated in place."""
    clips: LatentClips
    state: dict[str, Any]
    """`step`, the `losses` so far (of each step: loss, RGB, XYZ, norm of the gradient) and what else is kept."""
    checkpoints: Checkpoints
    log: Path
    run: TrackingRun | None = None
    _unread: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)

    def go(self, asked_to_end: Callable[[], bool]) -> None:
        """Train until the last step.

        Raises:
            ValueError: if the loss is not finite; the message names the clips of that step.
            TrainingInterrupted: when `asked_to_end` says so, after a checkpoint.
        """
        from tqdm import tqdm

        main, state, config = self.accelerator.is_main_process, self.state, self.config
        seconds = 2.0 if sys.stderr.isatty() else 15.0  # a file keeps every state of the bar
        with tqdm(total=config.steps, initial=state["step"], desc="LoRA", disable=not main, mininterval=seconds) as bar:
            while state["step"] < config.steps:
                self._unread.append(self.update(state["step"]))
                state["step"] += 1
                bar.update()
                last, ending = state["step"] == config.steps, self._in_any_process(asked_to_end())
                to_log = self._is_logged(state["step"])
                to_keep = last or ending or state["step"] % config.checkpoint_every == 0
                if to_log or to_keep:
                    self._read_losses()
                if to_log:
                    line = self._write_log(state["step"])
                    if self.run:
                        self.run.log_metrics(line, step=state["step"])
                    bar.set_postfix(rgb=f"{line['rgb_loss']:.4f}", xyz=f"{line['xyz_loss']:.4f}", refresh=False)
                if to_keep:
                    self._save_checkpoint()
                if ending:
                    raise TrainingInterrupted(
                        f"training was asked to end at step {state['step']}; "
                        f"its checkpoint is in {self.checkpoints.folder}"
                    )

    def begin_log(self) -> None:
        """Make the log anew with the lines of the steps that the state has: the file may be another run's."""
        self.log.unlink(missing_ok=True)
        for step in filter(self._is_logged, range(1, self.state["step"] + 1)):
            self._write_log(step)

    def update(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One step, and the averages after it.

        Both answers stay on the device, so that a process which trains alone does not wait for it. Several do: after
        every step they ask each other whether to end.

        Returns:
            This process's loss and errors of RGB and XYZ [accumulation, 3], and the norm of the gradient.
        """
        config, accelerator = self.config, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(step)
        chosen, sigma, noise = draw_batch(config, self.clips, step)
        share = config.batch_size // (accelerator.num_processes * config.gradient_accumulation)
        losses, norm = [], torch.zeros(())
        for part in range(config.gradient_accumulation):
            offset = (part * accelerator.num_processes + accelerator.process_index) * share
            own = slice(offset, offset + share)
            items = [self.clips[i] for i in chosen[own]]
            batch = {
                key: torch.stack([item[key] for item in items]).to(accelerator.device)
                for key in ("latents", "condition", "text", "image")
            }
            with accelerator.accumulate(self.model):
                with accelerator.autocast():
                    loss, parts = flow_matching_loss(
                        self.model,
                        batch,
                        sigma=sigma[own].to(accelerator.device),
                        noise=noise[own].to(accelerator.device),
                        fusion=config.fusion,
                        xyz_weight=config.xyz_weight,
                        xyz_mask=config.xyz_mask,
                    )
                accelerator.backward(loss)
                if accelerator.sync_gradients:  # clipping unscales fp16 first
                    norm = accelerator.clip_grad_norm_(list(self.parameters.values()), config.max_grad_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
            losses.append(torch.cat([loss.detach()[None], parts]))
        self._average(step)
        return torch.stack(losses), norm

    @torch.no_grad()
    def take_averages(self) -> None:
        """Put the averages in the place of the parameters."""
        for name, value in self.parameters.items():
            value.copy_(self.averages[name])

    def _learning_rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        config = self.config
        return config.learning_rate * warmup_then_decay(
            step, total_steps=config.steps, warmup_steps=config.warmup_steps, schedule=config.schedule
        )

    @torch.no_grad()
    def _average(self, step: int) -> None:
        decay = min(self.config.ema, (step + 1) / (step + 10)) if self.config.ema else 0.0
        averages = [local_shard(value) for value in self.averages.values()]
        torch._foreach_lerp_(averages, [local_shard(value) for value in self.parameters.values()], 1 - decay)

    def _read_losses(self) -> None:
        """Take the losses since the last reading into the state, as means over the processes.

        Raises:
            ValueError: if one is not finite, in all processes alike.
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
                self._refuse("loss", parts[~finite][0, 0].item(), first + index, part=int(finite.int().argmin()))
            if not norm.isfinite() and self.accelerator.scaler is None:  # a scaler leaves such a step out by itself
                self._refuse("gradient", norm.item(), first + index)
            row = [*parts.mean(dim=0).tolist(), norm.item()]
            self.state["losses"].append([round(value, 6) for value in row])

    def _refuse(self, what: str, value: float, step: int, part: int | None = None) -> None:
        chosen, _, _ = draw_batch(self.config, self.clips, step)
        if part is not None:
            size = len(chosen) // self.config.gradient_accumulation
            chosen = chosen[part * size : (part + 1) * size]
        names = [self.clips.index[i][1] for i in chosen]
        raise ValueError(f"{what}: expected a finite number at step {step}, got {value} on {names}")

    def _is_logged(self, step: int) -> bool:
        return step % LOG_EVERY == 0 or step == self.config.steps

    def _write_log(self, step: int) -> dict[str, float]:
        """Log the means since the line before that of `step`."""
        rows = torch.tensor(self.state["losses"][step - (step % LOG_EVERY or LOG_EVERY) : step], dtype=torch.float64)
        names = ("loss", "rgb_loss", "xyz_loss", "gradient_norm")
        line = dict(zip(names, rows.mean(dim=0).tolist(), strict=True))
        line["learning_rate"] = self._learning_rate(step - 1)
        if self.accelerator.is_main_process:
            with open(self.log, "a") as log:
                log.write(json.dumps({"step": step, **line}) + "\n")
        return line

    def _save_checkpoint(self) -> None:
        scaler = self.accelerator.scaler
        self.state["scaler"] = scaler.state_dict() if scaler else None
        tensors = collect(self.parameters, self.averages, self.optimizer.optimizer)
        if self.accelerator.is_main_process:
            self.checkpoints.save(tensors, self.state)

    def _in_any_process(self, asked: bool) -> bool:
        """Whether one of the processes is asked to end: signals reach them in different steps."""
        if self.accelerator.num_processes == 1:
            return asked
        flag = torch.tensor(float(asked), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum"))
