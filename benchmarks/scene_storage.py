"""A scene of 49x480x720 on disk: `python -m benchmarks.scene_storage`

The baseline is what a plain `numpy.savez_compressed` of points and colors takes, and the plain way to its points.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.reporting import print_table
from fourdnex.datasets.worlds import render_world
from fourdnex.geometry import pixel_rays
from fourdnex.scene import Scene4D

NUM_FRAMES, HEIGHT, WIDTH = 49, 480, 720
SEED = 3
NOISE = 0.003
"""Of the depth: a generated depth map is not as smooth as a rendered one."""


def main() -> None:
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
        ours = [
            _seconds(lambda: scene.save(folder), 3),
            _megabytes(folder),
            _seconds(lambda: Scene4D.load(folder), 3),
            _seconds(lambda: Scene4D.load(folder, frame=NUM_FRAMES // 2), 9),
            _seconds(lambda: scene.points(NUM_FRAMES // 2), 15),
            float(np.nanmax(np.abs(Scene4D.load(folder).depth / scene.depth - 1))),
        ]
        xyz = np.stack([_plain_points(scene, t) for t in range(NUM_FRAMES)])
        theirs = [
            _seconds(lambda: np.savez_compressed(plain, xyz=xyz, rgb=scene.rgb), 1),
            plain.stat().st_size / 1e6,
            _seconds(lambda: dict(np.load(plain, allow_pickle=False)), 1),
            _seconds(lambda: np.load(plain, allow_pickle=False)["xyz"][NUM_FRAMES // 2], 1),
            _seconds(lambda: _plain_points(scene, NUM_FRAMES // 2), 9),
            0.0,
        ]
    bars = ("6", "30", "", "0.06", "0.015", "1e-3")
    what = ("save, s", "size, MB", "load, s", "load one frame, s", "points(t), s", "relative error of depth")
    print_table(
        f"Scene4D, {NUM_FRAMES}x{HEIGHT}x{WIDTH}, noise of {NOISE:.1%} in the depth",
        ("", "bar", "Scene4D", "compressed points (NPZ)", "ratio"),
        [(a, bar, b, c, c / b if c else None) for a, bar, b, c in zip(what, bars, ours, theirs, strict=True)],
    )


def _plain_points(scene: Scene4D, t: int) -> np.ndarray:
    local = pixel_rays(scene.height, scene.width, scene.intrinsics) * scene.depth[t][..., None]
    return (local @ scene.camera_to_world[t, :3, :3].T + scene.camera_to_world[t, :3, 3]).astype(np.float32)


def _seconds(work: Callable[[], object], repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.iterdir()) / 1e6


if __name__ == "__main__":
    main()
