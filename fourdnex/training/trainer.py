"""LoRA fine-tuning of the 6D transformer on latent shards, with accelerate.

```
python -m fourdnex train --latents workspace/latents --output workspace/adapters/mine
```
The order of clips, the noise and the timesteps of a step depend on the seed and the step alone, so a run that was
killed and goes on from its checkpoint sees what the uninterrupted run would have seen.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, gather_object, set_seed
from accelerate.utils.memory import clear_device_cache
from diffusers import WanTransformer3DModel

from fourdnex import identity
from fourdnex.datasets.versions import data_version
from fourdnex.io.files import read_json, write_json
from fourdnex.io.renamed import former_recipe
from fourdnex.latents.dataset import LatentClips
from fourdnex.model.adapter import (
    AdapterInfo,
    adapter_norm,
    adapter_state,
    add_lora,
    check_adapter_folder,
    read_adapter_info,
    save_adapter,
)
from fourdnex.model.memory_settings import MemorySettings
from fourdnex.model.precision import resolve_precision
from fourdnex.model.presets import base_digest, get_preset
from fourdnex.model.recipe import recorded
from fourdnex.model.sharding import shard
from fourdnex.model.text_padding import compact_text_padding
from fourdnex.model.transformer import SixDTransformer
from fourdnex.training.checkpoint import Checkpoints, restore
from fourdnex.training.cpu_optimizations import apply_cpu_optimizations
from fourdnex.training.interruption import StopSignals, TrainingInterrupted
from fourdnex.training.loop import TrainingLoop
from fourdnex.training.lora_settings import LoraTraining, TrainingSummary

if TYPE_CHECKING:
    from fourdnex.tracking import TrackingRun

__all__ = ["LoraTraining", "TrainingInterrupted", "TrainingSummary", "train"]

_LOG = logging.getLogger(__name__)
_SAME_RUN = (
    *("latents", "output", "model"),
    *("gradient_accumulation", "gradient_checkpointing", "shard_model"),
    *("checkpoint_every", "num_samples", "track"),
)
"""Settings that may change in the middle of a run: where things lie, how a step is spread, what is kept and told."""


def train(config: LoraTraining) -> TrainingSummary:
    """Fine-tune, and write the adapter folder.

    A run with the same configuration that was interrupted goes on from its last checkpoint, wherever its files now lie
    and however its steps are spread over memory and processes; one that has finished is not made again.

    Raises:
        FileExistsError: if anything but an adapter lies at `output`.
        FileNotFoundError: if there are no latents.
        ValueError: if the loss is not finite; the message names the clips of that step. If processes find different
            files at `output`, as on disks of their own.
        TrainingInterrupted: on SIGTERM or SIGINT, after a checkpoint.
    """
    check_adapter_folder(config.output)
    AcceleratorState._reset_state()  # an earlier run in this process may have had another precision
    on_cpu = not torch.accelerator.is_available()
    clips = LatentClips(config.latents, config)
    _check_base(config, clips)
    config = settled(config, clips, "cpu" if on_cpu else "cuda")
    accelerator = Accelerator(
        cpu=on_cpu,  # else it takes the processes of torchrun for single ones
        mixed_precision="no" if on_cpu and config.mixed_precision == "bf16" else config.mixed_precision,
        gradient_accumulation_steps=config.gradient_accumulation,
    )
    parts = accelerator.num_processes * config.gradient_accumulation
    if config.batch_size % parts:
        raise ValueError(
            f"batch_size: expected a multiple of {parts} (processes x gradient accumulation), got {config.batch_size}"
        )
    if config.shard_model and accelerator.num_processes == 1:
        raise ValueError("shard_model: expected several processes (torchrun --nproc-per-node N), got one")
    set_seed(config.seed)
    fingerprint = _fingerprint(config, clips)
    finished = _finished(config.output, fingerprint)
    _agree("nothing finished" if finished is None else "a finished adapter")
    if finished is not None:
        accelerator.print(f"{config.output} is finished already, with these very settings and clips")
        return finished
    loop = build_loop(config, accelerator, clips, fingerprint)
    _go_on(loop)
    with _tracking(config, clips, loop.state, accelerator) as run:
        loop.run = run
        loop.state["mlflow_run_id"] = run.run_id if run else None
        started = time.monotonic()
        loop.checkpoints.folder.mkdir(parents=True, exist_ok=True)
        if accelerator.is_main_process:
            loop.begin_log()
        with StopSignals() as asked_to_end:
            loop.go(asked_to_end)
        loop.take_averages()
        summary = _summary(loop, adapter_state(accelerator.unwrap_model(loop.model)), time.monotonic() - started)
        log, checkpoints = loop.log, loop.checkpoints
        del loop  # the images are generated by a base of their own
        accelerator.free_memory()
        clear_device_cache(garbage_collection=True)
        # The first process finishes alone: the others need not wait for its images. This comes after DDP's reducer is
        # gone: were it the last to know the process group, Gloo's threads would be joined under the GIL they may want.
        accelerator.end_training()
        if accelerator.is_main_process:
            _finish(config, summary, log, checkpoints, run)
    return summary


def settled(config: LoraTraining, clips: LatentClips, device: str) -> LoraTraining:
    """The same with `mixed_precision` "auto" settled: what the run of these settings that is there has, or the
    device's.
    """
    if config.mixed_precision != "auto":
        return config
    runs = [replace(config, mixed_precision="no"), replace(config, mixed_precision="bf16")]
    if resolve_precision("auto", device) == "bf16":
        runs.reverse()
    for run in runs:
        fingerprint = _fingerprint(run, clips)
        if _finished(run.output, fingerprint) or Checkpoints(_checkpoints(run), fingerprint).any():
            return run
    return runs[0]


def build_loop(config: LoraTraining, accelerator: Accelerator, clips: LatentClips, fingerprint: str) -> TrainingLoop:
    """A run before its first step: the base with fresh LoRA matrices on it, the optimizer, the averages."""
    transformer = _build(config, accelerator.device.type)
    if accelerator.device.type == "cpu":
        compact_text_padding(transformer)
        apply_cpu_optimizations(transformer, bfloat16=config.mixed_precision == "bf16")
    model: torch.nn.Module = transformer
    if config.shard_model:
        shard(transformer)
    else:
        model = accelerator.prepare(transformer)
    parameters = {name: value for name, value in transformer.named_parameters() if value.requires_grad}
    shards = clips.summary.shards
    data_md5 = data_version(config.latents, shards, default=identity.collect()["data_md5"])
    return TrainingLoop(
        config=config,
        accelerator=accelerator,
        model=model,
        optimizer=accelerator.prepare(_optimizer(config, list(parameters.values()))),
        parameters=parameters,
        averages={name: value.detach().clone() for name, value in parameters.items()},
        clips=clips,
        state={"step": 0, "losses": [], "mlflow_run_id": None, "fingerprint": fingerprint, "data_md5": data_md5},
        checkpoints=Checkpoints(_checkpoints(config), fingerprint),
        log=config.output.with_name(f"{config.output.name}.log.jsonl"),
    )


def _checkpoints(config: LoraTraining) -> Path:
    return config.output.with_name(config.output.name + ".checkpoint")


def _go_on(loop: TrainingLoop) -> None:
    """Put the run where its last checkpoint has it, if there is one."""
    found, accelerator = loop.checkpoints.load(), loop.accelerator
    _agree(f"step {0 if found is None else found[1]['step']}")
    if found is not None:
        tensors, state = found
        loop.state |= state
        restore(tensors, loop.parameters, loop.averages, loop.optimizer.optimizer)
        if loop.state["scaler"]:
            accelerator.scaler.load_state_dict(loop.state["scaler"])
        accelerator.print(f"going on from step {loop.state['step']}")
    elif others := loop.checkpoints.of_others():
        accelerator.print(f"starting anew: {others[0].parent} has {len(others)} checkpoints of other settings or clips")


def _agree(found: str) -> None:
    """Every process reads for itself where the run stands; ValueError if they found different things."""
    if len(set(everywhere := gather_object([found]))) > 1:
        raise ValueError(f"output: expected the same files in all processes, got {', '.join(everywhere)}")


def _finished(folder: Path, fingerprint: str) -> TrainingSummary | None:
    """What the run said that wrote `folder`, if it was this one and came to its end."""
    summary = folder / "training" / "summary.json"
    if not summary.exists() or read_adapter_info(folder).identity.get("config_hash") != fingerprint:
        return None
    return TrainingSummary(**read_json(summary))


def _check_base(config: LoraTraining, clips: LatentClips) -> None:
    own, other = base_digest(get_preset(config.model).location), clips.summary.encoding.base_digest
    if own != other:
        raise ValueError(
            f"latents: encoded by base {other[:12]}, training is of {config.model} {own[:12]}; "
            f"run `fourdnex encode --model {config.model}`"
        )


def _build(config: LoraTraining, device: str) -> SixDTransformer:
    preset = get_preset(config.model)
    dtype = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[config.mixed_precision]
    if device == "cpu" and config.mixed_precision == "bf16":
        dtype = torch.float32  # `apply_cpu_optimizations` converts what is multiplied
    base = WanTransformer3DModel.from_pretrained(preset.location, subfolder="transformer", dtype=dtype)
    transformer = SixDTransformer.from_base(base, fusion=config.fusion, positions=config.positions)
    add_lora(transformer, rank=config.rank, alpha=config.alpha, targets=config.targets)
    if config.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    for value in transformer.parameters():
        if value.requires_grad:
            value.data = value.data.float()
    return transformer.train()


def _optimizer(config: LoraTraining, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": (0.9, 0.95),
        "weight_decay": config.weight_decay,
    }
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, fused=True, **settings)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise ValueError(
            "optimizer: adamw8bit needs bitsandbytes, which is not installed; pip install 'fourdnex[8bit]'"
        ) from error
    return AdamW8bit(parameters, **settings)


def _fingerprint(config: LoraTraining, clips: LatentClips) -> str:
    """A checkpoint belongs to one configuration, one base and one list of clips, wherever base and clips lie."""
    import hashlib

    fields = {key: str(value) for key, value in former_recipe(recorded(asdict(config))).items() if key not in _SAME_RUN}
    summary, base = recorded(asdict(clips.summary)), base_digest(get_preset(config.model).location)
    content = json.dumps([fields, clips.index, summary, base])
    return hashlib.sha256(content.encode()).hexdigest()


def _tracking(
    config: LoraTraining, clips: LatentClips, state: dict[str, Any], accelerator: Accelerator
) -> AbstractContextManager[TrackingRun | None]:
    if not (config.track and accelerator.is_main_process):
        return nullcontext()
    from fourdnex.tracking import TrackedDataset, TrackingRun

    known = identity.collect(data_md5=state["data_md5"])
    params = {key: str(value) for key, value in asdict(config).items() if key != "output"} | {"num_clips": len(clips)}
    dataset = (
        TrackedDataset(name="fourdnex-data", digest=known["data_md5"], source="data.dvc")
        if known.get("data_md5")
        else None
    )
    return TrackingRun.start(
        params=params, dataset=dataset, tags=known, run_id=state["mlflow_run_id"], name=config.output.name
    )


def _summary(loop: TrainingLoop, tensors: dict[str, torch.Tensor], seconds: float) -> TrainingSummary:
    """Write the adapter folder, in the first process; what all processes say of it."""
    config, state = loop.config, loop.state
    norm = adapter_norm(tensors)
    if not norm > 0:
        raise ValueError(f"adapter: expected a norm above 0 after {config.steps} steps, got {norm}")
    known: list[Any] = [None, None]  # its digest and run: only the first process has them
    if loop.accelerator.is_main_process:
        known = [_save(config, loop.clips, tensors, state), state["mlflow_run_id"]]
    broadcast_object_list(known)
    losses = [row[0] for row in state["losses"]]
    tail = losses[-max(1, len(losses) // 10) :]
    return TrainingSummary(
        adapter_dir=str(config.output),
        adapter_digest=known[0],
        adapter_norm=norm,
        steps=config.steps,
        num_clips=len(loop.clips),
        loss=sum(tail) / len(tail),
        seconds=seconds,
        mlflow_run_id=known[1],
    )


def _save(config: LoraTraining, clips: LatentClips, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> str:
    """Write the adapter; returns its digest."""
    preset = get_preset(config.model)
    digest = base_digest(preset.location)
    info = AdapterInfo(
        **config.choices(),
        rank=config.rank,
        alpha=config.alpha,
        targets=config.targets,
        base_name=preset.name,
        base_digest=digest,
        statistics=clips.statistics,
        center=clips.summary.center,
        scale=clips.summary.scale,
        num_frames=preset.num_frames,
        height=preset.height,
        width=preset.width,
        identity=identity.collect(
            base_model=preset.name,
            base_digest=digest,
            config_hash=state["fingerprint"],
            data_md5=state["data_md5"],
            mlflow_run=state["mlflow_run_id"],
        ),
        config={
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(config).items()
            if key not in ("latents", "output")
        },
    )
    return save_adapter(config.output, tensors, info)


def _finish(
    config: LoraTraining, summary: TrainingSummary, log: Path, checkpoints: Checkpoints, run: TrackingRun | None
) -> None:
    """Write curves and samples beside the adapter, and drop the checkpoints.

    Samples that cannot be drawn are warned of and tagged: the adapter is whole without them.
    """
    import shutil

    from fourdnex.training.plots import plot_curves, sample_images

    folder = config.output / "training"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(log, folder / "log.jsonl")
    plot_curves(folder / "log.jsonl", folder / "curves.png")
    memory = MemorySettings(offload="all" if config.shard_model else "none")
    missing: str | None = None
    try:
        sample_images(config.model, config.output, folder / "samples", count=config.num_samples, memory=memory)
    except (RuntimeError, ValueError, OSError, MemoryError) as error:
        missing = type(error).__name__
        whole = f"the adapter in {config.output} is whole without them"
        _LOG.warning("samples: not drawn, %s: %s: %s", whole, missing, error)
    if run:
        run.set_tags({"adapter_digest": summary.adapter_digest, "samples_missing": missing})
        run.log_metrics({"adapter_norm": summary.adapter_norm, "final_loss": summary.loss}, step=config.steps)
        run.log_artifact(folder, "training")
    write_json(folder / "summary.json", asdict(summary))
    # Last of all: whoever is killed above finds checkpoints and log again, and finishes once more.
    checkpoints.remove()
    log.unlink(missing_ok=True)
