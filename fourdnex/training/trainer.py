"""LoRA fine-tuning of the 6D transformer on latent shards, with accelerate.

```
python -m fourdnex train --latents workspace/latents --output workspace/adapters/mine
```
The clips, the noise and the timesteps of a step depend only on the seed and the step, so that a killed run that resumes
from its checkpoint gives the same adapter as an uninterrupted run.
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

from fourdnex import identity
from fourdnex.io.files import atomic_path, read_json, write_json
from fourdnex.io.renamed import former_recipe
from fourdnex.latents.dataset import LatentClips
from fourdnex.latents.held_out import RECORD, check_not_trained_on, training_sources
from fourdnex.model.adapter import (
    AdapterInfo,
    adapter_norm,
    adapter_state,
    check_adapter_folder,
    read_adapter_info,
    save_adapter,
)
from fourdnex.model.memory_settings import MemorySettings
from fourdnex.model.precision import resolve_precision
from fourdnex.model.presets import base_digest, get_preset
from fourdnex.model.recipe import recorded
from fourdnex.training.checkpoint import Checkpoints, restore
from fourdnex.training.interruption import StopSignals, TrainingInterrupted
from fourdnex.training.loop import TrainingLoop
from fourdnex.training.lora_settings import LoraTraining, TrainingSummary
from fourdnex.training.setup import build_loop, checkpoints_folder

if TYPE_CHECKING:
    from fourdnex.tracking import TrackingRun

__all__ = ["LoraTraining", "TrainingInterrupted", "TrainingSummary", "train"]

_LOG = logging.getLogger(__name__)
_SAME_RUN = (
    *("latents", "output", "model", "held_out_clips"),
    *("gradient_accumulation", "gradient_checkpointing", "shard_model"),
    *("checkpoint_every", "num_samples", "track"),
)
"""Settings that may change when a run resumes: paths, distribution of a step over memory, checkpoints and tracking."""


def train(config: LoraTraining) -> TrainingSummary:
    """Fine-tune a LoRA adapter, and write the adapter folder.

    An interrupted run with the same settings resumes from its last checkpoint, also if its files were moved or if its
    steps are distributed differently over memory and processes. A finished run is not repeated.

    Raises:
        FileExistsError: `output` contains anything else than an adapter.
        FileNotFoundError: there are no latents.
        ValueError: the loss is not finite (the message names the clips of the step), a training clip is held out, or
            the processes see different files at `output`, for example on separate disks.
        TrainingInterrupted: on SIGTERM or SIGINT, after writing a checkpoint.
    """
    check_adapter_folder(config.output)
    AcceleratorState._reset_state()  # a previous run in this process may have had another precision
    on_cpu = not torch.accelerator.is_available()
    clips = LatentClips(config.latents, config)
    _check_base(config, clips)
    if config.held_out_clips is not None:
        check_not_trained_on(config.held_out_clips, config.latents, list(clips.summary.shards))
    config = resolve_run_precision(config, clips, "cpu" if on_cpu else "cuda")
    accelerator = Accelerator(
        cpu=on_cpu,  # otherwise it treats the processes of torchrun as independent
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
    finished = _read_finished(config.output, fingerprint)
    _check_same_in_all_processes("no finished adapter" if finished is None else "a finished adapter")
    if finished is not None:
        accelerator.print(f"{config.output} is already finished, with the same settings and clips")
        return finished
    loop = build_loop(config, accelerator, clips, fingerprint)
    _resume(loop)
    with _tracking(config, clips, loop.state, accelerator) as run:
        loop.tracking = run
        loop.state["mlflow_run_id"] = run.run_id if run else None
        started = time.monotonic()
        loop.checkpoints.folder.mkdir(parents=True, exist_ok=True)
        if accelerator.is_main_process:
            loop.begin_log()
        with StopSignals() as stop_requested:
            loop.run(stop_requested)
        loop.use_averages()
        summary = _save_adapter(loop, adapter_state(accelerator.unwrap_model(loop.model)), time.monotonic() - started)
        log, checkpoints = loop.log, loop.checkpoints
        del loop  # samples are generated with a newly loaded base
        accelerator.free_memory()
        clear_device_cache(garbage_collection=True)
        # The main process finishes alone, so that the others do not wait for its samples. The process group is
        # destroyed after DDP's reducer: if the reducer held the last reference, Gloo's threads would be joined while
        # this thread holds the GIL, which they may need.
        accelerator.end_training()
        if accelerator.is_main_process:
            _record_clips(config, clips)
            _write_report(config, summary, log, checkpoints, run)
    return summary


def resolve_run_precision(config: LoraTraining, clips: LatentClips, device: str) -> LoraTraining:
    """Resolve `mixed_precision` "auto": the precision of an existing run with these settings, else of the device."""
    if config.mixed_precision != "auto":
        return config
    runs = [replace(config, mixed_precision="no"), replace(config, mixed_precision="bf16")]
    if resolve_precision("auto", device) == "bf16":
        runs.reverse()
    for run in runs:
        fingerprint = _fingerprint(run, clips)
        if _read_finished(run.output, fingerprint) or Checkpoints(checkpoints_folder(run), fingerprint).any():
            return run
    return runs[0]


def _resume(loop: TrainingLoop) -> None:
    """Restore the run's last checkpoint, if there is one."""
    checkpoint, accelerator = loop.checkpoints.load(), loop.accelerator
    _check_same_in_all_processes(f"step {0 if checkpoint is None else checkpoint[1]['step']}")
    if checkpoint is not None:
        tensors, state = checkpoint
        loop.state |= state
        restore(tensors, loop.parameters, loop.averages, loop.optimizer.optimizer)
        if loop.state["scaler"]:
            accelerator.scaler.load_state_dict(loop.state["scaler"])
        accelerator.print(f"resuming from step {loop.state['step']}")
    elif others := loop.checkpoints.of_others():
        folder = others[0].parent
        accelerator.print(f"starting a new run: {folder} has {len(others)} checkpoints of other settings or clips")


