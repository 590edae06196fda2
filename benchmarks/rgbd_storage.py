"""Annotated clips as raw arrays against the codec of scenes: `python -m benchmarks.rgbd_storage`

Raw arrays are what annotated shards hold (safetensors: RGB in 8 bits, depth and confidence in float32). The codec is
that of scene folders (FFV1 for RGB, logarithmic 16-bit depth, 8-bit confidence). Both store the same world.
"""

import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from benchmarks.measuring import megabytes, time_work
from benchmarks.reporting import argument_parser, print_table
from fourdnex.clip import Clip
from fourdnex.datasets.annotated import clip_arrays, save_arrays
from fourdnex.datasets.worlds import render_world
from fourdnex.scene import Scene4D

SEED, REPEATS = 3, 5
SIZES = ((17, 64, 96), (49, 480, 720))
"""Frames, height and width of a clip of the tiny and of the large base."""


def main() -> None:
    """Print one row per size and format."""
    argument_parser(__doc__).parse_args()
    rows = []
    for num_frames, height, width in SIZES:
        clip = render_world(SEED, num_frames=num_frames, height=height, width=width)
        rows += _rows(clip, f"{num_frames}x{height}x{width}")
    print_table(
        "An annotated clip on disk",
        ("clip", "format", "MB", "write, s", "read, s", "median relative error of depth", "GB per 1,000 clips"),
        rows,
    )


def _rows(clip: Clip, size: str) -> list[tuple[object, ...]]:
    """Both formats of one clip."""
    assert clip.depth is not None and clip.intrinsics is not None and clip.camera_to_world is not None
    scene = Scene4D(
        rgb=clip.rgb,
        depth=clip.depth,
        intrinsics=clip.intrinsics,
        camera_to_world=clip.camera_to_world,
        confidence=clip.confidence,
    )
    with tempfile.TemporaryDirectory() as name:
        raw, folder = Path(name) / "clip.safetensors", Path(name) / "scene"
        arrays = clip_arrays(clip)
        raw_write = time_work(lambda: save_arrays(raw, clip.name, arrays), repeats=REPEATS).wall
        raw_read = time_work(lambda: load_file(raw), repeats=REPEATS).wall
        codec_write = time_work(lambda: scene.save(folder), repeats=REPEATS).wall
        codec_read = time_work(lambda: Scene4D.load(folder), repeats=REPEATS).wall
        error = float(np.nanmedian(np.abs(Scene4D.load(folder).depth / clip.depth - 1)))
        return [
            (size, "raw arrays", megabytes(raw), raw_write, raw_read, 0.0, megabytes(raw)),
            (size, "codec of scenes", megabytes(folder), codec_write, codec_read, error, megabytes(folder)),
        ]


if __name__ == "__main__":
    main()
