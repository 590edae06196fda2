"""LoRA fine-tuning of the 6D transformer on latent shards, with accelerate.

```
python -m fourdnex train --latents workspace/latents --output workspace/adapters/mine
```
The order of clips, the noise and the timesteps of a step depend on the seed and the step alone, so a run that was
killed and goes on from its checkpoint sees what the uninterrupted run would have seen.
"""

from __future__ import annotations

import json
import signal
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import WanTransformer3DModel
from torch.nn.utils import clip_grad_norm_

from fourdnex.files import write_json
from fourdnex.model.adapter import AdapterInfo, adapter_norm, adapter_state, add_lora, save_adapter
from fourdnex.model.conditioning import join_condition
from fourdnex.model.presets import base_digest, get_preset
from fourdnex.model.transformer import SixDTransformer
from fourdnex.training.checkpoint import STATE, load_checkpoint, save_checkpoint
from fourdnex.training.latent_shards import LatentClips


@dataclass(frozen=True, kw_only=True)
class LoraTraining:
    """Settings of a LoRA fine-tuning run."""

    latents: Path
    """Folder of latent shards with statistics.json."""
    output: Path
    """Folder the adapter is written to; checkpoints lie beside it while training runs."""
    model: str = "tiny"
    """Preset or folder of the base."""
    steps: int = 700
    batch_size: int = 8
    """Clips a step, over all processes."""
    gradient_accumulation: int = 1
    learning_rate: float = 2e-3
    warmup_steps: int = 30
    schedule: str = "cosine"
    """cosine or constant."""
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0
    rank: int = 64
    alpha: float = 64.0
    xyz_weight: float = 1.0
    """Weight of the XYZ half of the loss; the RGB half has 1."""
    ema: float = 0.99
    """Decay of the averaged adapter that is saved; 0 saves the last one."""
    mixed_precision: str = "no"
    """no, bf16 or fp16."""
    gradient_checkpointing: bool = False
    checkpoint_every: int = 100
    num_samples: int = 2
    """Held-out worlds generated at the end, as pictures for people; 0 for none."""
    track: bool = True
    """Log the run to MLflow."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "gradient_accumulation", "rank", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate: expected a positive number, got {self.learning_rate}")
        if self.schedule not in ("cosine", "constant"):
            raise ValueError(f"schedule: expected 'cosine' or 'constant', got {self.schedule!r}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema: expected a number in [0, 1), got {self.ema}")


@dataclass(frozen=True, kw_only=True)
class TrainingSummary:
    """What a finished run did; kept as `training/summary.json` in the adapter folder."""

    adapter_dir: str
    adapter_digest: str
    adapter_norm: float
    steps: int
    num_clips: int
    loss: float
    """Mean over the last tenth of the steps."""
    seconds: float
    """Time in this process, after a resume without what went before."""
    mlflow_run_id: str | None


class TrainingInterrupted(Exception):
    """The process was asked to end; a checkpoint was written."""


def train(config: LoraTraining) -> TrainingSummary:
    """Fine-tune, and write the adapter folder.

    A run with the same configuration that was interrupted goes on from its last checkpoint.

    Raises:
        FileNotFoundError: if there are no latents.
        ValueError: if the loss is not finite; the message names the clips of that step.
        TrainingInterrupted: on SIGTERM or SIGINT, after a checkpoint.
    """
    accelerator = Accelerator(mixed_precision=config.mixed_precision, gradient_accumulation_steps=config.gradient_accumulation)
    set_seed(config.seed)
    clips = LatentClips(config.latents)
    transformer, preset = _build(config)
    parameters = {name: value for name, value in transformer.named_parameters() if value.requires_grad}
    averages = {name: value.detach().float().clone() for name, value in parameters.items()}
    optimiser = torch.optim.AdamW(parameters.values(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=config.weight_decay)
    model, optimiser = accelerator.prepare(transformer, optimiser)
    checkpoint = config.output.with_name(config.output.name + ".checkpoint")
    fingerprint = _fingerprint(config, clips)
    state: dict[str, Any] = {"step": 0, "fingerprint": fingerprint, "losses": [], "mlflow_run_id": None}
    if (checkpoint / STATE).exists() and json.loads((checkpoint / STATE).read_text()).get("fingerprint") == fingerprint:
        state = load_checkpoint(checkpoint, parameters=parameters, averages=averages, optimiser=optimiser.optimizer)
        accelerator.print(f"going on from step {state['step']}")
    with _tracking(config, clips, state, accelerator) as run:
        state["mlflow_run_id"] = run.run_id if run else None
        started = time.monotonic()
        log_path = checkpoint.parent / f"{config.output.name}.log.jsonl"
        with _EndSignals() as asked_to_end:
            _loop(config, accelerator, model, optimiser, parameters, averages, clips, state, checkpoint, run, log_path, asked_to_end)
        with torch.no_grad():
            for name, value in parameters.items():
                value.copy_(averages[name])
        summary = None
        if accelerator.is_main_process:
            tensors = adapter_state(accelerator.unwrap_model(model))
            summary = _finish(config, clips, preset, tensors, state, run, time.monotonic() - started, log_path, checkpoint)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return summary or TrainingSummary(adapter_dir=str(config.output), adapter_digest="", adapter_norm=0.0, steps=config.steps,
                                      num_clips=len(clips), loss=0.0, seconds=time.monotonic() - started, mlflow_run_id=None)  # fmt: skip


def flow_matching_loss(
    transformer: torch.nn.Module, batch: dict[str, torch.Tensor], *, sigma: torch.Tensor, noise: torch.Tensor, xyz_weight: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow matching on both halves: x_s = (1-s) x_0 + s noise, target noise - x_0.

    Args:
        transformer: width-wise 6D transformer.
        batch: `latents`, `condition` [B, 2, 16, F, h, w] (RGB, XYZ), `text`, `image` embeddings.
        sigma: [B] noise levels in [0, 1].
        noise: [B, 2, 16, F, h, w].
        xyz_weight: weight of the XYZ half.

    Returns:
        The loss, and the mean squared error of RGB and of XYZ [2], detached.
    """
    s = sigma.view(-1, 1, 1, 1, 1, 1)
    clean = batch["latents"]
    noisy = (1 - s) * clean + s * noise
    condition = join_condition(batch["condition"][:, 0], batch["condition"][:, 1])
    hidden = torch.cat([torch.cat([noisy[:, 0], noisy[:, 1]], dim=-1), condition], dim=1)
    velocity = transformer(hidden, timestep=sigma * 1000, encoder_hidden_states=batch["text"],
                           encoder_hidden_states_image=batch["image"], return_dict=False)[0]  # fmt: skip
    error = torch.stack(velocity.float().chunk(2, dim=-1), dim=1) - (noise - clean)
    parts = error.square().mean(dim=(0, 2, 3, 4, 5))
    return (parts[0] + xyz_weight * parts[1]) / (1 + xyz_weight), parts.detach()


