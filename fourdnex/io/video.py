"""RGB video files: reading any video that FFmpeg decodes, and writing H.264 in Matroska.

Writing is lossy; arrays that must be restored exactly are stored by `fourdnex.io.lossless_video`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from fourdnex.io.files import atomic_path, media_path
from fourdnex.io.frame_conversion import VideoError, VideoReader
from fourdnex.io.h264 import add_h264_stream, yuv_frame
from fourdnex.io.resizing import resize_frame

if TYPE_CHECKING:
    import av
    from av.video.stream import VideoStream

MAX_FRAME_GAP = 10.0
"""Largest time between two frames in seconds; beyond it the timestamps are taken to be damaged."""

_IMAGE_CODECS = ("mjpeg", "png", "bmp", "webp", "tiff")  # used by cover images, and by videos without another stream


def read_video(
    source: str | os.PathLike[str] | IO[bytes],
    *,
    start: int = 0,
    stride: int = 1,
    num_frames: int | None = None,
    size: tuple[int, int] | None = None,
    name: str | None = None,
) -> tuple[np.ndarray, float]:
    """Frames start, start + stride, ... of a video as displayed (see `VideoReader`).

    Args:
        source: a file, or a seekable binary stream.
        start: index of the first frame.
        stride: distance between the returned frames.
        num_frames: number of frames to return; None for all.
        size: height and width to which every decoded frame is resized (see `resize_frame`); None keeps its size.
        name: name of the video in error messages. Default: its path.

    Returns:
        rgb [T, H, W, 3] uint8, and the frame rate of the returned frames (the video's rate / stride).

    Raises:
        FileNotFoundError: the file does not exist.
        VideoError: the source is not a video or is damaged, has no video stream or no frames, or has fewer frames than
            requested.
    """
    if start < 0 or stride < 1 or (num_frames is not None and num_frames < 1):
        raise ValueError(f"expected start >= 0, stride >= 1, num_frames >= 1, got {start}, {stride}, {num_frames}")
    title = _title(source, name)
    frames: list[np.ndarray] = []
    num_decoded = 0
    with open_video(source, name=name) as video:
        for frame in video.frames:
            if num_decoded >= start and (num_decoded - start) % stride == 0:
                pixels = video.image(frame, min_size=size)
                frames.append(pixels if size is None else resize_frame(pixels, *size))
            num_decoded += 1
            if len(frames) == num_frames:
                break
    if num_decoded == 0:
        raise VideoError(f"{title}: expected frames, got none")
    if num_frames is not None and len(frames) < num_frames:
        last = start + (num_frames - 1) * stride
        raise VideoError(f"{title}: expected at least {last + 1} frames, got {num_decoded}")
    if not frames:
        raise VideoError(f"{title}: expected more than {start} frames, got {num_decoded}")
    if len({frame.shape for frame in frames}) > 1:
        raise VideoError(f"{title}: expected frames of one size, got {sorted({f.shape[:2] for f in frames})}")
    return np.stack(frames), video.rate / stride


@contextmanager
def open_video(
    source: str | os.PathLike[str] | IO[bytes], *, name: str | None = None, strict: bool = False
) -> Iterator[VideoReader]:
    """Open a video whose frames are decoded one by one inside the block; cover images are ignored.

    Args:
        source: a file, or a seekable binary stream.
        name: name of the video in error messages. Default: its path.
        strict: damaged frames, which the decoder otherwise fills with what it has, often green, are errors.

    Raises:
        FileNotFoundError: the file does not exist.
        VideoError: the source is not a video or has no video stream; or, while frames are decoded, the data is damaged
            or a frame cannot be converted.
    """
    import av

    if isinstance(source, str | os.PathLike) and not Path(source).is_file():
        raise FileNotFoundError(f"{source}: no such video")
    title = _title(source, name)
    try:
        file = media_path(source) if isinstance(source, str | os.PathLike) else source
        with av.open(file, mode="r", metadata_errors="ignore") as container:
            stream = _main_stream(container.streams.video, title)
            frames: Iterable[av.VideoFrame] = container.decode(stream)
            if strict:
                stream.codec_context.options = {"err_detect": "explode"}
                frames = _undamaged(frames, title)
            yield VideoReader(stream, frames, name=title)
    except av.FFmpegError as error:
        raise VideoError(f"{title}: cannot be read as video: {error.strerror or error}") from error


def _undamaged(frames: Iterable[av.VideoFrame], title: str) -> Iterator[av.VideoFrame]:
    """The frames up to the first one that the decoder marks as damaged, which is an error."""
    for number, frame in enumerate(frames):
        if frame.is_corrupt:
            raise VideoError(f"{title}: frame {number} is damaged")
        yield frame


def _main_stream(streams: Sequence[VideoStream], title: str) -> VideoStream:
    """The first stream that is not a cover image; some containers do not mark cover images as such."""
    import av

    candidates = [stream for stream in streams if not stream.disposition & av.stream.Disposition.attached_pic]
    known = [stream for stream in candidates if stream.codec_context is not None]
    videos = [stream for stream in known if stream.codec_context.name not in _IMAGE_CODECS]
    if not known:
        found = "one of an unknown codec" if candidates else "only a cover image" if streams else "none"
        raise VideoError(f"{title}: expected a video stream, got {found}")
    return (videos or known)[0]


def resample_frames(frames: Iterable[av.VideoFrame], rate: float, fps: float) -> Iterator[av.VideoFrame]:
    """The decoded frames that are displayed 0, 1/fps, 2/fps, ... seconds after the first one.

    Args:
        frames: decoded frames in order.
        rate: mean frames per second of the video.
        fps: frames per second of the result; frames are repeated or dropped.

    Raises:
        VideoError: two frames are more than `MAX_FRAME_GAP` seconds apart.
    """
    tolerance = 0.25 / rate  # containers round timestamps
    shown: av.VideoFrame | None = None
    start, shown_since, number = 0.0, 0.0, 0
    for position, frame in enumerate(frames):
        time = position / rate if frame.time is None else frame.time
        if shown is None:
            start = shown_since = time
        if time - shown_since > MAX_FRAME_GAP:
            gap = time - shown_since
            raise VideoError(f"timestamps: expected frames at most {MAX_FRAME_GAP:g} s apart, got {gap:.0f} s")
        while shown is not None and start + number / fps < time - tolerance:
            yield shown
            number += 1
        shown, shown_since = frame, time
    while shown is not None and start + number / fps < shown_since + 1 / rate - tolerance:
        yield shown
        number += 1


def write_video(target: str | os.PathLike[str] | IO[bytes], rgb: np.ndarray, *, fps: float, crf: int = 13) -> None:
    """Write frames as H.264 in Matroska with full-resolution chroma (4:4:4); files are written atomically.

    Colors are BT.709, limited range, and tagged as such. With the same version of PyAV, the same frames give the same
    bytes on every x86-64 processor: one thread, a fixed instruction set, no random identifiers, no date.

    Args:
        target: a file, or a binary stream.
        rgb: [T, H, W, 3] uint8.
        fps: frames per second.
        crf: constant rate factor of x264; 6 more halves the size. 13 keeps procedural worlds of 64x96 above 38 dB.

    Raises:
        ValueError: `rgb` has another shape or type, or `fps` is not positive.
        OSError: the file cannot be written.
    """
    if rgb.ndim != 4 or rgb.shape[-1] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise ValueError(f"rgb: expected [T, H, W, 3] uint8, got {rgb.shape} {rgb.dtype}")
    if not fps > 0:
        raise ValueError(f"fps: expected a positive number, got {fps}")
    if isinstance(target, str | os.PathLike):
        with atomic_path(target) as temporary:
            _encode(media_path(temporary), rgb, fps, crf)
    else:
        _encode(target, rgb, fps, crf)


def _encode(target: str | IO[bytes], rgb: np.ndarray, fps: float, crf: int) -> None:
    """Encode frames into a file or stream."""
    import av

    with av.open(target, mode="w", format="matroska", options={"fflags": "+bitexact"}) as container:
        height, width = rgb.shape[1:3]
        stream = add_h264_stream(container, fps=fps, height=height, width=width, pixel_format="yuv444p", crf=crf)
        stream.options |= {"threads": "1"}  # with more threads, the bytes depend on the number of cores
        for frame in rgb:
            container.mux(stream.encode(yuv_frame(frame, "yuv444p")))
        container.mux(stream.encode())


def _title(source: str | os.PathLike[str] | IO[bytes], name: str | None) -> str:
    """Name of a video in error messages."""
    return name or (str(source) if isinstance(source, str | os.PathLike) else "video")
