"""Fusions of RGB and XYZ at equal training budget: `python -m benchmarks.fusion_ablation`

Every fusion trains on the same latents with the same steps and seeds, and is evaluated on the same held-out worlds.
Runs `fourdnex ablate fusion`; an interrupted run resumes where it stopped. The table also shows the token distance
between the RGB and the XYZ token of a pixel, and the seconds per training step.

With shared positions, the fusions height, frame and batch-cross-modal are the same function as width. They are not
trained: their rows show how much their losses differ from those of width, on real latents and with random domain
embeddings.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel

from benchmarks.measuring import time_in_turns
from benchmarks.reporting import add_model_option, argument_parser, median_and_range, print_table
from fourdnex.ablation.run import Ablation, ablate
from fourdnex.ablation.spec import read_spec
from fourdnex.latents.dataset import LatentClips
from fourdnex.model.adapter import add_lora
from fourdnex.model.fusion import get_fusion
from fourdnex.model.presets import get_preset
from fourdnex.model.text_padding import compact_text_padding
from fourdnex.model.transformer import SixDTransformer
from fourdnex.training.batches import draw_batch
from fourdnex.training.lora_settings import LoraTraining
from fourdnex.training.loss import flow_matching_loss

PAPER_GRID = (13, 30, 45)
"""Latent frames, rows and columns of tokens of one modality, at 49 frames of 480x720."""
METRICS = {
    "abs_rel": "depth AbsRel",
    "ate": "ATE, m",
    "xyz_error": "XYZ error, half extents",
    "chamfer": "Chamfer, half extents",
    "length_ratio": "length ratio",
    "psnr": "PSNR dB",
}
EQUAL_TO_WIDTH = ("height", "frame", "batch-cross-modal")
"""Fusions that equal width when positions are shared."""
TIMED_STEPS = 5


def main() -> None:
    """Run the ablation and print one row per fusion."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("workspace/benchmarks/fusions"), help="output folder (default: %(default)s)"
    )
    add_model_option(parser)
    parser.add_argument("--steps", type=int, default=160, help="steps of each training run (default: 160)")
    parser.add_argument("--worlds", type=int, default=64, help="number of training worlds (default: 64)")
    parser.add_argument("--held-out", type=int, default=16, help="number of held-out worlds (default: 16)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run per seed and fusion (default: 0)")
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
        metrics = (median_and_range(row, metric) for metric in METRICS)
        rows.append((row["variant"], *metrics, *_costs(config, latents, fusion, positions)))
    for fusion in EQUAL_TO_WIDTH:
        difference = f"same as width: losses differ by {_relative_loss_difference(config, latents, fusion):.0e}"
        rows.append((fusion, difference, *[""] * (len(METRICS) - 1), *_costs(config, latents, fusion, "shared")))
    print_table(
        f"Fusions: {config.steps} steps on {config.worlds} worlds, {config.held_out} held-out worlds",
        ("fusion", *METRICS.values(), "tokens between RGB and XYZ, 49x480x720", "seconds per step"),
        rows,
        notes=[
            f"Median over seeds {config.seeds} (lowest to highest). Positions are shared unless stated otherwise.",
            *(f"failed: {cell}: {reason}" for cell, reason in result.failed),
        ],
        packages=("torch", "diffusers", "peft"),
    )


def _transformer(config: Ablation, fusion: str, positions: str = "shared") -> SixDTransformer:
    """The base transformer in float32 with the given fusion and positions."""
    base = WanTransformer3DModel.from_pretrained(get_preset(config.model).location, subfolder="transformer")
    return SixDTransformer.from_base(base.float(), fusion=fusion, positions=positions)


def _batch(clips: LatentClips, indices: Sequence[int]) -> dict[str, torch.Tensor]:
    """The clips of the given indices, stacked."""
    items = [clips[index] for index in indices]
    return {key: torch.stack([item[key] for item in items]) for key in ("latents", "condition", "text", "image")}


@torch.no_grad()
def _relative_loss_difference(config: Ablation, clips: LatentClips, fusion: str) -> float:
    """Relative difference of the RGB or XYZ loss, whichever is larger, from that of width on the same batch."""
    training = LoraTraining(latents=clips.folder, output=clips.folder, model=config.model)
    indices, sigma, noise = draw_batch(training, clips, 0)
    losses = []
    for name in ("width", fusion):
        transformer = _transformer(config, name).eval()
        transformer.domain_embeddings.normal_(generator=torch.Generator().manual_seed(0))
        _, parts = flow_matching_loss(transformer, _batch(clips, indices), sigma=sigma, noise=noise, fusion=name)
        losses.append(parts)
    return float(((losses[1] - losses[0]) / losses[0]).abs().max())


def _costs(config: Ablation, clips: LatentClips, fusion: str, positions: str) -> tuple[float, float]:
    """Token distance between RGB and XYZ, and median seconds of a training step on the CPU with the default batch."""
    training = LoraTraining(latents=clips.folder, output=clips.folder, model=config.model)
    transformer = _transformer(config, fusion, positions).train()
    add_lora(transformer, rank=training.rank, alpha=training.alpha, targets=training.targets)
    compact_text_padding(transformer)
    optimizer = torch.optim.AdamW([value for value in transformer.parameters() if value.requires_grad])
    draws = [draw_batch(training, clips, step) for step in range(1 + TIMED_STEPS)]
    batches = [(_batch(clips, indices), sigma, noise) for indices, sigma, noise in draws]

    def update(step: int) -> None:
        batch, sigma, noise = batches[step]
        loss, _ = flow_matching_loss(transformer, batch, sigma=sigma, noise=noise, fusion=fusion)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    timing = time_in_turns({"update": update}, repeats=TIMED_STEPS)["update"]
    return get_fusion(fusion).token_distance(PAPER_GRID), timing.wall


if __name__ == "__main__":
    main()