def _check_same_in_all_processes(found: str) -> None:
    """Raise ValueError if the processes, each of which reads the state of the run, found different states."""
    if len(set(states := gather_object([found]))) > 1:
        raise ValueError(f"output: expected the same files in all processes, got {', '.join(states)}")


def _read_finished(folder: Path, fingerprint: str) -> TrainingSummary | None:
    """Summary of the adapter in `folder` if this run wrote and finished it, else None."""
    summary = folder / "training" / "summary.json"
    if not summary.exists() or read_adapter_info(folder).identity.get("config_hash") != fingerprint:
        return None
    return TrainingSummary(**read_json(summary))


def _check_base(config: LoraTraining, clips: LatentClips) -> None:
    """Raise ValueError if the latents were encoded with another base."""
    expected, found = base_digest(get_preset(config.model).location), clips.summary.encoding.base_digest
    if found != expected:
        raise ValueError(
            f"latents: expected latents of base {config.model} {expected[:12]}, got latents of base {found[:12]}; "
            f"run `fourdnex encode --model {config.model}`"
        )


def _fingerprint(config: LoraTraining, clips: LatentClips) -> str:
    """Sha256 over the settings, the base and the clips of a run; paths do not count."""
    import hashlib

    fields = {key: str(value) for key, value in former_recipe(recorded(asdict(config))).items() if key not in _SAME_RUN}
    summary, base = recorded(asdict(clips.summary)), base_digest(get_preset(config.model).location)
    content = json.dumps([fields, clips.index, summary, base])
    return hashlib.sha256(content.encode()).hexdigest()


def _tracking(
    config: LoraTraining, clips: LatentClips, state: dict[str, Any], accelerator: Accelerator
) -> AbstractContextManager[TrackingRun | None]:
    """The MLflow run in the main process, or None."""
    if not (config.track and accelerator.is_main_process):
        return nullcontext()
    from fourdnex.tracking import TrackedDataset, TrackingRun

    provenance = identity.collect(data_md5=state["data_md5"])
    params = {key: str(value) for key, value in asdict(config).items() if key != "output"} | {"num_clips": len(clips)}
    dataset = (
        TrackedDataset(name="fourdnex-data", digest=provenance["data_md5"], source="data.dvc")
        if provenance.get("data_md5")
        else None
    )
    return TrackingRun.start(
        params=params, dataset=dataset, tags=provenance, run_id=state["mlflow_run_id"], name=config.output.name
    )


def _save_adapter(loop: TrainingLoop, tensors: dict[str, torch.Tensor], seconds: float) -> TrainingSummary:
    """Write the adapter folder in the main process; returns the summary in all processes."""
    config, state = loop.config, loop.state
    norm = adapter_norm(tensors)
    if not norm > 0:
        raise ValueError(f"adapter: expected a norm greater than 0 after {config.steps} steps, got {norm}")
    shared: list[Any] = [None, None]  # digest and MLflow run, known to the main process only
    if loop.accelerator.is_main_process:
        digest = save_adapter(config.output, tensors, _adapter_info(config, loop.clips, state))
        shared = [digest, state["mlflow_run_id"]]
    broadcast_object_list(shared)
    losses = [row[0] for row in state["losses"]]
    tail = losses[-max(1, len(losses) // 10) :]
    return TrainingSummary(
        adapter_dir=str(config.output),
        adapter_digest=shared[0],
        adapter_norm=norm,
        steps=config.steps,
        num_clips=len(loop.clips),
        loss=sum(tail) / len(tail),
        seconds=seconds,
        mlflow_run_id=shared[1],
    )


def _adapter_info(config: LoraTraining, clips: LatentClips, state: dict[str, Any]) -> AdapterInfo:
    """Metadata of the adapter."""
    preset = get_preset(config.model)
    digest = base_digest(preset.location)
    return AdapterInfo(
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
            if key not in ("latents", "output", "held_out_clips")
        },
    )


def _record_clips(config: LoraTraining, clips: LatentClips) -> None:
    """Record which clips the adapter was trained on, so that an evaluation can leave them out."""
    folder = config.output / "training"
    folder.mkdir(exist_ok=True)
    with atomic_path(folder / RECORD) as path:
        training_sources(config.latents, list(clips.summary.shards)).to_parquet(path, index=False)


def _write_report(
    config: LoraTraining, summary: TrainingSummary, log: Path, checkpoints: Checkpoints, run: TrackingRun | None
) -> None:
    """Write log, curves, samples and summary to `training` in the adapter folder, and remove the checkpoints.

    If the samples cannot be generated, the run is tagged and a warning is logged; the adapter is complete without them.
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
        note = f"the adapter in {config.output} is complete without them"
        _LOG.warning("samples: not generated, %s: %s: %s", note, missing, error)
    if run:
        run.set_tags({"adapter_digest": summary.adapter_digest, "samples_missing": missing})
        run.log_metrics({"adapter_norm": summary.adapter_norm, "final_loss": summary.loss}, step=config.steps)
        run.log_artifact(folder, "training")
    write_json(folder / "summary.json", asdict(summary))
    # Last: a run that is killed before this line finds its checkpoints and its log, and finishes again.
    checkpoints.remove()
    log.unlink(missing_ok=True)
