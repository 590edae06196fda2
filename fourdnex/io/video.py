"""Reading and writing RGB video with PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from fourdnex.io.files import atomic_path, media_path
from fourdnex.io.h264 import add_h264_stream, yuv_frame
from fourdnex.io.resizing import resize_frame
from fourdnex.io.video_frames import VideoError, VideoFrames

if TYPE_CHECKING:
    import av
    from av.video.stream import VideoStream

_STILLS = ("mjpeg", "png", "bmp", "webp", "tiff")  # codecs of cover images; a film may have them where it is alone

LONGEST_PAUSE = 10.0
"""Seconds between two frames; where it is longer, the times of the video are damaged."""


def read_video(
    source: str | os.PathLike[str] | IO[bytes],
    *,
    start: int = 0,
    stride: int = 1,
    num_frames: int | None = None,
    size: tuple[int, int] | None = None,
    name: str | None = None,
) -> tuple[np.ndarray, float]:
    """Frames start, start + stride, ... of a video as they are shown (see `VideoFrames`).

    Args:
        source: a file, or a binary stream that can seek.
        num_frames: how many frames to return; None = as many as there are.
        size: height and width to bring every frame to as it is decoded (see `resize_frame`); None = as it is.
        name: what to call the video in errors; by default its path.

    Returns:
        rgb [T, H, W, 3] uint8 and the frame rate of what is returned (that of the video over `stride`).

    Raises:
        FileNotFoundError: there is no such file.
        VideoError: not a video, no video stream, no frames, broken data, or fewer frames than asked.
    """
    if start < 0 or stride < 1 or (num_frames is not None and num_frames < 1):
        raise ValueError(f"expected start >= 0, stride >= 1, num_frames >= 1, got {start}, {stride}, {num_frames}")
    title = _title(source, name)
    frames: list[np.ndarray] = []
    seen = 0
    with open_video(source, name=name) as video:
        for frame in video.frames:
            if seen >= start and (seen - start) % stride == 0:
                pixels = video.image(frame, at_least=size)
                frames.append(pixels if size is None else resize_frame(pixels, *size))
            seen += 1
            if len(frames) == num_frames:
                break
    if seen == 0:
        raise VideoError(f"{title}: expected frames, found none")
    if num_frames is not None and len(frames) < num_frames:
        last = start + (num_frames - 1) * stride
        raise VideoError(f"{title}: expected at least {last + 1} frames, found {seen}")
    if not frames:
        raise VideoError(f"{title}: expected a frame {start}, found {seen} frames")
    if len({frame.shape for frame in frames}) > 1:
        raise VideoError(f"{title}: expected frames of one size, found {sorted({f.shape[:2] for f in frames})}")
    return np.stack(frames), video.rate / stride


@contextmanager
def open_video(source: str | os.PathLike[str] | IO[bytes], *, name: str | None = None) -> Iterator[VideoFrames]:
    """The frames of a video, decoded one by one inside the block; a cover image is passed over.

    Raises:
        FileNotFoundError: there is no such file.
        VideoError: not a video, no video stream, or, while frames are taken, broken data or frames that cannot be
            converted.
    """
    import av

    if isinstance(source, str | os.PathLike) and not Path(source).is_file():
        raise FileNotFoundError(f"{source}: no such video")
    title = _title(source, name)
    try:
        file = media_path(source) if isinstance(source, str | os.PathLike) else source
        with av.open(file, mode="r", metadata_errors="ignore") as container:
            stream = _film(container.streams.video, title)
            yield VideoFrames(stream, container.decode(stream), name=title)
    except av.FFmpegError as error:
        raise VideoError(f"{title}: cannot be read as video: {error.strerror or error}") from error


def _film(streams: Sequence[VideoStream], title: str) -> VideoStream:
    """The first stream that is no cover image; some containers do not mark one as such."""
    import av

    real = [stream for stream in streams if not stream.disposition & av.stream.Disposition.attached_pic]
    films = [stream for stream in real if stream.codec_context.name not in _STILLS]
    if not real:
        only = " but a cover image" if streams else ""
        raise VideoError(f"{title}: expected a video stream, found none{only}")
    return (films or real)[0]


def resample_frames(frames: Iterable[av.VideoFrame], rate: float, fps: float) -> Iterator[av.VideoFrame]:
    """Of decoded frames, the one that is shown at 0, 1/fps, 2/fps, ... seconds from the first.

    Args:
        rate: mean frames a second of the video.

    Raises:
        VideoError: a frame would be shown for more than `LONGEST_PAUSE` seconds.
    """
    slack = 0.25 / rate  # containers round times
    last: av.VideoFrame | None = None
    start, since, number = 0.0, 0.0, 0
    for position, frame in enumerate(frames):
        time = position / rate if frame.time is None else frame.time
        if last is None:
            start = since = time
        if time - since > LONGEST_PAUSE:
            raise VideoError(f"expected frames at most {LONGEST_PAUSE:g} s apart, found {time - since:.0f} s")
        while last is not None and start + number / fps < time - slack:
            yield last
            number += 1
        last, since = frame, time
    while last is not None and start + number / fps < since + 1 / rate - slack:
        yield last
        number += 1


def _title(source: str | os.PathLike[str] | IO[bytes], name: str | None) -> str:
    return name or (str(source) if isinstance(source, str | os.PathLike) else "video")


def write_video(target: str | os.PathLike[str] | IO[bytes], rgb: np.ndarray, *, fps: float, crf: int = 13) -> None:
    """Write [T, H, W, 3] uint8 as H.264 in Matroska, color at full resolution; a file is written whole or not at all.

    Colors are BT.709, limited range, and tagged so. The same frames give the same bytes with the same version of PyAV,
    on every x86-64 processor: one thread, a fixed set of instructions, no random identifiers, no date.

    Args:
        crf: quality of x264; about 6 more halves the size. 13 keeps procedural worlds of 64x96 above 38 dB.

    Raises:
        ValueError: `rgb` or `fps` is not what is expected.
        OSError: no room, no permission.
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
    import av

    with av.open(target, mode="w", format="matroska", options={"fflags": "+bitexact"}) as container:
        height, width = rgb.shape[1:3]
        stream = add_h264_stream(container, fps=fps, height=height, width=width, pixel_format="yuv444p", crf=crf)
        stream.options |= {"threads": "1"}  # with more, the bytes depend on the number of cores
        for frame in rgb:
            container.mux(stream.encode(yuv_frame(frame, "yuv444p")))
        container.mux(stream.encode())
