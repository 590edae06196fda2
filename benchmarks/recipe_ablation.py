"""Default recipe against the reference recipe, at equal steps and data: `python -m benchmarks.recipe_ablation`

The reference recipe centers point maps per frame, uses fixed latent statistics, decodes RGB and XYZ jointly, weights
both losses equally and samples noise levels uniformly. Both recipes start from the sloped plane; a third variant is
given the exact first-frame point map, as a perfect annotator would provide it.
Runs `fourdnex ablate recipe`; an interrupted run resumes where it stopped.
"""

from pathlib import Path

import pandas as pd

from benchmarks.reporting import add_model_option, argument_parser, median_and_range, print_table
from fourdnex.ablation.run import Ablation, ablate
from fourdnex.ablation.spec import read_spec
from fourdnex.ablation.table import SHOWN

LOWER_IS_BETTER = ("abs_rel", "ate")


def main() -> None:
    """Run the ablation and print one row per recipe."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("workspace/benchmarks/recipe"), help="output folder (default: %(default)s)"
    )
    add_model_option(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one run per seed (default: 0 1 2)")
    parser.add_argument("--steps", type=int, default=480, help="training steps (default: 480)")
    parser.add_argument("--worlds", type=int, default=256, help="number of training worlds (default: 256)")
    parser.add_argument("--held-out", type=int, default=64, help="number of held-out worlds (default: 64)")
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
        [
            (row["variant"], row["seeds"], *(median_and_range(row, metric) for metric in SHOWN))
            for _, row in result.summary.iterrows()
        ],
        notes=[
            "Median over seeds (lowest to highest) of means over worlds. Length ratio: median over worlds whose camera "
            "moves; 1 is exact.",
            *_error_reductions(result.cells, spec.baseline),
            *(f"failed: {cell}: {reason}" for cell, reason in result.failed),
        ],
        packages=("numpy", "torch", "diffusers", "peft"),
    )


def _error_reductions(cells: pd.DataFrame, baseline: str) -> list[str]:
    """One line per variant: reduction of its errors against the baseline, compared seed by seed."""
    lines = []
    by_variant = {variant: part.set_index("seed") for variant, part in cells.groupby("variant", sort=False)}
    reference = by_variant.pop(baseline, None)
    for variant, part in by_variant.items() if reference is not None else ():
        reductions = {metric: (1 - part[metric] / reference[metric]).dropna() for metric in LOWER_IS_BETTER}
        summary = [
            f"{SHOWN[metric]} {values.median():.0%} ({values.min():.0%} to {values.max():.0%})"
            for metric, values in reductions.items()
        ]
        lines.append(f"{variant}: error reduction against {baseline}, median over seeds: {', '.join(summary)}.")
    return lines


if __name__ == "__main__":
    main()
