"""The fusions at equal budget, on held-out worlds: `python -m benchmarks.fusion_ablation`

Every fusion is trained on the same latents with the same steps and seeds, and measured on the same held-out worlds;
that is an ablation (`fourdnex ablate fusion`), and it goes on where it was interrupted. Beside it stand how far
partners are from each other in the sequence, and what a training step costs.

With shared positions height, frame and batch-cross-modal are the function that width is. They are not trained: the
table says how far their losses lie from width's, on real latents, with domain embeddings that tell the halves apart.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from diffusers import WanTransformer3DModel

from benchmarks.reporting import print_table
from fourdnex.ablation.run import Ablation, ablate
from fourdnex.ablation.spec import read_spec
from fourdnex.latents.shards import LatentClips
from fourdnex.model.adapter import add_lora
from fourdnex.model.fusion import get_fusion
from fourdnex.model.presets import get_preset
from fourdnex.model.text_padding import compact_text_padding
from fourdnex.model.transformer import SixDTransformer
from fourdnex.training.lora_settings import LoraTraining
from fourdnex.training.steps import draw, flow_matching_loss

PAPER_GRID = (13, 30, 45)
"""Tokens of one modality at 49 frames of 480x720."""
METRICS = {
    "abs_rel": "depth AbsRel",
    "ate": "ATE, m",
    "xyz_error": "XYZ error, half extents",
    "chamfer": "Chamfer, half extents",
    "length_ratio": "length ratio",
    "psnr": "PSNR dB",
}
EQUAL_TO_WIDTH = ("height", "frame", "batch-cross-modal")
"""With shared positions."""
TIMED_STEPS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("workspace/benchmarks/fusions"), help="folder of the run")
    parser.add_argument("--model", default="tiny", help="preset or folder of the base (default tiny)")
    parser.add_argument("--steps", type=int, default=160, help="of every training run (default 160)")
    parser.add_argument("--worlds", type=int, default=64, help="training worlds (default 64)")
    parser.add_argument("--held-out", type=int, default=16, help="held-out worlds (default 16)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one training run a fusion each (default 0)")
    options = parser.parse_args()
    spec = read_spec("fusion")
    config = Ablation(
        out=options.out,
        model=options.model,
        steps=options.steps,
        worlds=options.worlds,
        held_out=options.held_out,
        seeds=tuple(options.seeds),
        track=False,
    )
    result = ablate(spec, config, progress=lambda line: print(line, flush=True))
    latents = LatentClips(config.out / "latents" / "clip", LoraTraining(latents=config.out, output=config.out))
    rows = []
    for _, row in result.summary.iterrows():
        settings = spec.settings_of(row["variant"])
        fusion, positions = settings["fusion"], settings.get("positions", "shared")
        rows.append(
            (row["variant"], *(_spread(row, metric) for metric in METRICS), *_costs(config, latents, fusion, positions))
        )
    for fusion in EQUAL_TO_WIDTH:
        told = f"as width: losses differ by {_difference_to_width(config, latents, fusion):.0e}"
        rows.append((fusion, told, *[""] * (len(METRICS) - 1), *_costs(config, latents, fusion, "shared")))
    print_table(
        f"Fusions: {config.steps} steps on {config.worlds} worlds, {config.held_out} held-out worlds",
        ("fusion", *METRICS.values(), "tokens between partners, 49x480x720", "seconds a step"),
        rows,
        notes=[
            f"Median over seeds {config.seeds} (lowest to highest). Positions are shared where nothing else is said.",
            *(f"Set aside: {cell}: {reason}" for cell, reason in result.failed),
        ],
        packages=("torch", "diffusers", "peft"),
    )


def _spread(row: pd.Series, metric: str) -> str:
    text = f"{row[metric]:.4g}"
    return text if row["seeds"] == 1 else f"{text} ({row[metric + '_low']:.4g} to {row[metric + '_high']:.4g})"


def _transformer(config: Ablation, fusion: str, positions: str = "shared") -> SixDTransformer:
    base = WanTransformer3DModel.from_pretrained(get_preset(config.model).location, subfolder="transformer")
    return SixDTransformer.from_base(base.float(), fusion=fusion, positions=positions)


def _batch(clips: LatentClips, chosen: Sequence[int]) -> dict[str, torch.Tensor]:
    items = [clips[i] for i in chosen]
    return {key: torch.stack([item[key] for item in items]) for key in ("latents", "condition", "text", "image")}


@torch.no_grad()
def _difference_to_width(config: Ablation, clips: LatentClips, fusion: str) -> float:
    """How far the losses of RGB and XYZ lie from width's on the same batch: the larger of both, relative."""
    training = LoraTraining(latents=clips.folder, output=clips.folder, model=config.model)
    chosen, sigma, noise = draw(training, clips, 0)
    losses = []
    for name in ("width", fusion):
        transformer = _transformer(config, name).eval()
        transformer.domain_embeddings.normal_(generator=torch.Generator().manual_seed(0))
        _, parts = flow_matching_loss(transformer, _batch(clips, chosen), sigma=sigma, noise=noise, fusion=name)
        losses.append(parts)
    return float(((losses[1] - losses[0]) / losses[0]).abs().max())


def _costs(config: Ablation, clips: LatentClips, fusion: str, positions: str) -> tuple[float, float]:
    """Tokens between partners; seconds of a default batch on the CPU (forward, backward, update), median of a few."""
    training = LoraTraining(latents=clips.folder, output=clips.folder, model=config.model)
    transformer = _transformer(config, fusion, positions).train()
    add_lora(transformer, rank=training.rank, alpha=training.alpha, targets=training.targets)
    compact_text_padding(transformer)
    optimizer = torch.optim.AdamW([value for value in transformer.parameters() if value.requires_grad])
    times = []
    for step in range(1 + TIMED_STEPS):
        chosen, sigma, noise = draw(training, clips, step)
        batch = _batch(clips, chosen)
        started = time.perf_counter()
        loss, _ = flow_matching_loss(transformer, batch, sigma=sigma, noise=noise, fusion=fusion)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - started)
    return get_fusion(fusion).token_distance(PAPER_GRID), median(times[1:])


if __name__ == "__main__":
    main()
