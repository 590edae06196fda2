"""Depth error on every family of worlds, seen in training or held out: `python -m benchmarks.depth_by_family [ADAPTER]`

Depth AbsRel of the adapter with and without captions and of the static-first-frame baseline on the sloped plane, over
whole clips after one alignment; and of the depth network alone, on first frames after median scaling. All seeds are
held out.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.measuring import median_scaled_abs_rel
from benchmarks.reporting import add_model_option, argument_parser, print_table
from fourdnex.annotation import DepthNetwork
from fourdnex.clip import Clip
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.datasets.worlds.families import FAMILIES, HELD_OUT_FAMILIES
from fourdnex.evaluation.benchmark import Evaluation, score_adapter
from fourdnex.evaluation.scoring import score_all
from fourdnex.geometry.pointmaps import sloped_plane
from fourdnex.model.adapter_files import read_adapter_info
from fourdnex.model.denormalization import denormalize_to_world
from fourdnex.rendering.contact_sheet import contact_sheet

COLUMNS = ("sloped plane", "adapter, caption", "adapter, no caption", "depth network", "Chamfer, no caption")


def main() -> None:
    """Print one row per family, or write a sheet of example worlds."""
    parser = argument_parser(__doc__)
    parser.add_argument("adapter", type=Path, nargs="?", help="adapter folder (default: only the depth network)")
    add_model_option(parser)
    parser.add_argument("--depth-network", default="tiny", help="as in `fourdnex generate` (default: tiny)")
    parser.add_argument("--worlds", type=int, default=16, help="number of worlds per family (default: 16)")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES, help="default: all")
    parser.add_argument(
        "--captions", action=argparse.BooleanOptionalAction, default=True, help="also measure with captions"
    )
    parser.add_argument("--sheet", type=Path, help="only write a JPEG with six worlds of every family")
    options = parser.parse_args()
    if options.sheet is not None:
        _write_sheet(options.families, options.sheet)
        return
    network = DepthNetwork(options.depth_network)
    scorer = None
    if options.adapter is not None:
        scorer = _AdapterScorer(options.adapter, options.model, options.depth_network)
    size: dict[str, Any] = {} if scorer is None else scorer.size
    rows = []
    for family in options.families:
        clips = [render_world(seed, family=family, **size) for seed in HELD_OUT_SEEDS[: options.worlds]]
        values = {"depth network": float(np.mean([_first_frame_error(network, clip) for clip in clips]))}
        if scorer is not None:
            values |= scorer.errors(clips, with_captions=options.captions)
        rows.append((_label(family), len(clips), *(values.get(column) for column in COLUMNS)))
        print(rows[-1], flush=True)
    print_table(
        "Depth AbsRel by family",
        ("family", "worlds", *COLUMNS),
        rows,
        notes=["Depth network: first frames after median scaling. Chamfer is in half extents."],
        packages=("numpy", "torch", "diffusers", "peft", "transformers"),
    )


class _AdapterScorer:
    """Scores an adapter and the static-first-frame baseline on the sloped plane."""

    def __init__(self, folder: Path, model: str, depth_network: str) -> None:
        self.info = read_adapter_info(folder)
        needs_pointmap = self.info.xyz_init == "pointmap"
        self.config = Evaluation(
            adapter=folder, out=Path(), model=model, depth_network=depth_network if needs_pointmap else None
        )
        self.size = {"num_frames": self.info.num_frames, "height": self.info.height, "width": self.info.width}

    def errors(self, clips: list[Clip], *, with_captions: bool) -> dict[str, float]:
        """Mean error over `clips` by column of the table."""
        uncaptioned = pd.DataFrame(score_adapter(self.config, [replace(clip, caption="") for clip in clips]))
        plane = np.repeat(sloped_plane(self.info.height, self.info.width)[None], self.info.num_frames, axis=0)
        static = [(clip.rgb[[0] * clip.num_frames], denormalize_to_world(plane, self.info, None)) for clip in clips]
        errors = {
            "adapter, no caption": uncaptioned["abs_rel"].mean(),
            "Chamfer, no caption": uncaptioned["chamfer"].mean(),
            "sloped plane": pd.DataFrame(score_all(clips, static))["abs_rel"].mean(),
        }
        if with_captions:
            errors["adapter, caption"] = pd.DataFrame(score_adapter(self.config, clips))["abs_rel"].mean()
        return errors


def _label(family: str) -> str:
    """Name of a family in the table."""
    return family + (", held out" if family in HELD_OUT_FAMILIES else "")


def _write_sheet(families: list[str], path: Path) -> None:
    """Write a JPEG with one row of 96x144 images per family."""
    seeds = HELD_OUT_SEEDS[:6]
    size = {"num_frames": 1, "height": 96, "width": 144}
    images = [render_world(seed, family=family, **size).rgb[0] for family in families for seed in seeds]
    Image.fromarray(contact_sheet(images, len(seeds), gap=0)).save(path, quality=88)


def _first_frame_error(network: DepthNetwork, clip: Clip) -> float:
    """AbsRel of the network's depth of the first frame after median scaling."""
    assert clip.depth is not None
    return median_scaled_abs_rel(network.depth(clip.rgb[0])[0], clip.depth[0])


if __name__ == "__main__":
    main()
