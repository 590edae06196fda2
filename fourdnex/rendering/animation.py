"""Videos for viewing: H.264 in MP4 or Matroska, or animated GIF."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fourdnex.io.files import atomic_path, media_path
from fourdnex.io.h264 import PixelFormat, add_h264_stream, yuv_frame

SUFFIXES = (".mkv", ".mp4", ".gif")


def check_animation_name(path: str | os.PathLike[str]) -> None:
    """Check that `write_animation` supports an output path.

    Raises:
        ValueError: the path ends in none of `SUFFIXES`.
        IsADirectoryError: the path is a folder.
    """
    if Path(path).suffix.lower() not in SUFFIXES or not Path(path).stem:
        raise ValueError(f"output: expected a file name ending in {', '.join(SUFFIXES)}, got {path}")
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path}: expected a file or a new path, got a folder")


def write_animation(path: str | os.PathLike[str], frames: Iterable[np.ndarray], *, fps: float) -> int:
    """Write images [H, W, 3] uint8 of one size to a video, lazily and atomically.

    .mkv has full chroma resolution. .mp4 plays in all browsers (chroma subsampled; an odd last row or column is
    duplicated). Both are tagged as BT.709. .gif loops, with one palette per frame.

    Returns:
        Number of frames.

    Raises:
        ValueError: unsupported suffix, no frames, or frames of different sizes.
        OSError: the file cannot be written.
    """
    check_animation_name(path)
    if not (np.isfinite(fps) and fps > 0):
        raise ValueError(f"fps: expected a positive number, got {fps}")
    with atomic_path(path) as temporary:
        if Path(path).suffix.lower() == ".gif":
            return _write_gif(temporary, frames, fps)
        return _write_h264(temporary, frames, fps, browser=Path(path).suffix.lower() == ".mp4")


def _write_h264(path: Path, frames: Iterable[np.ndarray], fps: float, *, browser: bool) -> int:
    """Write H.264; `browser` selects MP4 with 4:2:0 chroma instead of Matroska with 4:4:4."""
    import av

    count, shape, stream = 0, None, None
    pixel_format: PixelFormat = "yuv420p" if browser else "yuv444p"
    options = {"movflags": "+faststart"} if browser else {}
    with av.open(media_path(path), "w", format="mp4" if browser else "matroska", options=options) as container:
        for frame in frames:
            shape = _checked_shape(frame, shape)
            if browser:
                frame = np.pad(frame, ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0)), mode="edge")
            if stream is None:
                height, width = frame.shape[:2]
                size: dict[str, Any] = {"height": height, "width": width, "crf": 16 if browser else 13}
                stream = add_h264_stream(container, fps=fps, pixel_format=pixel_format, **size)
            container.mux(stream.encode(yuv_frame(frame, pixel_format)))
            count += 1
        if stream is None:
            raise ValueError("frames: expected at least one, got none")
        container.mux(stream.encode())
    return count


def _write_gif(path: Path, frames: Iterable[np.ndarray], fps: float) -> int:
    """Write an animated GIF."""
    from PIL import Image

    images, shape = [], None
    for frame in frames:
        shape = _checked_shape(frame, shape)
        images.append(Image.fromarray(frame).quantize(256, dither=Image.Dither.FLOYDSTEINBERG))
    if not images:
        raise ValueError("frames: expected at least one, got none")
    # GIF durations are multiples of 10 ms, and players slow down durations below 20 ms.
    duration = max(20, 10 * round(100 / fps))
    images[0].save(path, format="GIF", save_all=True, append_images=images[1:], duration=duration, loop=0)
    return len(images)


def _checked_shape(frame: np.ndarray, shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape of a frame, after a check that it equals the shape of earlier frames."""
    if frame.ndim != 3 or frame.shape[-1] != 3 or frame.dtype != np.uint8 or (shape and frame.shape != shape):
        raise ValueError(f"frames: expected {shape or '[H, W, 3]'} uint8, got {frame.shape} {frame.dtype}")
    return frame.shape
