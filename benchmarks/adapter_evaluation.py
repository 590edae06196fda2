"""An adapter, three baselines and the VAE's floor on held-out worlds: `python -m benchmarks.adapter_evaluation ADAPTER`

The numbers are those of `fourdnex.evaluation.benchmark`, which the Dagster graph judges adapters by.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.reporting import print_table
from fourdnex.datasets.worlds import world_seed
from fourdnex.datasets.worlds.scenes import sample_world
from fourdnex.evaluation.benchmark import BASELINES, FLOOR_WORLDS, Evaluation, evaluate
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=Path, help="adapter folder")
    parser.add_argument(
        "--workspace", type=Path, default=Path("workspace"), help="annotated clips and the curated table"
    )
    parser.add_argument("--out", type=Path, help="folder of the report (default: ADAPTER's name in the workspace)")
    parser.add_argument("--model", default="tiny", help="preset or folder of the base (default tiny)")
    parser.add_argument("--worlds", type=int, default=64, help="how many held-out worlds (default 64)")
    parser.add_argument("--steps", type=int, help="sampling steps (default: the preset's)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default 0)")
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
    methods |= {f"VAE floor ({min(FLOOR_WORLDS, options.worlds)} worlds)": report["vae_floor"]}
    print_table(
        f"Adapter {report['settings']['adapter_digest']} on {report['num_worlds']} held-out worlds",
        ("method", *COLUMNS.values()),
        [(name, *(numbers[key] for key in COLUMNS)) for name, numbers in methods.items()],
        notes=[_gain(report), f"Generated and scored in {report['seconds'] / 60:.1f} minutes."],
        packages=("numpy", "torch", "diffusers", "peft"),
    )
    print_table(
        "What moves in them",
        (
            "worlds",
            "number",
            "XYZ error, half extents",
            "times the VAE's floor",
            "RGB PSNR dB",
            "first frame held still",
        ),
        _by_motion(pd.read_parquet(out / "worlds.parquet"), report["vae_floor"]["xyz_error"]),
        notes=["XYZ error: mean distance of a point from the true one of its pixel. RGB: frames 2 to the last."],
    )


def _by_motion(table: pd.DataFrame, floor: float) -> list[tuple[Any, ...]]:
    """Rows for the worlds that stand still, those in which things move, and those whose camera moves."""
    tags = table["world"].map(lambda name: sample_world(world_seed(name)).tags)
    chosen = {
        "nothing moves but the camera": tags.map(lambda of: "static" in of),
        "things move": tags.map(lambda of: "dynamic" in of),
        "the camera moves": tags.map(lambda of: "camera-still" not in of),
    }
    rows = []
    for name, part in ((name, table[mask]) for name, mask in chosen.items()):
        ours, still = (part[part["method"] == method] for method in ("adapter", "still_sloped_plane"))
        error = ours["xyz_error"].mean()
        rows.append((name, len(ours), error, error / floor, ours["psnr"].mean(), still["psnr"].mean()))
    return rows


def _gain(report: dict[str, Any]) -> str:
    parts = [f"{COLUMNS[metric]} {gain:.0%}" for metric, gain in report["gain"].items()]
    return f"Error below the best baseline's: {', '.join(parts)}."


if __name__ == "__main__":
    main()
