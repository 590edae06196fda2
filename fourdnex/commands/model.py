"""Commands that pretrain, train, evaluate and convert models."""

import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from fourdnex.commands.declaration import Result, command, failures, workspace_defaults
from fourdnex.progress import write_line


@command("--output pretrained/fourdnex-tiny --work workspace/pretrain")
def pretrain(
    *,
    output: Annotated[Path, "folder of the base"],
    work: Annotated[Path, "folder for intermediate files"],
    frame_minutes: Annotated[float, "minutes of VAE training on single frames"] = 9.0,
    clip_minutes: Annotated[float, "minutes of VAE training on clips"] = 14.0,
    transformer_minutes: Annotated[float, "minutes of training for the transformer and its encoders"] = 90.0,
    decoder_minutes: Annotated[
        float, "minutes of training for the VAE's decoder alone, at the end; latents do not change"
    ] = 0.0,
    start: Annotated[Path | None, "base to continue from; its VAE's encoder is frozen"] = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"], "compute precision of the transformer; auto: bf16 where it is faster"
    ] = "fp32",
    seed: Annotated[int, "seed of weights and batches"] = 0,
) -> Result:
    """Train the tiny base on procedural worlds, from scratch or from an existing base."""
    from fourdnex.pretraining.base import pretrain_base

    minutes = {
        "frame_minutes": frame_minutes,
        "clip_minutes": clip_minutes,
        "transformer_minutes": transformer_minutes,
        "decoder_minutes": decoder_minutes,
    }
    folder = pretrain_base(output, work, **minutes, start=start, precision=precision, seed=seed)
    print(folder)
    return Result(data={"output": folder})


@command("--output workspace/tiny-depth --minutes 60", "fourdnex.pretraining.depth_network:DepthPretraining")
def pretrain_depth(
    *,
    output: Annotated[Path, "folder of the network"],
    **settings: Any,
) -> Result:
    """Train the tiny depth network, which estimates first-frame point maps, on procedural worlds."""
    from fourdnex.pretraining.depth_network import DepthPretraining, pretrain_depth

    folder = pretrain_depth(DepthPretraining(**settings), output, progress=write_line)
    print(folder)
    return Result(data={"output": folder})


@command(
    "--output workspace/adapters/mine --steps 700",
    "fourdnex.training.lora_settings:LoraTraining",
    defaults=workspace_defaults("latents"),
)
def train(**settings: Any) -> Result | int:
    """Fine-tune a LoRA adapter of the 6D transformer on latents; resumes from its checkpoint."""
    from fourdnex.training.trainer import LoraTraining, TrainingInterrupted, train

    try:
        summary = asdict(train(LoraTraining(**settings)))
    except TrainingInterrupted as interruption:
        write_line(str(interruption))
        return 130
    if os.environ.get("RANK", "0") != "0":  # set by torchrun: only one process prints the result
        return 0
    print(json.dumps(summary, indent=2))
    return Result(data=summary)


@command(
    "--adapter workspace/adapters/mine --out workspace/evaluation/mine",
    "fourdnex.evaluation.benchmark:Evaluation",
    "fourdnex.model.memory_settings:MemorySettings",
    defaults=workspace_defaults("annotated", "curated"),
)
def evaluate(**settings: Any) -> Result:
    """Measure depth, pose, point and RGB errors of an adapter and baselines on held-out worlds or clips."""
    from fourdnex.evaluation.benchmark import Evaluation, evaluate
    from fourdnex.identity import collect
    from fourdnex.model.adapter_files import read_adapter_info
    from fourdnex.model.memory_settings import MemorySettings

    memory = {field.name: settings.pop(field.name) for field in fields(MemorySettings) if field.name in settings}
    config = Evaluation(**settings)
    data_md5 = read_adapter_info(config.adapter).identity.get("data_md5")
    report = evaluate(config, identity=collect(data_md5=data_md5), memory=MemorySettings(**memory))
    clips = report.get("clips")
    if clips is not None:
        for name, reason in clips["skipped"]:
            write_line(f"skipped: {name}: {reason}")
        print(f"{len(clips['names'])} held-out clips, {clips['known_share']:.0%} of their pixels are confident")
        if not clips["training_is_recorded"]:
            write_line(
                "the adapter does not record its training clips: whether these clips are held out is not checked"
            )
    print(_error_table(report))
    path = config.out / "report.json"
    print(f"{path}: gain " + ", ".join(f"{metric} {gain:.0%}" for metric, gain in report["gain"].items()))
    return Result(data={"report": path, **report})


def _error_table(report: dict[str, Any]) -> str:
    """One line per method; a dash for a metric that is not defined, such as the length ratio of a static camera."""
    from fourdnex.evaluation.scoring import METRICS

    lines = [f"{'':20s}" + "".join(f"{metric:>18s}" for metric in METRICS)]
    for name, row in {"adapter": report["adapter"], **report["baselines"]}.items():
        values = ("-" if row[metric] is None else f"{row[metric]:.4f}" for metric in METRICS)
        lines.append(f"{name:20s}" + "".join(f"{value:>18s}" for value in values))
    return "\n".join(lines)


@command(
    "recipe --out workspace/ablations/recipe --seeds 0 1 2 --steps 480 --worlds 256",
    "fourdnex.ablation.run:Ablation",
)
def ablate(
    spec: Annotated[
        str,
        "recipe, improvements, fusion, normalization, decode, statistics, xyz-init, mask, weight, timesteps, "
        "or a JSON file",
    ],
    **settings: Any,
) -> Result | int:
    """Compare variants of the training settings on held-out worlds, over several seeds; resumes after interruption."""
    from fourdnex.ablation.run import Ablation, ablate
    from fourdnex.ablation.spec import read_spec
    from fourdnex.ablation.table import markdown
    from fourdnex.training.trainer import TrainingInterrupted

    variants = read_spec(spec)
    try:
        result = ablate(variants, Ablation(**settings), progress=write_line)
    except TrainingInterrupted as interruption:
        write_line(str(interruption))
        return 130
    for cell, reason in result.failed:
        write_line(f"failed: {cell}: {reason}")
    print(markdown(result.summary, variants.baseline))
    cells = result.cells.to_dict("records")
    return Result(data={"cells": cells, "failed": failures(result.failed)}, status=0 if cells else 1)


@command("4dnex-lora adapters/4dnex")
def import_adapter(
    public: Annotated[Path, "folder with pytorch_lora_weights.safetensors and learnable_domain_embeddings.pt"],
    out: Annotated[Path, "adapter folder to create"],
    *,
    model: Annotated[str, "preset or folder of the base that it was trained on; weights are not needed"] = (
        "wan2.1-i2v-14b-480p"
    ),
) -> Result:
    """Convert the 4DNeX reference weights to an adapter folder; checks every key and shape, executes nothing."""
    from fourdnex.model.checkpoint_conversion import import_adapter

    imported = import_adapter(public, out, model=model)
    info = imported.info
    print(f"{out}: adapter {imported.digest} for {info.base_name}")
    scale = info.alpha / info.rank
    print(f"  LoRA of rank {info.rank} on {imported.num_layers} layers at scale {scale:g}, and domain embeddings")
    print(f"  {imported.num_parameters:,} parameters; every key and shape matches the base")
    mean, std = info.statistics.mean[0], info.statistics.std[0]
    print(f"  XYZ latents: mean {mean:g}, standard deviation {std:g}; point maps normalized per {info.normalization}")
    counts = {"rank": info.rank, "num_layers": imported.num_layers, "num_parameters": imported.num_parameters}
    return Result(data={"output": out, "adapter_digest": imported.digest, "base_model": info.base_name, **counts})
