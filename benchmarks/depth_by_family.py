"""Depth on every family of worlds, those that training sees and those held out: `python -m benchmarks.depth_by_family ADAPTER`

AbsRel of the adapter with and without captions and of the still image on the sloped plane, over whole clips after one
alignment; and of the depth network alone, on first frames scaled by the median. All on seeds that no training sees.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.reporting import print_table
from fourdnex.annotation import DepthNetwork
from fourdnex.clip import Clip
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.datasets.worlds.families import FAMILIES, HELD_OUT_FAMILIES
from fourdnex.evaluation.benchmark import Evaluation, score_adapter
from fourdnex.evaluation.scoring import score_all
from fourdnex.geometry.pointmaps import sloped_plane
from fourdnex.model.adapter_files import read_adapter_info
from fourdnex.model.denormalization import denormalize_to_world

COLUMNS = ("sloped plane", "adapter, caption", "adapter, no caption", "depth network", "Chamfer, no caption")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=Path, nargs="?", help="adapter folder; without one the depth network alone")
    parser.add_argument("--model", default="tiny", help="preset or folder of the base (default tiny)")
    parser.add_argument("--depth-network", default="tiny", help="as of `fourdnex generate` (default tiny)")
    parser.add_argument("--worlds", type=int, default=16, help="of each family (default 16)")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES, help="default: all")
    parser.add_argument("--captions", action=argparse.BooleanOptionalAction, default=True, help="with captions too")
    parser.add_argument("--sheet", type=Path, help="JPEG to write instead: six worlds of every family")
    options = parser.parse_args()
    if options.sheet is not None:
        _write_sheet(options.families, options.sheet)
        return
    network = DepthNetwork(options.depth_network)
    measure = None if options.adapter is None else _Adapter(options.adapter, options.model, options.depth_network)
    size: dict[str, Any] = {} if measure is None else measure.size
    rows = []
    for family in options.families:
        clips = [render_world(seed, family=family, **size) for seed in HELD_OUT_SEEDS[: options.worlds]]
        found = {"depth network": float(np.mean([_abs_rel(network, clip) for clip in clips]))}
        if measure is not None:
            found |= measure.numbers(clips, with_captions=options.captions)
        rows.append((_named(family), len(clips), *(found.get(column) for column in COLUMNS)))
        print(rows[-1], flush=True)
    print_table(
        "Depth AbsRel by family",
        ("family", "worlds", *COLUMNS),
        rows,
        notes=["Depth network: first frames, scaled by the median. Chamfer is in half extents."],
        packages=("numpy", "torch", "diffusers", "peft", "transformers"),
    )


class _Adapter:
    """An adapter and the still image on the sloped plane, scored on clips."""

    def __init__(self, folder: Path, model: str, depth_network: str) -> None:
        self.info = read_adapter_info(folder)
        given = self.info.xyz_init == "pointmap"
        self.config = Evaluation(
            adapter=folder, out=Path(), model=model, depth_network=depth_network if given else None
        )
        self.size = {"num_frames": self.info.num_frames, "height": self.info.height, "width": self.info.width}

    def numbers(self, clips: list[Clip], *, with_captions: bool) -> dict[str, float]:
        """By column."""
        silent = pd.DataFrame(score_adapter(self.config, [replace(clip, caption="") for clip in clips]))
        plane = np.repeat(sloped_plane(self.info.height, self.info.width)[None], self.info.num_frames, axis=0)
        still = [(clip.rgb[[0] * clip.num_frames], denormalize_to_world(plane, self.info, None)) for clip in clips]
        found = {
            "adapter, no caption": silent["abs_rel"].mean(),
            "Chamfer, no caption": silent["chamfer"].mean(),
            "sloped plane": pd.DataFrame(score_all(clips, still))["abs_rel"].mean(),
        }
        if with_captions:
            found["adapter, caption"] = pd.DataFrame(score_adapter(self.config, clips))["abs_rel"].mean()
        return found


def _named(family: str) -> str:
    return family + (", held out" if family in HELD_OUT_FAMILIES else "")


def _write_sheet(families: list[str], path: Path) -> None:
    """A row a family, of images of 96x144."""
    seeds = HELD_OUT_SEEDS[:6]
    size = {"num_frames": 1, "height": 96, "width": 144}
    rows = [
        np.concatenate([render_world(seed, family=family, **size).rgb[0] for seed in seeds], axis=1)
        for family in families
    ]
    Image.fromarray(np.concatenate(rows)).save(path, quality=88)


def _abs_rel(network: DepthNetwork, clip: Clip) -> float:
    """Of the first frame, scaled by the median of the ratios."""
    assert clip.depth is not None
    true, found = clip.depth[0], network.depth(clip.rgb[0])[0]
    return float(np.mean(np.abs(found * np.median(true / found) - true) / true))


if __name__ == "__main__":
    main()
