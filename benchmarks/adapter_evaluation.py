"""Adapter, baselines and VAE reconstruction on held-out worlds: `python -m benchmarks.adapter_evaluation ADAPTER`

Prints the metrics of `fourdnex.evaluation.benchmark`, which the Dagster graph uses for its checks.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.reporting import add_model_option, argument_parser, print_table
from fourdnex.datasets.worlds import world_seed
from fourdnex.datasets.worlds.scenes import sample_world
from fourdnex.evaluation.benchmark import BASELINES, FLOOR_WORLDS, Evaluation, evaluate
from fourdnex.io.renamed import renamed_methods
from fourdnex.workspace import Workspace

COLUMNS = {
    "abs_rel": "depth AbsRel",
    "delta1": "delta1",
    "ate": "ATE m",
    "rpe_translation": "RPE m",
    "rpe_rotation_deg": "RPE deg",
    "length_ratio": "length ratio",
    "chamfer": "Chamfer, half extents",
    "xyz_error": "XYZ error, half extents",
    "psnr": "PSNR dB",
    "ssim": "SSIM",
}


def main() -> None:
    """Evaluate the adapter; print a table of methods and a table by what moves."""
    parser = argument_parser(__doc__)
    parser.add_argument("adapter", type=Path, help="adapter folder")
    parser.add_argument(
        "--workspace", type=Path, default=Path("workspace"), help="workspace with annotated and curated clips"
    )
    parser.add_argument("--out", type=Path, help="report folder (default: benchmarks/ADAPTER in the workspace)")
    add_model_option(parser)
    parser.add_argument("--worlds", type=int, default=64, help="number of held-out worlds (default: 64)")
    parser.add_argument("--steps", type=int, help="sampling steps (default: the preset's)")
    parser.add_argument("--seed", type=int, default=0, help="noise seed (default: 0)")
    options = parser.parse_args()
    files = Workspace(options.workspace)
    out = options.out or files.root / "benchmarks" / options.adapter.name
    report = evaluate(
        Evaluation(
            adapter=options.adapter,
            out=out,
            model=options.model,
            annotated=files.annotated,
            curated=files.curated,
            num_worlds=options.worlds,
            num_inference_steps=options.steps,
            seed=options.seed,
        )
    )
    methods = {"adapter": report["adapter"]}
    methods |= {name.replace("_", " "): report["baselines"][name] for name in BASELINES}
    methods |= {f"VAE reconstruction ({min(FLOOR_WORLDS, options.worlds)} worlds)": report["vae_floor"]}
    print_table(
        f"Adapter {report['settings']['adapter_digest']} on {report['num_worlds']} held-out worlds",
        ("method", *COLUMNS.values()),
        [(name, *(numbers[key] for key in COLUMNS)) for name, numbers in methods.items()],
        notes=[_gain(report), f"Generation and scoring took {report['seconds'] / 60:.1f} minutes."],
        packages=("numpy", "torch", "diffusers", "peft"),
    )
    print_table(
        "By what moves",
        (
            "worlds",
            "number",
            "XYZ error, half extents",
            "ratio to VAE reconstruction",
            "RGB PSNR dB",
            "static first frame, RGB PSNR dB",
        ),
        _by_motion(
            renamed_methods(pd.read_parquet(out / "worlds.parquet"), source=out / "worlds.parquet"),
            report["vae_floor"]["xyz_error"],
        ),
        notes=[
            "XYZ error: mean distance between a point and the true point of its pixel. RGB: all frames but the first."
        ],
    )


def _by_motion(table: pd.DataFrame, vae_error: float) -> list[tuple[Any, ...]]:
    """Rows for worlds with a static background only, with moving objects, and with a moving camera."""
    tags = table["world"].map(lambda name: sample_world(world_seed(name)).tags)
    groups = {
        "only the camera moves": tags.map(lambda of: "static" in of),
        "objects move": tags.map(lambda of: "dynamic" in of),
        "the camera moves": tags.map(lambda of: "camera-still" not in of),
    }
    rows = []
    for name, part in ((name, table[mask]) for name, mask in groups.items()):
        adapter, static = (part[part["method"] == method] for method in ("adapter", "static_sloped_plane"))
        error = adapter["xyz_error"].mean()
        rows.append((name, len(adapter), error, error / vae_error, adapter["psnr"].mean(), static["psnr"].mean()))
    return rows


def _gain(report: dict[str, Any]) -> str:
    """Error reduction against the best baseline, as a note."""
    parts = [f"{COLUMNS[metric]} {gain:.0%}" for metric, gain in report["gain"].items()]
    return f"Error reduction against the best baseline: {', '.join(parts)}."


if __name__ == "__main__":
    main()
