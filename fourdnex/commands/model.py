"""Commands that make, train and measure the model."""

import json
import os
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from fourdnex.commands.declaration import command, progress, workspace_defaults


@command("--output pretrained/fourdnex-tiny --work workspace/pretrain")
def pretrain(
    *,
    output: Annotated[Path, "folder of the base"],
    work: Annotated[Path, "folder for what is between"],
    frame_minutes: Annotated[float, "of the VAE on single frames"] = 9.0,
    clip_minutes: Annotated[float, "of the VAE on clips"] = 14.0,
    transformer_minutes: Annotated[float, "of the transformer and its encoders"] = 90.0,
    decoder_minutes: Annotated[float, "of the VAE's decoder alone, at the end; latents stay what they are"] = 0.0,
    start: Annotated[Path | None, "a base to train further; its VAE's encoder stays as it is"] = None,
    precision: Annotated[Literal["auto", "fp32", "bf16"], "of the transformer; auto: bf16 where it is faster"] = "fp32",
    seed: Annotated[int, "of weights and batches"] = 0,
) -> None:
    """Train the tiny base on procedural worlds, from nothing or from where another one stands."""
    from fourdnex.pretraining.base import pretrain_base

    minutes = {
        "frame_minutes": frame_minutes,
        "clip_minutes": clip_minutes,
        "transformer_minutes": transformer_minutes,
        "decoder_minutes": decoder_minutes,
    }
    print(pretrain_base(output, work, **minutes, start=start, precision=precision, seed=seed))


@command("--output workspace/tiny-depth --minutes 60", "fourdnex.pretraining.depth_network:DepthPretraining")
def pretrain_depth(
    *,
    output: Annotated[Path, "folder of the network"],
    **settings: Any,
) -> None:
    """Train the tiny depth network, which finds first point maps of worlds, from nothing."""
    from fourdnex.pretraining.depth_network import DepthPretraining, pretrain_depth

    print(pretrain_depth(DepthPretraining(**settings), output, progress=lambda line: print(line, file=sys.stderr)))


@command(
    "--output workspace/adapters/mine --steps 700",
    "fourdnex.training.trainer:LoraTraining",
    defaults=workspace_defaults("latents"),
)
def train(**settings: Any) -> int:
    """Fine-tune a LoRA adapter of the 6D transformer on latents; goes on from its checkpoint when interrupted."""
    from fourdnex.training.trainer import LoraTraining, TrainingInterrupted, train

    try:
        summary = train(LoraTraining(**settings))
    except TrainingInterrupted as ended:
        print(ended, file=sys.stderr)
        return 130
    if os.environ.get("RANK", "0") == "0":  # torchrun's name for a process: all of them say the same
        print(json.dumps(asdict(summary), indent=2))
    return 0


@command(
    "--adapter workspace/adapters/mine --out workspace/evaluation/mine",
    "fourdnex.evaluation.benchmark:Evaluation",
    "fourdnex.model.memory_settings:MemorySettings",
    defaults=workspace_defaults("annotated", "curated"),
)
def evaluate(**settings: Any) -> None:
    """Measure an adapter and three baselines on held-out worlds: depth, pose, points and RGB."""
    from fourdnex.evaluation.benchmark import Evaluation, evaluate
    from fourdnex.identity import collect
    from fourdnex.model.adapter_files import read_adapter_info
    from fourdnex.model.memory_settings import MemorySettings

    memory = {field.name: settings.pop(field.name) for field in fields(MemorySettings) if field.name in settings}
    config = Evaluation(**settings)
    learned_from = read_adapter_info(config.adapter).identity.get("data_md5")
    report = evaluate(config, identity=collect(data_md5=learned_from), memory=MemorySettings(**memory))
    print(_errors(report))
    print(f"{config.out / 'report.json'}: gain " + ", ".join(f"{k} {v:.0%}" for k, v in report["gain"].items()))


def _errors(report: dict[str, Any]) -> str:
    """A line a method; a dash where a metric is not known, as a length ratio where no camera moves."""
    from fourdnex.evaluation.benchmark import METRICS

    lines = [f"{'':20s}" + "".join(f"{metric:>18s}" for metric in METRICS)]
    for name, row in {"adapter": report["adapter"], **report["baselines"]}.items():
        told = ("-" if row[metric] is None else f"{row[metric]:.4f}" for metric in METRICS)
        lines.append(f"{name:20s}" + "".join(f"{value:>18s}" for value in told))
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
) -> int:
    """Compare variants of the settings on held-out worlds, over seeds; goes on where it was interrupted."""
    from fourdnex.ablation.run import Ablation, ablate
    from fourdnex.ablation.spec import read_spec
    from fourdnex.ablation.table import markdown
    from fourdnex.training.trainer import TrainingInterrupted

    chosen = read_spec(spec)
    try:
        result = ablate(chosen, Ablation(**settings), progress=progress)
    except TrainingInterrupted as ended:
        print(ended, file=sys.stderr)
        return 130
    for cell, reason in result.failed:
        print(f"set aside: {cell}: {reason}", file=sys.stderr)
    print(markdown(result.summary, chosen.baseline))
    return 0 if len(result.cells) else 1


@command("4dnex-lora adapters/4dnex")
def import_adapter(
    public: Annotated[Path, "folder with pytorch_lora_weights.safetensors and learnable_domain_embeddings.pt"],
    out: Annotated[Path, "adapter folder to make"],
    *,
    model: Annotated[str, "preset or folder of the base it was trained on; weights are not needed"] = (
        "wan2.1-i2v-14b-480p"
    ),
) -> None:
    """Turn the public 4DNeX weights into an adapter folder, every key and shape checked, nothing in them executed."""
    from fourdnex.model.checkpoint_conversion import import_adapter

    done = import_adapter(public, out, model=model)
    info = done.info
    print(f"{out}: adapter {done.digest} for {info.base_name}")
    scale = info.alpha / info.rank
    print(f"  LoRA of rank {info.rank} on {done.num_layers} layers at scale {scale:g}, and domain embeddings")
    print(f"  {done.num_parameters:,} parameters, every key and shape as the base asks for")
    mean, std = info.statistics.mean[0], info.statistics.std[0]
    print(f"  XYZ latents: mean {mean:g}, deviation {std:g}; point maps normalized per {info.normalization}")
