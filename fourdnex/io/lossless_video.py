"""Lossless array videos: RGB, 8-bit or 16-bit gray frames as FFV1 in Matroska, which FFmpeg and most players read.

Scenes are stored in these; RGB videos of people are read and written by `fourdnex.io.video`.
"""

import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from fourdnex.io.files import media_path

# (dtype, number of dimensions) -> (PyAV's pixel format of the array, pixel format of the FFV1 stream).
_FORMATS = {
    (np.dtype(np.uint8), 4): ("rgb24", "bgr0"),
    (np.dtype(np.uint8), 3): ("gray", "gray"),
    (np.dtype(np.uint16), 3): ("gray16le", "gray16le"),
}
_ARRAY_FORMATS = {stored: layout for layout, stored in _FORMATS.values()}


def write_lossless(path: str | os.PathLike[str], frames: np.ndarray, *, fps: float = 24.0) -> None:
    """Write frames as FFV1: values are restored exactly, and the same frames give the same bytes.

    Not atomic by itself; see `fourdnex.io.files.atomic_path`.

    Args:
        path: ends in ".mkv".
        frames: [T, H, W, 3] uint8 (RGB), [T, H, W] uint8 or [T, H, W] uint16, T >= 1.
        fps: frames per second.

    Raises:
        ValueError: `frames` has another shape or type.
    """
    import av

    layout, stored = _FORMATS.get((frames.dtype, frames.ndim), ("", ""))
    if not layout or (frames.ndim == 4 and frames.shape[-1] != 3) or 0 in frames.shape:
        raise ValueError(
            f"frames: expected [T, H, W, 3] uint8 or [T, H, W] uint8 or uint16, got {frames.shape} {frames.dtype}"
        )
    with av.open(media_path(path), "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        # Level 3 has a checksum per slice, but cannot split an image of a few pixels into slices.
        options = {"level": "3", "slicecrc": "1", "slices": "4"} if min(frames.shape[1:3]) >= 16 else {"level": "1"}
        # Every frame is a key frame, so that it can be decoded without the frames before it.
        options |= {"g": "1", "flags": "+bitexact"}
        stream = container.add_stream("ffv1", rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], stored
        stream.codec_context.thread_type = "SLICE"
        for frame in frames:
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=layout)
            container.mux(stream.encode(image.reformat(format=stored)))
        container.mux(stream.encode())


def read_lossless(path: str | os.PathLike[str], *, frame: int | None = None) -> np.ndarray:
    """Read a file written by `write_lossless`: [T, H, W, 3] uint8, [T, H, W] uint8 or [T, H, W] uint16.

    Args:
        path: the file.
        frame: read only this frame (T = 1), without decoding the others.

    Raises:
        FileNotFoundError: the file does not exist.
        IndexError: the video has no such frame.
        ValueError: the file is damaged or was not written by `write_lossless`; the message names it.
    """
    import av

    try:
        with av.open(media_path(path), metadata_errors="ignore") as container:
            if not container.streams.video:
                raise ValueError(f"{path}: expected a video stream, got none")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise ValueError(f"{path}: expected FFV1, got an unknown codec")
            if stream.codec_context.name != "ffv1" or stream.pix_fmt not in _ARRAY_FORMATS:
                raise ValueError(f"{path}: expected FFV1, got {stream.codec_context.name} ({stream.pix_fmt})")
            layout = _ARRAY_FORMATS[stream.pix_fmt]
            stream.codec_context.thread_type = "SLICE"
            images = container.decode(stream) if frame is None else _decode_frame(container, stream, frame)
            frames = [image.to_ndarray(format=layout) for image in images]
    except av.error.FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file") from error
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: cannot be decoded: {error}") from error
    if not frames:
        if frame is not None:
            raise IndexError(f"{path}: no frame {frame}")
        raise ValueError(f"{path}: expected frames, got none")
    return np.stack(frames)


def _decode_frame(container: Any, stream: Any, frame: int) -> Iterator[Any]:
    """The image of one frame; nothing if the video has fewer frames."""
    if frame < 0:
        return
    # Matroska rounds timestamps to milliseconds, less than a quarter of a frame. Seeking stops at the last image that
    # is not later than the target, so the target is a quarter of a frame late; earlier images are skipped.
    rate = float(stream.average_rate)
    if frame > 0:
        container.seek(int((frame + 0.25) / rate / stream.time_base), stream=stream)
    for image in container.decode(stream):
        if image.time >= (frame - 0.25) / rate:
            yield image
            return
