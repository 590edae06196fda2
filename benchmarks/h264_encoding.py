"""Reproducible H.264 encoding against default x264: `python -m benchmarks.h264_encoding`

The same frames are encoded repeatedly, between memory allocations of other sizes and contents. "x264 defaults" lets
FFmpeg convert the colors and x264 choose its CPU instructions; "fourdnex" is `fourdnex.io.h264`.
"""

import hashlib
import io
import statistics
import time
from collections.abc import Callable

import av
import numpy as np

from benchmarks.reporting import argument_parser, print_table
from fourdnex.io.video import write_video

SIZES = ((17, 64, 96), (17, 240, 360), (17, 480, 720))


def main() -> None:
    """Encode clips of every size with both encoders and print one row each."""
    parser = argument_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=8, help="encodings of each (default: 8)")
    repeats = parser.parse_args().repeats
    rows = []
    for size in SIZES:
        frames = make_frames(*size)
        baseline = None
        for name, encode in (("x264 defaults", encode_by_defaults), ("fourdnex", encode_reproducibly)):
            seconds, num_files = measure(encode, frames, repeats)
            baseline = baseline or seconds
            label = "x".join(map(str, size))
            rows.append((label, name, seconds, seconds / baseline, f"{num_files} of {repeats}"))
    columns = ("frames x height x width", "encoder", "median seconds", "ratio", "distinct files")
    print_table("H.264 clips, one thread", columns, rows, packages=("av", "numpy"))


def make_frames(num_frames: int, height: int, width: int) -> np.ndarray:
    """Moving waves with noise: [T, H, W, 3] uint8."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    for t, frame in enumerate(frames):
        wave = 128 + 100 * np.sin((x + 3 * t) / 9) * np.cos(y / 7)
        channels = np.stack([wave, (x * 255 / width + 2 * t) % 256, y * 255 / height], axis=-1)
        frame[:] = (channels + rng.normal(0, 4, channels.shape)).clip(0, 255)
    return frames


def encode_by_defaults(frames: np.ndarray) -> bytes:
    """x264 with FFmpeg's color conversion."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv444p"
        stream.options = {"crf": "13", "preset": "medium", "threads": "1", "flags": "+bitexact"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def encode_reproducibly(frames: np.ndarray) -> bytes:
    """`fourdnex.io.video.write_video`."""
    file = io.BytesIO()
    write_video(file, frames, fps=24)
    return file.getvalue()


def measure(encode: Callable[[np.ndarray], bytes], frames: np.ndarray, repeats: int) -> tuple[float, int]:
    """Median seconds, and the number of distinct files."""
    rng = np.random.default_rng(1)
    seconds, digests = [], set()
    for _ in range(repeats):
        blocks = [np.full(int(rng.integers(100, 200_000)), rng.integers(256), np.uint8) for _ in range(60)]
        del blocks[::2]
        started = time.perf_counter()
        content = encode(frames)
        seconds.append(time.perf_counter() - started)
        digests.add(hashlib.sha256(content).hexdigest())
    return statistics.median(seconds), len(digests)


if __name__ == "__main__":
    main()