def _build(config: LoraTraining):
    preset = get_preset(config.model)
    dtype = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[config.mixed_precision]
    base = WanTransformer3DModel.from_pretrained(preset.location, subfolder="transformer", torch_dtype=dtype)
    transformer = SixDTransformer.from_base(base)
    add_lora(transformer, rank=config.rank, alpha=config.alpha)
    if config.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    for value in transformer.parameters():
        if value.requires_grad:
            value.data = value.data.float()
    return transformer.train(), preset


def _loop(config, accelerator, model, optimiser, parameters, averages, clips, state, checkpoint, run, log_path, asked_to_end) -> None:
    from tqdm import tqdm

    bar = tqdm(total=config.steps, initial=state["step"], desc="LoRA", disable=not accelerator.is_main_process, mininterval=2.0)
    per_process = config.batch_size // (accelerator.num_processes * config.gradient_accumulation)
    if per_process < 1:
        raise ValueError(f"batch_size: expected at least {accelerator.num_processes * config.gradient_accumulation}, got {config.batch_size}")
    recent: list[torch.Tensor] = []
    while state["step"] < config.steps:
        step = state["step"]
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(config, step)
        chosen, sigma, noise = draw(config, clips, step)
        for part in range(config.gradient_accumulation):
            offset = (part * accelerator.num_processes + accelerator.process_index) * per_process
            own = slice(offset, offset + per_process)
            items = [clips[i] for i in chosen[own]]
            batch = {key: torch.stack([item[key] for item in items]).to(accelerator.device) for key in ("latents", "condition", "text", "image")}
            with accelerator.accumulate(model), accelerator.autocast():
                loss, parts = flow_matching_loss(model, batch, sigma=sigma[own].to(accelerator.device),
                                                 noise=noise[own].to(accelerator.device), xyz_weight=config.xyz_weight)  # fmt: skip
                if not torch.isfinite(loss):
                    raise ValueError(f"loss: expected a finite number at step {step}, got {loss.item()} on clips {[item['name'] for item in items]}")
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    clip_grad_norm_(parameters.values(), config.max_grad_norm)
                optimiser.step()
                optimiser.zero_grad()
        with torch.no_grad():
            decay = min(config.ema, (step + 1) / (step + 10)) if config.ema else 0.0
            for name, value in parameters.items():
                averages[name].lerp_(value.detach().float(), 1 - decay)
        state["step"] = step + 1
        recent.append(parts.cpu())
        state["losses"].append(round(loss.item(), 6))
        bar.update()
        if state["step"] % 10 == 0 or state["step"] == config.steps:
            rgb, xyz = torch.stack(recent).mean(dim=0).tolist()
            recent = []
            bar.set_postfix(rgb=f"{rgb:.4f}", xyz=f"{xyz:.4f}")
            line = {"loss": sum(state["losses"][-10:]) / len(state["losses"][-10:]), "rgb_loss": rgb, "xyz_loss": xyz, "learning_rate": optimiser.param_groups[0]["lr"]}
            if accelerator.is_main_process:
                with open(log_path, "a") as log:
                    log.write(json.dumps({"step": state["step"], **line}) + "\n")
            if run:
                run.log_metrics(line, step=state["step"])
        ending = asked_to_end()
        if accelerator.is_main_process and (ending or state["step"] % config.checkpoint_every == 0):
            save_checkpoint(checkpoint, parameters=parameters, averages=averages, optimiser=optimiser.optimizer, state=state)
        if ending:
            raise TrainingInterrupted(f"training was asked to end at step {state['step']}; the checkpoint is {checkpoint}")
    bar.close()


