"""Effect of the first-frame point map on an adapter: `python -m benchmarks.first_frame_geometry PLANE POINTMAP`

Two adapters generate the same held-out worlds: one whose XYZ half starts from the sloped plane, and one trained with
first-frame point maps. The second one is given the point maps that the depth network estimates from the image, and the
exact ones, as a perfect annotator would provide them.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.adapter_evaluation import COLUMNS
from benchmarks.fixtures import held_out_worlds
from benchmarks.measuring import median_scaled_abs_rel
from benchmarks.reporting import add_model_option, argument_parser, print_table
from fourdnex.annotation import DepthNetwork
from fourdnex.evaluation.benchmark import EXACT, Evaluation, score_adapter
from fourdnex.evaluation.report import metric_means

SHOWN = ("abs_rel", "delta1", "ate", "xyz_error", "chamfer", "length_ratio", "psnr")


def main() -> None:
    """Evaluate both adapters and print one row per source of the first-frame geometry."""
    parser = argument_parser(__doc__)
    parser.add_argument("plane", type=Path, help="adapter whose XYZ half starts from the sloped plane")
    parser.add_argument("pointmap", type=Path, help="the same adapter trained with --xyz-init pointmap")
    parser.add_argument("--depth-network", default="tiny", help="as in `fourdnex generate` (default: tiny)")
    add_model_option(parser)
    parser.add_argument("--worlds", type=int, default=64, help="number of held-out worlds (default: 64)")
    options = parser.parse_args()
    clips = held_out_worlds(options.worlds)
    plane = Evaluation(adapter=options.plane, out=Path(), model=options.model, num_worlds=options.worlds)
    pointmap = replace(plane, adapter=options.pointmap)
    evaluations = {
        "sloped plane": plane,
        "depth network": replace(pointmap, depth_network=options.depth_network),
        "exact": replace(pointmap, depth_network=EXACT),
    }
    rows = []
    for name, evaluation in evaluations.items():
        means = metric_means(pd.DataFrame(score_adapter(evaluation, clips)))
        rows.append((name, *(means[key] for key in SHOWN)))
    network = DepthNetwork(options.depth_network)
    errors = [
        median_scaled_abs_rel(network.depth(clip.rgb[0])[0], clip.depth[0]) for clip in clips if clip.depth is not None
    ]
    print_table(
        f"First-frame geometry, {options.worlds} held-out worlds",
        ("first-frame geometry", *(COLUMNS[key] for key in SHOWN)),
        rows,
        notes=[f"AbsRel of the depth network on the first frames, after median scaling: {np.mean(errors):.3f}."],
        packages=("numpy", "torch", "diffusers", "peft", "transformers"),
    )


if __name__ == "__main__":
    main()
