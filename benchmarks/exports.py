"""Every export of a scene of full size: `python -m benchmarks.exports`

The scene is 49 frames of 480 x 720, a point at every pixel (16.9 million points), with noise in depth so that nothing
compresses better than a real scene would. PLY is also timed by the file, which is where its bar is, and NPZ
beside numpy's own writer.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.reporting import print_table
from fourdnex.export import EXPORTERS, ExportOptions, write_ply
from fourdnex.scene import Scene4D

SUFFIXES = {"rerun": ".rrd", "usd": ".usdc", "npz": ".npz"}
BARS = {"usd": 10.0}
PLY_FILE_BAR = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", nargs="+", choices=list(EXPORTERS), default=list(EXPORTERS), metavar="FORMAT")
    parser.add_argument("--frames", type=int, default=49, help="of the scene (default 49)")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each; the median counts (default 3)")
    options = parser.parse_args()
    scene = make_scene(options.frames)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        if "ply" in options.formats:
            path = Path(folder, "one.ply")
            seconds, processor = measure(lambda: write_ply(path, *scene.points(0)), max(options.repeats, 5))
            rows.append(("one PLY file, 345,600 points", seconds, processor, megabytes(path), PLY_FILE_BAR))
        for name in options.formats:
            path = Path(folder, f"out-{name}{SUFFIXES.get(name, '')}")
            run = EXPORTERS[name]
            seconds, processor = measure(lambda run=run, path=path: run(scene, path, ExportOptions()), options.repeats)
            rows.append((name, seconds, processor, megabytes(path), BARS.get(name)))
        if "npz" in options.formats:
            arrays, path = dict(np.load(Path(folder, "out-npz.npz"))), Path(folder, "numpy.npz")
            seconds, processor = measure(lambda: np.savez_compressed(path, **arrays), 1)
            rows.append(("npz, the same arrays by numpy.savez_compressed", seconds, processor, megabytes(path), None))
    print_table(
        f"Exports of {options.frames} frames of 480 x 720, median of {options.repeats}",
        ("format", "seconds", "processor seconds", "MB", "bar, seconds"),
        rows,
        notes=[
            "Processor seconds count all threads: on a busy machine they are nearer to what an idle one takes.",
            "nerfstudio holds at most 500,000 points, colmap 1,500,000 observations of points; both hold PNG images.",
        ],
        packages=("numpy", "isal", "usd-core", "rerun-sdk", "opencv-python-headless"),
    )


def make_scene(num_frames: int) -> Scene4D:
    """Waves seen by a camera that moves sideways."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:480, :720].astype(np.float32)
    depth = np.empty((num_frames, 480, 720), np.float32)
    rgb = np.empty((num_frames, 480, 720, 3), np.uint8)
    for t in range(num_frames):
        noise = rng.standard_normal((480, 720), np.float32)
        depth[t] = 3 + np.sin(x / 90 + t / 9) + 0.5 * np.cos(y / 70) + 0.01 * noise
        rgb[t] = np.stack([127 + 90 * np.sin(x / 40 + t), 127 + 90 * np.cos(y / 30), 60 * depth[t] % 256], axis=-1)
    poses = np.tile(np.eye(4), (num_frames, 1, 1))
    poses[:, 0, 3] = np.linspace(0, 1, num_frames)
    intrinsics = np.array([[600.0, 0, 359.5], [0, 600, 239.5], [0, 0, 1]])
    return Scene4D(rgb=rgb, depth=depth, intrinsics=intrinsics, camera_to_world=poses, name="benchmark")


def measure(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median seconds by the clock and of the processor; the first run, which imports libraries, does not count."""
    clock, processor = [], []
    for _ in range(repeats + 1):
        started = time.perf_counter(), time.process_time()
        run()
        clock.append(time.perf_counter() - started[0])
        processor.append(time.process_time() - started[1])
    return statistics.median(clock[1:]), statistics.median(processor[1:])


def megabytes(path: Path) -> float:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


if __name__ == "__main__":
    main()
