"""The pretraining loop: schedule, updates, averaged weights, log and periodic saving of all pretraining runs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from fourdnex.io.files import copy_unless_same
from fourdnex.progress import progress_bar
from fourdnex.training.lr_schedule import warmup_times_cosine

MAX_GRAD_NORM = 1.0
Metrics = Mapping[str, float | torch.Tensor | Sequence[float]]
"""Name -> value of a step, or values that are averaged over a log interval."""
Objective = Callable[[int], tuple[torch.Tensor, Metrics]]
"""Step, counted from 0 -> loss and metrics."""


class ExponentialMovingAverage:
    """Exponential moving average of a model's weights and buffers, by `torch.optim.swa_utils.AveragedModel`.

    The decay of update n (counted from 1) is min(`decay`, n / (n + `warmup`)), so that the initial weights are
    forgotten soon. The average starts at the weights of `model`.
    """

    def __init__(self, model: nn.Module, *, decay: float, warmup: int):
        self.decay, self.warmup, self.num_updates = decay, warmup, 0
        self.averaged = AveragedModel(model, multi_avg_fn=self._lerp, use_buffers=True)
        self.averaged.update_parameters(model)  # the first call copies, all later calls average

    def restart_warmup(self) -> None:
        """Restart the warmup of the decay; the average is kept."""
        self.num_updates = 0

    def update(self, model: nn.Module) -> None:
        """Update the average with the current weights of `model`."""
        self.num_updates += 1
        self.averaged.update_parameters(model)

    def copy_to(self, model: nn.Module) -> None:
        """Overwrite the weights of `model` with the average, in place."""
        model.load_state_dict(self.averaged.module.state_dict())

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Within the context, `model` has the averaged weights."""
        current = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.copy_to(model)
        try:
            yield
        finally:
            model.load_state_dict(current)

    # The number of updates is counted here, not read from `AveragedModel`: on a GPU reading its tensor would wait for
    # the device in every step.
    @torch.no_grad()
    def _lerp(self, averages: Any, values: Any, _num_averaged: Any) -> None:
        """Averaging function of tensors of one device and dtype; integer buffers are copied."""
        if not averages[0].dtype.is_floating_point:
            for average, value in zip(averages, values, strict=True):
                average.copy_(value)
            return
        decay = min(self.decay, self.num_updates / (self.num_updates + self.warmup))
        torch._foreach_lerp_(averages, values, 1 - decay)


