"""Scenes lifted to photographs, on held-out worlds: `python -m benchmarks.lifting ADAPTER`

Worlds are rendered at 512x768; their first frame is the photograph. Compared are the generated scene enlarged
bicubically and the same scene lifted, both against the rendered frames 2..17.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks.reporting import print_table
from fourdnex.clip import Clip
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.evaluation.image_quality import psnr, ssim
from fourdnex.generation.scene_folders import write_scene_folder
from fourdnex.generation.scenes import generate
from fourdnex.lifting import lift_scene, upsample_depth
from fourdnex.motion import track_scene
from fourdnex.scene import Origin, Scene4D
from fourdnex.viewer.page import write_html

SIZE = (512, 768)
COMPARED = (4, 8, 12, 16)  # frames that SSIM looks at
EDGE, FLYING = 1.25, 0.03


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=Path, help="adapter folder")
    parser.add_argument("--worlds", type=int, default=8, help="worlds of each kind (default 8)")
    options = parser.parse_args()
    rows, costs, edges = [], [], []
    for kind, still in (("nothing moves but the camera", True), ("things move", False)):
        found = []
        for fine, scene in _scenes(options.adapter, options.worlds, still=still):
            started = time.perf_counter()
            tracks = track_scene(scene)
            tracked = time.perf_counter()
            lifted = lift_scene(scene, fine.rgb[0], tracks=tracks)
            costs.append((tracked - started, time.perf_counter() - tracked, *_sizes(lifted)))
            enlarged = np.stack([cv2.resize(frame, SIZE[::-1], interpolation=cv2.INTER_CUBIC) for frame in scene.rgb])
            found.append([*_quality(enlarged, fine.rgb), *_quality(lifted.rgb, fine.rgb), _from_photograph(lifted)])
            if still:
                edges.append(_flying_shares(scene, fine))
        table = np.array(found)
        gains = table[:, 2:4] - table[:, :2]
        rows.append(
            [kind, len(table), *table.mean(axis=0)[:4], *gains.mean(axis=0), gains[:, 0].min(), table[:, 4].mean()]
        )
    print_table(
        "Lifted to 512x768, frames 2..17 against the rendered ones",
        [
            "worlds",
            "number",
            "PSNR enlarged, dB",
            "SSIM",
            "PSNR lifted, dB",
            "SSIM",
            "PSNR gain",
            "SSIM gain",
            "least PSNR gain",
            "share of the photograph",
        ],
        rows,
        packages=("numpy", "torch", "opencv-python-headless"),
    )
    medians = [statistics.median(column) for column in zip(*costs, strict=True)]
    flying = [float(np.mean(column)) for column in zip(*edges, strict=True)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print_table(
        "A scene of 17 frames lifted to 512x768",
        ["what", "found"],
        [
            ["tracks, s", medians[0]],
            ["lifting, s", medians[1]],
            ["scene folder, MB", medians[2]],
            ["HTML file, MB", medians[3]],
            ["points of depth edges off both surfaces by more than 3 %: bicubic", flying[0]],
            ["the same: edge-aware", flying[1]],
            ["peak memory of this process, model included, MB", peak],
        ],
    )


def _scenes(adapter: Path, count: int, *, still: bool) -> Iterator[tuple[Clip, Scene4D]]:
    """Held-out worlds [17, 512, 768] and the scenes generated of their first frames at the model's size."""
    seeds = [seed for seed in HELD_OUT_SEEDS if _stands_still(seed) == still][:count]
    coarse = [render_world(seed, num_frames=1) for seed in seeds]
    settings = {"adapter": adapter, "prompts": [world.caption for world in coarse], "resolution": "model"}
    for seed, scene in zip(seeds, generate([world.rgb[0] for world in coarse], **settings), strict=True):
        yield render_world(seed, height=SIZE[0], width=SIZE[1]), scene


def _stands_still(seed: int) -> bool:
    return "static" in render_world(seed, num_frames=1, height=16, width=16).tags


def _quality(frames: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    shown = list(COMPARED)
    return psnr(frames[1:], truth[1:]), ssim(frames[shown], truth[shown])


def _from_photograph(lifted: Scene4D) -> float:
    return float((lifted.origin[1:] == Origin.PHOTOGRAPH).mean())


def _sizes(lifted: Scene4D) -> tuple[float, float]:
    """MB of the scene's folder and of its HTML file."""
    with tempfile.TemporaryDirectory() as folder:
        write_scene_folder(lifted, Path(folder) / "scene")
        files = [path.stat().st_size for path in (Path(folder) / "scene").rglob("*") if path.is_file()]
        return sum(files) / 1e6, write_html(lifted, Path(folder) / "scene.html") / 1e6


def _flying_shares(scene: Scene4D, fine: Clip) -> tuple[float, float]:
    """Of the pixels beside a jump of the true depth: how many lie on neither surface, bicubic and edge-aware.

    The coarse depth is the true one of the middles of its pixels, so that the errors are those of the enlargement.
    """
    true = fine.depth[0]
    down, across = SIZE[0] // scene.height, SIZE[1] // scene.width
    coarse = np.ascontiguousarray(true[down // 2 :: down, across // 2 :: across])
    window = np.ones((9, 9), np.uint8)
    near, far = cv2.erode(true, window), cv2.dilate(true, window)
    beside = far > EDGE * near

    def share(depth: np.ndarray) -> float:
        off = np.minimum.reduce([np.abs(depth / surface - 1) for surface in (near, far, true)])
        return float((off > FLYING)[beside].mean())

    cubic = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    return share(cubic), share(upsample_depth(coarse, fine.rgb[0]))


if __name__ == "__main__":
    main()
