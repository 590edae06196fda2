"""What a given first point map is worth, and what is left of it when a network finds it: `python -m benchmarks.first_frame_geometry`

The same held-out worlds by an adapter that begins with the sloped plane and by one that was trained with given starts:
told the exact ones, as a perfect annotator would, and those that the depth network finds in the image.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.adapter_evaluation import COLUMNS
from benchmarks.reporting import print_table
from fourdnex.annotation import DepthNetwork
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.evaluation.benchmark import EXACT, Evaluation, metric_means, score_adapter

SHOWN = ("abs_rel", "delta1", "ate", "xyz_error", "chamfer", "length_ratio", "psnr")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plane", type=Path, help="adapter that begins with the sloped plane")
    parser.add_argument("given", type=Path, help="adapter trained with --xyz-init pointmap, otherwise alike")
    parser.add_argument("--depth-network", default="tiny", help="as of `fourdnex generate` (default tiny)")
    parser.add_argument("--model", default="tiny", help="preset or folder of the base (default tiny)")
    parser.add_argument("--worlds", type=int, default=64, help="held-out worlds (default 64)")
    options = parser.parse_args()
    clips = [render_world(seed) for seed in HELD_OUT_SEEDS[: options.worlds]]
    of_plane = Evaluation(adapter=options.plane, out=Path(), model=options.model, num_worlds=options.worlds)
    given = replace(of_plane, adapter=options.given)
    ways = {
        "the sloped plane": of_plane,
        "found by the network": replace(given, depth_network=options.depth_network),
        "exact": replace(given, depth_network=EXACT),
    }
    rows = []
    for name, config in ways.items():
        means = metric_means(pd.DataFrame(score_adapter(config, clips)))
        rows.append((name, *(means[key] for key in SHOWN)))
    network = DepthNetwork(options.depth_network)
    errors = [_abs_rel(network.depth(clip.rgb[0])[0], clip.depth[0]) for clip in clips if clip.depth is not None]
    print_table(
        f"First point maps, {options.worlds} held-out worlds",
        ("the XYZ half begins with", *(COLUMNS[key] for key in SHOWN)),
        rows,
        notes=[f"The network's own depth of first frames, scaled by the median: AbsRel {np.mean(errors):.3f}."],
        packages=("numpy", "torch", "diffusers", "peft", "transformers"),
    )


def _abs_rel(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.mean(np.abs(found * np.median(true / found) - true) / true))


if __name__ == "__main__":
    main()