@dataclass(kw_only=True, eq=False)
class PretrainingLoop:
    """Updates `model` until its time or its steps are over.

    The learning rate of each parameter group is its value at construction times a linear warmup and a cosine decay over
    the whole run.
    """

    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    objective: Objective
    warmup_steps: int
    minutes: float | None = None
    """Limit of the run in wall-clock time, whatever the speed of the machine."""
    steps: int | None = None
    """Limit of the run in steps; exactly one of the two limits is given."""
    ema: ExponentialMovingAverage | None = None
    log: Callable[[dict[str, Any]], object]
    """Receives each log line."""
    log_every: int = 50
    """Steps between two log lines."""
    log_values: Literal["mean", "last"] = "mean"
    """A log line has the means of the metrics since the line before, or their values in its own step."""
    line_start: Mapping[str, Any] = field(default_factory=dict)
    """First entries of each log line."""
    extend_line: Callable[[int], Mapping[str, Any]] = lambda step: {}
    """Further entries of the log line of a step; the place for measurements on held-out data."""
    save: Callable[[], Mapping[str, Any]] | None = None
    """Saves the run; if it returns measurements, they are logged. Called every `save_minutes`, not at the end."""
    save_minutes: float = float("inf")
    check_every_step: bool = True
    """Check in every step that the loss is finite; otherwise with each log line and before saving, so that a GPU runs
    ahead of the host."""
    name: str = ""
    """Name of the run in error messages."""
    first_logged_step: int = 0
    """Steps of the run that this one continues, which log lines count on from."""
    step: int = 0
    """Steps done; more than 0 for a resumed run."""
    seconds: float = 0.0
    """Time spent; more than 0 for a resumed run."""
    _unchecked: list[tuple[int, torch.Tensor]] = field(default_factory=list)
    _metrics: list[Metrics] = field(default_factory=list)

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError(f"minutes, steps: expected one of the two limits, got {self.minutes} and {self.steps}")
        self._peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self._parameters = [value for value in self.model.parameters() if value.requires_grad]
        self._started = time.monotonic() - self.seconds

    @property
    def progress(self) -> float:
        """Part of the run that is done; 1 or more at its end."""
        if self.steps is not None:
            return self.step / self.steps
        assert self.minutes is not None
        return self.seconds / (60 * self.minutes)

    def run(self) -> None:
        """Train to the end of the run, at least one step.

        Raises:
            ValueError: the loss is not finite.
        """
        last_saved = time.monotonic()
        self.seconds = last_saved - self._started
        total, unit = (self.steps, "step") if self.steps is not None else (self.minutes or 0.0, "minute")
        with progress_bar(total, desc=self.name or "pretrain", unit=unit) as advance:
            while self.progress < 1 or self.step == 0:
                before = self.progress
                self._update()
                self.seconds = time.monotonic() - self._started
                if self.step % self.log_every == 0 or self.step == self.steps:
                    self._write_line()
                if self.save is not None and time.monotonic() - last_saved > 60 * self.save_minutes:
                    last_saved = time.monotonic()
                    self._check_losses()
                    if measured := self.save():
                        self.log({**self.line_start, "step": self.logged_step, **measured})
                self.seconds = time.monotonic() - self._started
                advance(1 if self.steps is not None else (self.progress - before) * total)
        self._check_losses()

    @property
    def logged_step(self) -> int:
        """The step as log lines count it."""
        return self.first_logged_step + self.step

    def _update(self) -> None:
        """One step of the optimizers, and the average after it."""
        factor = warmup_times_cosine(self.step, progress=self.progress, warmup_steps=self.warmup_steps)
        for optimizer, peaks in zip(self.optimizers, self._peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
        loss, metrics = self.objective(self.step)
        self._unchecked.append((self.step, loss.detach()))
        if self.check_every_step:
            self._check_losses()
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, MAX_GRAD_NORM)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.model)
        if self.log_values == "last":
            self._metrics.clear()
        self._metrics.append(metrics)

    def _check_losses(self) -> None:
        """Raise ValueError if a loss since the last check is not finite."""
        if not self._unchecked:
            return
        steps, losses = zip(*self._unchecked, strict=True)
        self._unchecked.clear()
        for step, loss in zip(steps, torch.stack(losses).tolist(), strict=True):
            if not math.isfinite(loss):
                where = f"{self.name} step {step}".strip()
                raise ValueError(f"loss: expected a finite number at {where}, got {loss}")

    def _write_line(self) -> None:
        """Log the metrics since the line before."""
        self._check_losses()
        values: dict[str, list[float]] = {}
        for metrics in self._metrics:
            for key, value in metrics.items():
                values.setdefault(key, []).extend(torch.as_tensor(value, dtype=torch.float64).flatten().tolist())
        self._metrics.clear()
        line: dict[str, Any] = {**self.line_start, "step": self.logged_step}
        if self.minutes is not None:
            line["minutes"] = round(self.seconds / 60, 2)
        line |= {key: round(float(np.mean(each)), 5) for key, each in sorted(values.items()) if each}
        self.log(line | dict(self.extend_line(self.step)))


class JsonLines:
    """A log of one JSON object per line; each line is on disk when `write` returns."""

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def create(cls, path: Path) -> JsonLines:
        """A new log; a file at `path` is removed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        return cls(path)

    @classmethod
    def continued(cls, path: Path, previous: Path | None) -> JsonLines:
        """A log that starts with a copy of log `previous`, or a new one if there is none; what is at `path` is lost."""
        if previous is None or not previous.exists():
            return cls.create(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        copy_unless_same(previous, path)
        return cls(path)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line."""
        with open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """All lines; none if there is no file."""
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []


def last_step(lines: Sequence[Mapping[str, Any]]) -> int:
    """The largest step of a log's lines; 0 if there is none."""
    return max((int(line.get("step", 0)) for line in lines), default=0)
