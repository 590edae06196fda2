"""Every export format of a full-size scene: `python -m benchmarks.exports`

The scene has 49 frames of 480 x 720 with a point at every pixel (16.9 million points), and noisy depth, so that it
compresses no better than a real scene. A single PLY file is timed as well, since the target is per file, and NPZ is
compared with numpy's own writer.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.measuring import Timing, megabytes, time_work
from benchmarks.reporting import argument_parser, print_table
from fourdnex.export import EXPORTERS, ExportOptions, write_ply
from fourdnex.scene import Scene4D

SUFFIXES = {"rerun": ".rrd", "usd": ".usdc", "npz": ".npz"}
TARGETS = {"usd": 10.0}
"""Target seconds by format."""
PLY_FILE_TARGET = 0.3


def main() -> None:
    """Write every format and print one row each."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--formats", nargs="+", choices=list(EXPORTERS), default=list(EXPORTERS), metavar="FORMAT", help="default: all"
    )
    parser.add_argument("--frames", type=int, default=49, help="number of frames (default: 49)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each; the median counts (default: 3)")
    options = parser.parse_args()
    scene = make_scene(options.frames)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        if "ply" in options.formats:
            path = Path(folder, "one.ply")
            timing = time_export(lambda: write_ply(path, *scene.points(0)), max(options.repeats, 5))
            rows.append(("one PLY file, 345,600 points", timing.wall, timing.cpu, megabytes(path), PLY_FILE_TARGET))
        for name in options.formats:
            path = Path(folder, f"out-{name}{SUFFIXES.get(name, '')}")
            export = partial(EXPORTERS[name], scene, path, ExportOptions())
            timing = time_export(export, options.repeats)
            rows.append((name, timing.wall, timing.cpu, megabytes(path), TARGETS.get(name)))
        if "npz" in options.formats:
            arrays, path = dict(np.load(Path(folder, "out-npz.npz"))), Path(folder, "numpy.npz")
            timing = time_export(lambda: np.savez_compressed(path, **arrays), 1)
            rows.append(("npz by numpy.savez_compressed", timing.wall, timing.cpu, megabytes(path), None))
    print_table(
        f"Exports of {options.frames} frames of 480 x 720, median of {options.repeats}",
        ("format", "seconds", "CPU seconds", "MB", "target, seconds"),
        rows,
        notes=[
            "CPU seconds include all threads; on a machine under load they are closer to the time on an idle one.",
            "nerfstudio has at most 500,000 points, colmap 1,500,000 observations of points; both include PNG images.",
        ],
        packages=("numpy", "isal", "usd-core", "rerun-sdk", "opencv-python-headless"),
    )


def make_scene(num_frames: int) -> Scene4D:
    """Waves seen by a camera that moves to the right."""
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


def time_export(export: Callable[[], object], repeats: int) -> Timing:
    """Median time after one warm-up, which imports libraries."""
    return time_work(export, repeats=repeats, warmup=1)


if __name__ == "__main__":
    main()
