"""Our recipe against the public one, at equal steps and data: `python -m benchmarks.recipe_ablation`

Public: point maps centered frame by frame, its fixed latent statistics, RGB and XYZ decoded side by side, equal weights
of both losses, noise levels drawn uniformly. Both start from the sloped plane; a third variant is given the first point
map, exact, as a perfect annotator would give it.
It is `fourdnex ablate recipe`: interrupted, it goes on where it was.
"""

import argparse
from pathlib import Path

import pandas as pd

from benchmarks.reporting import print_table
from fourdnex.ablation.run import Ablation, ablate
from fourdnex.ablation.spec import read_spec
from fourdnex.ablation.table import SHOWN

LOWER = ("abs_rel", "ate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("workspace/benchmarks/recipe"), help="folder of what is made")
    parser.add_argument("--model", default="tiny", help="preset or folder of the base (default tiny)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one run each (default 0 1 2)")
    parser.add_argument("--steps", type=int, default=480, help="of training (default 480)")
    parser.add_argument("--worlds", type=int, default=256, help="training worlds (default 256)")
    parser.add_argument("--held-out", type=int, default=64, help="held-out worlds (default 64)")
    options = parser.parse_args()
    spec = read_spec("recipe")
    config = Ablation(
        out=options.out,
        model=options.model,
        seeds=tuple(options.seeds),
        steps=options.steps,
        worlds=options.worlds,
        held_out=options.held_out,
        track=False,
    )
    result = ablate(spec, config, progress=lambda line: print(line, flush=True))
    print_table(
        f"Recipes on {options.held_out} held-out worlds after {options.steps} steps on {options.worlds} worlds",
        ("recipe", "seeds", *SHOWN.values()),
        [(row["variant"], row["seeds"], *(_spread(row, key) for key in SHOWN)) for _, row in result.summary.iterrows()],
        notes=[
            "Median over seeds (lowest to highest) of means over worlds; length ratio: of the median over worlds whose "
            "camera moves, 1 is right.",
            *_gains(result.cells),
            *(f"set aside: {cell}: {reason}" for cell, reason in result.failed),
        ],
        packages=("numpy", "torch", "diffusers", "peft"),
    )


def _spread(row: pd.Series, metric: str) -> str:
    return f"{row[metric]:.4g} ({row[metric + '_low']:.4g} to {row[metric + '_high']:.4g})"


def _gains(cells: pd.DataFrame) -> list[str]:
    """How far each variant's errors lie below the public recipe's, seed by seed."""
    lines = []
    by_variant = {variant: part.set_index("seed") for variant, part in cells.groupby("variant", sort=False)}
    public = by_variant.pop("public", None)
    for variant, part in by_variant.items() if public is not None else ():
        gains = {metric: (1 - part[metric] / public[metric]).dropna() for metric in LOWER}
        told = [
            f"{SHOWN[metric]} {gain.median():.0%} ({gain.min():.0%} to {gain.max():.0%})"
            for metric, gain in gains.items()
        ]
        lines.append(f"{variant}: below the public recipe, median of seeds: {', '.join(told)}.")
    return lines


if __name__ == "__main__":
    main()
