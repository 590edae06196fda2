"""Depth on every family of worlds, those that training sees and those held out: `python -m benchmarks.families ADAPTER`

AbsRel of the adapter with and without captions and of the still picture on the sloped plane, over whole clips after one
alignment; and of the depth network alone, on first frames scaled by the median. All on seeds that no training sees.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.reporting import print_table
from fourdnex.annotation import DepthNetwork
from fourdnex.clip import Clip
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.datasets.worlds_families import FAMILIES, HELD_OUT_FAMILIES
from fourdnex.evaluation.benchmark import Evaluation, score_adapter
from fourdnex.evaluation.scoring import score_all
from fourdnex.geometry.pointmaps import sloped_plane
from fourdnex.model.adapter_files import read_adapter_info
from fourdnex.model.placement import put_back

COLUMNS = (
    *("family", "worlds", "adapter, caption", "adapter, none", "Chamfer, none", "sloped plane", "depth network"),
    *("adapter's start",),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=Path, help="adapter folder")
    parser.add_argument("--model", default="tiny", help="preset or folder of the base (default tiny)")
    parser.add_argument("--depth-network", default="tiny", help="as of `fourdnex generate` (default tiny)")
    parser.add_argument("--worlds", type=int, default=16, help="of each family (default 16)")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES, help="default: all")
    parser.add_argument("--captions", action=argparse.BooleanOptionalAction, default=True, help="with captions too")
    options = parser.parse_args()
    network = DepthNetwork(options.depth_network)
    info = read_adapter_info(options.adapter)
    size: dict[str, Any] = {"num_frames": info.num_frames, "height": info.height, "width": info.width}
    given = info.xyz_start == "given"
    config = Evaluation(
        adapter=options.adapter,
        out=Path(),
        model=options.model,
        depth_network=options.depth_network if given else None,
    )
    rows = []
    for family in options.families:
        clips = [render_world(seed, family=family, **size) for seed in HELD_OUT_SEEDS[: options.worlds]]
        silent = pd.DataFrame(score_adapter(config, [replace(clip, caption="") for clip in clips]))
        told = pd.DataFrame(score_adapter(config, clips))["abs_rel"].mean() if options.captions else None
        plane = np.repeat(sloped_plane(info.height, info.width)[None], info.num_frames, axis=0)
        still = [(clip.rgb[[0] * clip.num_frames], put_back(plane, info, None)) for clip in clips]
        baseline = pd.DataFrame(score_all(clips, still))["abs_rel"].mean()
        rows.append(
            (
                family + (", held out" if family in HELD_OUT_FAMILIES else ""),
                len(clips),
                told,
                silent["abs_rel"].mean(),
                silent["chamfer"].mean(),
                baseline,
                float(np.mean([_abs_rel(network, clip) for clip in clips])),
                options.depth_network if given else "plane",
            )
        )
        print(rows[-1], flush=True)
    print_table(
        f"Depth AbsRel by family, adapter {options.adapter.name}",
        COLUMNS,
        rows,
        packages=("numpy", "torch", "diffusers", "peft", "transformers"),
    )


def _abs_rel(network: DepthNetwork, clip: Clip) -> float:
    """Of the first frame, scaled by the median of the ratios."""
    assert clip.depth is not None
    true, found = clip.depth[0], network.depth(clip.rgb[0])[0]
    return float(np.mean(np.abs(found * np.median(true / found) - true) / true))


if __name__ == "__main__":
    main()
