"""Lifting of generated scenes to the photograph's resolution: `python -m benchmarks.lifting ADAPTER`

Held-out worlds are rendered at 512x768, and their first frame is the photograph. The baseline is the generated scene
after bicubic upsampling; both are compared with frames 2 to 17 of the rendering.
"""

import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measuring import megabytes
from benchmarks.reporting import argument_parser, print_table
from fourdnex.clip import Clip
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.generation.scene_folders import write_scene_folder
from fourdnex.generation.scenes import generate
from fourdnex.lifting import lift_scene, upsample_depth
from fourdnex.metrics.psnr import psnr
from fourdnex.metrics.ssim import ssim
from fourdnex.motion import track_scene
from fourdnex.scene import Origin, Scene4D
from fourdnex.viewer.page import write_html

SIZE = (512, 768)
SSIM_FRAMES = [4, 8, 12, 16]
"""Frames that SSIM is averaged over."""
EDGE_RATIO = 1.25
"""Ratio of far to near depth within a window that makes a pixel an edge pixel."""
FLYING_TOLERANCE = 0.03
"""Relative distance from the nearest surface at which a point counts as flying."""


def main() -> None:
    """Lift the scenes; print image quality and costs."""
    parser = argument_parser(__doc__)
    parser.add_argument("adapter", type=Path, help="adapter folder")
    parser.add_argument("--worlds", type=int, default=8, help="number of worlds per kind (default: 8)")
    options = parser.parse_args()
    rows, costs, edges = [], [], []
    for kind, static in (("only the camera moves", True), ("objects move", False)):
        scores = []
        for fine, scene in _scenes(options.adapter, options.worlds, static=static):
            started = time.perf_counter()
            tracks = track_scene(scene)
            tracked = time.perf_counter()
            lifted = lift_scene(scene, fine.rgb[0], tracks=tracks)
            costs.append((tracked - started, time.perf_counter() - tracked, *_sizes(lifted)))
            upsampled = np.stack([cv2.resize(frame, SIZE[::-1], interpolation=cv2.INTER_CUBIC) for frame in scene.rgb])
            scores.append([*_quality(upsampled, fine.rgb), *_quality(lifted.rgb, fine.rgb), _photograph_share(lifted)])
            if static:
                edges.append(_flying_shares(scene, fine))
        table = np.array(scores)
        gains = table[:, 2:4] - table[:, :2]
        rows.append(
            [kind, len(table), *table.mean(axis=0)[:4], *gains.mean(axis=0), gains[:, 0].min(), table[:, 4].mean()]
        )
    print_table(
        "Lifting to 512x768, frames 2 to 17 against the rendering",
        [
            "worlds",
            "number",
            "PSNR upsampled, dB",
            "SSIM upsampled",
            "PSNR lifted, dB",
            "SSIM lifted",
            "PSNR gain",
            "SSIM gain",
            "smallest PSNR gain",
            "pixels from the photograph",
        ],
        rows,
        packages=("numpy", "torch", "opencv-python-headless"),
    )
    medians = [statistics.median(column) for column in zip(*costs, strict=True)]
    flying = [float(np.mean(column)) for column in zip(*edges, strict=True)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print_table(
        "Costs of lifting a scene of 17 frames to 512x768",
        ["quantity", "value"],
        [
            ["tracks, s", medians[0]],
            ["lifting, s", medians[1]],
            ["scene folder, MB", medians[2]],
            ["HTML file, MB", medians[3]],
            [f"flying points at depth edges (more than {FLYING_TOLERANCE:.0%} off every surface): bicubic", flying[0]],
            ["flying points at depth edges: edge-aware", flying[1]],
            ["peak memory of the process with the model, MB", peak],
        ],
    )


def _scenes(adapter: Path, count: int, *, static: bool) -> Iterator[tuple[Clip, Scene4D]]:
    """Held-out worlds rendered at 512x768, and the scenes generated from their first frames at the model's size."""
    seeds = [seed for seed in HELD_OUT_SEEDS if _is_static(seed) == static][:count]
    coarse = [render_world(seed, num_frames=1) for seed in seeds]
    settings = {"adapter": adapter, "prompts": [world.caption for world in coarse], "resolution": "model"}
    for seed, scene in zip(seeds, generate([world.rgb[0] for world in coarse], **settings), strict=True):
        yield render_world(seed, height=SIZE[0], width=SIZE[1]), scene


def _is_static(seed: int) -> bool:
    """Whether nothing but the camera moves in a world."""
    return "static" in render_world(seed, num_frames=1, height=16, width=16).tags


def _quality(frames: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """PSNR in dB and SSIM of frames after the first."""
    return psnr(frames[1:], truth[1:]), ssim(frames[SSIM_FRAMES], truth[SSIM_FRAMES])


def _photograph_share(lifted: Scene4D) -> float:
    """Share of the pixels after the first frame that come from the photograph."""
    return float((lifted.origin[1:] == Origin.PHOTOGRAPH).mean())


def _sizes(lifted: Scene4D) -> tuple[float, float]:
    """MB of the scene's folder and of its HTML file."""
    with tempfile.TemporaryDirectory() as folder:
        write_scene_folder(lifted, Path(folder) / "scene")
        return megabytes(Path(folder) / "scene"), write_html(lifted, Path(folder) / "scene.html") / 1e6


def _flying_shares(scene: Scene4D, fine: Clip) -> tuple[float, float]:
    """Share of flying points among the edge pixels of the true depth, for bicubic and edge-aware upsampling.

    The coarse depth is the true depth at the centers of its pixels, so that only the upsampling causes errors.
    """
    true = fine.depth[0]
    down, across = SIZE[0] // scene.height, SIZE[1] // scene.width
    coarse = np.ascontiguousarray(true[down // 2 :: down, across // 2 :: across])
    window = np.ones((9, 9), np.uint8)
    near, far = cv2.erode(true, window), cv2.dilate(true, window)
    edge = far > EDGE_RATIO * near

    def share(depth: np.ndarray) -> float:
        distance = np.minimum.reduce([np.abs(depth / surface - 1) for surface in (near, far, true)])
        return float((distance > FLYING_TOLERANCE)[edge].mean())

    cubic = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    return share(cubic), share(upsample_depth(coarse, fine.rgb[0]))


if __name__ == "__main__":
    main()