def draw(config: LoraTraining, clips: LatentClips, step: int) -> tuple[list[int], torch.Tensor, torch.Tensor]:
    """Clips, noise levels [B] and noise [B, 2, C, F, h, w] of a step, from the seed and the step alone."""
    chosen = []
    for position in range(step * config.batch_size, (step + 1) * config.batch_size):
        epoch, place = divmod(position, len(clips))
        order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(config.seed * 100_003 + epoch))
        chosen.append(int(order[place]))
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    sigma = torch.rand(config.batch_size, generator=generator)
    shape = clips[chosen[0]]["latents"].shape
    return chosen, sigma, torch.randn(config.batch_size, *shape, generator=generator)


def learning_rate_factor(config: LoraTraining, step: int) -> float:
    """Linear warm-up, then cosine to 2 % or constant."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return max(0.02, 0.5 * (1 + torch.cos(torch.tensor(torch.pi * done)).item()))


def _fingerprint(config: LoraTraining, clips: LatentClips) -> str:
    """A checkpoint belongs to one configuration, one base and one list of clips."""
    import hashlib

    fields = {key: str(value) for key, value in asdict(config).items() if key not in ("output", "checkpoint_every", "num_samples", "track")}
    content = json.dumps([fields, clips.index, asdict(clips.summary), base_digest(get_preset(config.model).location)])
    return hashlib.sha256(content.encode()).hexdigest()


def _tracking(config: LoraTraining, clips: LatentClips, state: dict[str, Any], accelerator: Accelerator):
    if not (config.track and accelerator.is_main_process):
        return nullcontext()
    from fourdnex import identity
    from fourdnex.tracking import TrackedDataset, TrackingRun

    known = identity.collect()
    params = {key: str(value) for key, value in asdict(config).items() if key != "output"} | {"num_clips": len(clips)}
    dataset = TrackedDataset(name="fourdnex-data", digest=known["data_md5"], source="data.dvc") if known.get("data_md5") else None
    return TrackingRun.start(params=params, dataset=dataset, tags=known, run_id=state["mlflow_run_id"], name=config.output.name)


def _finish(config, clips, preset, tensors, state, run, seconds, log_path, checkpoint) -> TrainingSummary:
    """Write the adapter with its curves and samples, and drop the checkpoint."""
    import shutil

    from fourdnex import identity
    from fourdnex.training.pictures import plot_curves, sample_pictures

    norm = adapter_norm(tensors)
    if not norm > 0:
        raise ValueError(f"adapter: expected a norm above 0 after {config.steps} steps, got {norm}")
    digest = base_digest(preset.location)
    info = AdapterInfo(
        rank=config.rank, alpha=config.alpha, base_name=preset.name, base_digest=digest, statistics=clips.summary.statistics,
        center=clips.summary.center, scale=clips.summary.scale, num_frames=preset.num_frames, height=preset.height, width=preset.width,
        identity=identity.collect(base_model=preset.name, base_digest=digest, config_hash=state["fingerprint"], mlflow_run=state["mlflow_run_id"]),
        config={key: str(value) if isinstance(value, Path) else value for key, value in asdict(config).items() if key not in ("latents", "output")},
    )  # fmt: skip
    adapter_digest = save_adapter(config.output, tensors, info)
    folder = config.output / "training"
    folder.mkdir(exist_ok=True)
    shutil.move(log_path, folder / "log.jsonl")
    plot_curves(folder / "log.jsonl", folder / "curves.png")
    sample_pictures(config.model, config.output, folder / "samples", count=config.num_samples)
    tail = state["losses"][-max(1, len(state["losses"]) // 10) :]
    summary = TrainingSummary(adapter_dir=str(config.output), adapter_digest=adapter_digest, adapter_norm=norm, steps=config.steps,
                              num_clips=len(clips), loss=sum(tail) / len(tail), seconds=seconds, mlflow_run_id=state["mlflow_run_id"])  # fmt: skip
    if run:
        run.set_tags({"adapter_digest": adapter_digest})
        run.log_metrics({"adapter_norm": norm, "final_loss": summary.loss}, step=config.steps)
        run.log_artifact(folder, "training")
    write_json(folder / "summary.json", asdict(summary))
    shutil.rmtree(checkpoint, ignore_errors=True)
    return summary


class _EndSignals:
    """Within the context SIGTERM and SIGINT only raise a flag, so that a step is never cut in half."""

    def __enter__(self):
        self.asked = False
        self.before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return lambda: self.asked

    def _note(self, *_: object) -> None:
        self.asked = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
