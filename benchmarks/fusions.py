"""The fusions at equal budget, on held-out worlds: `python -m benchmarks.fusions`

Every fusion is trained on the same latents with the same steps and seeds, and measured on the same held-out worlds;
that is an ablation (`fourdnex ablate fusion`), and it goes on where it was interrupted. Beside it stand how far
partners are from each other in the sequence, and what a training step costs.
"""

import argparse
import time
from pathlib import Path
from statistics import median
from typing import get_args

import pandas as pd
import torch
from diffusers import WanTransformer3DModel

from benchmarks.reporting import print_table
from fourdnex.ablation.run import Ablation, ablate
from fourdnex.ablation.spec import AblationSpec, read_spec
from fourdnex.model.adapter import add_lora
from fourdnex.model.fusion import get_fusion
from fourdnex.model.names import Positions
from fourdnex.model.padding import compact_text_padding
from fourdnex.model.presets import get_preset
from fourdnex.model.transformer import SixDTransformer
from fourdnex.training.latent_shards import LatentClips
from fourdnex.training.settings import LoraTraining
from fourdnex.training.steps import draw, flow_matching_loss

PAPER_GRID = (13, 30, 45)
"""Tokens of one modality at 49 frames of 480x720."""
METRICS = {"abs_rel": "depth AbsRel", "chamfer": "Chamfer, half extents", "psnr": "PSNR dB"}
TIMED_STEPS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("workspace/benchmarks/fusions"), help="folder of the run")
    parser.add_argument("--model", default="tiny", help="preset or folder of the base (default tiny)")
    parser.add_argument("--steps", type=int, default=160, help="of every training run (default 160)")
    parser.add_argument("--worlds", type=int, default=64, help="training worlds (default 64)")
    parser.add_argument("--held-out", type=int, default=16, help="held-out worlds (default 16)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one training run a fusion each (default 0)")
    parser.add_argument(
        "--positions",
        choices=get_args(Positions),
        default="shared",
        help="of partners: one, as the public code has it, or each its own in the joined grid (default shared)",
    )
    options = parser.parse_args()
    fusions = read_spec("fusion").variants
    spec = AblationSpec(name="fusion", variants=fusions, settings={"positions": options.positions})
    config = Ablation(
        out=options.out,
        model=options.model,
        steps=options.steps,
        worlds=options.worlds,
        held_out=options.held_out,
        seeds=tuple(options.seeds),
        track=False,
    )
    result = ablate(spec, config, progress=print)
    latents = LatentClips(config.out / "latents" / "clip", LoraTraining(latents=config.out, output=config.out))
    rows = [
        (
            row["variant"],
            get_fusion(row["variant"]).token_distance(PAPER_GRID),
            *(_spread(row, metric) for metric in METRICS),
            _seconds_a_step(row["variant"], options.positions, options.model, latents),
        )
        for _, row in result.summary.iterrows()
    ]
    print_table(
        f"Fusions, {options.positions} positions: {config.steps} steps, {config.held_out} held-out worlds",
        ("fusion", "tokens between partners, 49x480x720", *METRICS.values(), "seconds a step"),
        rows,
        notes=[
            f"Median over seeds {config.seeds} (lowest to highest). With shared positions width, height, frame and "
            "batch-cross-modal are one function: what differs between them is rounding, grown in training.",
            *(f"Set aside: {cell}: {reason}" for cell, reason in result.set_aside),
        ],
        packages=("torch", "diffusers", "peft"),
    )


def _spread(row: pd.Series, metric: str) -> str:
    text = f"{row[metric]:.4g}"
    return text if row["seeds"] == 1 else f"{text} ({row[metric + '_low']:.4g} to {row[metric + '_high']:.4g})"


def _seconds_a_step(fusion: str, positions: str, model: str, clips: LatentClips) -> float:
    """Median of a few: forward, backward and update of a default batch on the CPU, as the trainer does it."""
    config = LoraTraining(latents=clips.folder, output=clips.folder, model=model)
    base = WanTransformer3DModel.from_pretrained(get_preset(model).location, subfolder="transformer")
    transformer = SixDTransformer.from_base(base.float(), fusion=fusion, positions=positions).train()
    add_lora(transformer, rank=config.rank, alpha=config.alpha, targets=config.targets)
    compact_text_padding(transformer)
    optimiser = torch.optim.AdamW([value for value in transformer.parameters() if value.requires_grad])
    times = []
    for step in range(1 + TIMED_STEPS):
        chosen, sigma, noise = draw(config, clips, step)
        items = [clips[i] for i in chosen]
        batch = {key: torch.stack([item[key] for item in items]) for key in ("latents", "condition", "text", "image")}
        started = time.perf_counter()
        loss, _ = flow_matching_loss(transformer, batch, sigma=sigma, noise=noise, fusion=fusion)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        times.append(time.perf_counter() - started)
    return median(times[1:])


if __name__ == "__main__":
    main()
