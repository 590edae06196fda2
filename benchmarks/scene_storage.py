"""Scene folder of 49x480x720 on disk against compressed points: `python -m benchmarks.scene_storage`

The baseline stores points and colors by `numpy.savez_compressed`, and computes points by a plain unprojection.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.measuring import megabytes, time_work
from benchmarks.reporting import argument_parser, print_table
from fourdnex.datasets.worlds import render_world
from fourdnex.geometry import pixel_rays
from fourdnex.scene import Scene4D

NUM_FRAMES, HEIGHT, WIDTH = 49, 480, 720
SEED = 3
NOISE = 0.003
"""Relative noise of the depth, since generated depth is less smooth than rendered depth."""


def main() -> None:
    """Measure both formats and print one row per quantity."""
    argument_parser(__doc__).parse_args()
    clip = render_world(SEED, num_frames=NUM_FRAMES, height=HEIGHT, width=WIDTH)
    noise = np.random.default_rng(0).standard_normal(clip.depth.shape, dtype=np.float32)
    scene = Scene4D(
        rgb=clip.rgb,
        depth=clip.depth * (1 + NOISE * noise),
        intrinsics=clip.intrinsics,
        camera_to_world=clip.camera_to_world,
        confidence=np.clip(1 - np.abs(noise) / 4, 0, 1).round(1),
    )
    with tempfile.TemporaryDirectory() as name:
        folder, plain = Path(name) / "scene", Path(name) / "points.npz"
        scene_values = [
            _median_seconds(lambda: scene.save(folder), 3),
            megabytes(folder),
            _median_seconds(lambda: Scene4D.load(folder), 3),
            _median_seconds(lambda: Scene4D.load(folder, frame=NUM_FRAMES // 2), 9),
            _median_seconds(lambda: scene.points(NUM_FRAMES // 2), 15),
            float(np.nanmax(np.abs(Scene4D.load(folder).depth / scene.depth - 1))),
        ]
        xyz = np.stack([_plain_points(scene, t) for t in range(NUM_FRAMES)])
        points_values = [
            _median_seconds(lambda: np.savez_compressed(plain, xyz=xyz, rgb=scene.rgb), 1),
            megabytes(plain),
            _median_seconds(lambda: dict(np.load(plain, allow_pickle=False)), 1),
            _median_seconds(lambda: np.load(plain, allow_pickle=False)["xyz"][NUM_FRAMES // 2], 1),
            _median_seconds(lambda: _plain_points(scene, NUM_FRAMES // 2), 9),
            0.0,
        ]
    targets = ("6", "30", "", "0.06", "0.015", "1e-3")
    quantities = ("save, s", "size, MB", "load, s", "load one frame, s", "points(t), s", "relative error of depth")
    print_table(
        f"Scene4D, {NUM_FRAMES}x{HEIGHT}x{WIDTH}, noise of {NOISE:.1%} in the depth",
        ("quantity", "target", "Scene4D", "compressed points (NPZ)", "ratio"),
        [
            (quantity, target, value, baseline, baseline / value if baseline else None)
            for quantity, target, value, baseline in zip(quantities, targets, scene_values, points_values, strict=True)
        ],
    )


def _plain_points(scene: Scene4D, t: int) -> np.ndarray:
    """Points [H, W, 3] of a frame by a plain unprojection."""
    local = pixel_rays(scene.height, scene.width, scene.intrinsics) * scene.depth[t][..., None]
    return (local @ scene.camera_to_world[t, :3, :3].T + scene.camera_to_world[t, :3, 3]).astype(np.float32)


def _median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median wall time without a warm-up."""
    return time_work(work, repeats=repeats).wall


if __name__ == "__main__":
    main()
