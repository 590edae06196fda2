"""Windows of a video: consecutive frames of one shot, without black bars, at a chosen rate and size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fourdnex.datasets.image_sequences import RATE, ImageSequence
from fourdnex.datasets.letterbox import Crop, Profile, bar_profile, find_bars
from fourdnex.datasets.shots import ShotDetector
from fourdnex.io.frame_conversion import VideoError, VideoReader
from fourdnex.io.resizing import resize_and_crop
from fourdnex.io.video import open_video, resample_frames

if TYPE_CHECKING:
    import av

BAR_FRAMES = 24
"""Number of frames, spread over the first `BAR_SECONDS`, in which black bars are sought."""
BAR_SECONDS = 15.0
MAX_REPEATED = 0.25
"""Max share of repeated frames of a window."""
MIN_CHANGE = 0.3
"""Min change of a window, 0..255: the largest mean difference between its first frame and another."""
RATE_TOLERANCE = 1.02
"""Containers round frame rates."""


@dataclass(frozen=True, kw_only=True)
class WindowSettings:
    """How videos are cut into windows."""

    num_frames: int
    max_size: int
    """Longer side in pixels to which larger frames are scaled down."""
    crop: tuple[int, int] | None
    """Height and width of center-cropped frames; None keeps the frames whole."""
    keep_ratio: bool
    """Frames keep the video's ratio, limited to 1:3..3:1, at the area of `crop`."""
    fps: float | None
    find_cuts: bool
    crop_bars: bool
    skip_static: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """Frames of a window, or the reason why it is skipped."""

    rgb: np.ndarray  # [T, H, W, 3] uint8
    rate: float
    start: float
    """Seconds from the first frame of the video."""
    shot: int
    skipped: str = ""


def iter_windows(source: Path | ImageSequence, settings: WindowSettings) -> Iterator[Window]:
    """The windows of a video or image sequence in order, with one window in memory at a time.

    Frames at the end of a shot that do not fill a window are dropped. `settings.fps` is the rate of image sequences.

    Raises:
        VideoError: the video is damaged, has too few frames, or a lower rate than `settings.fps`.
        ValueError: an image of a sequence is damaged, or has another size than the first.
    """
    bars = _bars_of(source) if settings.crop_bars else None
    detector = ShotDetector() if settings.find_cuts else None
    frames: list[np.ndarray] = []
    repeated = shot = count = longest = 0
    with _open(source, settings) as (rate, images):
        for is_repeated, whole in images:
            if is_repeated and frames:
                image = frames[-1]
            else:
                whole = whole if bars is None else bars.apply(whole)
                if detector is not None and detector.is_cut(whole):
                    frames, repeated, shot = [], 0, shot + 1
                image = _resize(whole, settings)
            frames.append(image)
            repeated += is_repeated
            count += 1
            longest = max(longest, len(frames))
            if len(frames) == settings.num_frames:
                start = (count - settings.num_frames) / rate
                rgb = np.stack(frames)
                yield Window(rgb=rgb, rate=rate, start=start, shot=shot, skipped=_reason(rgb, repeated, settings))
                frames, repeated = [], 0
    if longest < settings.num_frames:
        within = " in one shot" if shot else ""
        raise VideoError(f"expected at least {settings.num_frames} frames at {rate:g} fps{within}, found {longest}")


@contextmanager
def _open(
    source: Path | ImageSequence, settings: WindowSettings
) -> Iterator[tuple[float, Iterator[tuple[bool, np.ndarray]]]]:
    """Frames per second, and the frames as (whether it repeats the frame before, image)."""
    if isinstance(source, ImageSequence):
        size = max(settings.max_size, *(settings.crop or ()))
        yield settings.fps or RATE, ((False, image) for image in source.images(size))
        return
    with open_video(source, strict=True) as video:
        rate = settings.fps or video.rate
        if rate > video.rate * RATE_TOLERANCE:
            raise VideoError(f"fps: expected at most the video's own rate of {video.rate:g}, got {rate:g}")
        frames = video.frames if settings.fps is None else resample_frames(video.frames, video.rate, rate)
        yield rate, _images(video, frames, settings)


def _images(
    video: VideoReader, frames: Iterable[av.VideoFrame], settings: WindowSettings
) -> Iterator[tuple[bool, np.ndarray]]:
    """See `_open`; a repeated frame is converted once."""
    last: av.VideoFrame | None = None
    for frame in frames:
        is_repeated = frame is last
        if not is_repeated:
            image = video.image(frame, min_size=_least_size(settings))
        last = frame
        yield is_repeated, image


def _reason(rgb: np.ndarray, repeated: int, settings: WindowSettings) -> str:
    """The reason to skip a window; empty without one."""
    if repeated > MAX_REPEATED * len(rgb):
        return "repeated frames"
    if settings.skip_static and len(rgb) > 1 and _change(rgb) < MIN_CHANGE:
        return "static"
    return ""


def _change(rgb: np.ndarray) -> float:
    """Largest mean difference, 0..255, between the first frame and others, of which four are compared."""
    import cv2

    others = np.unique(np.linspace(1, len(rgb) - 1, 4).astype(int))
    return max(float(cv2.absdiff(rgb[0], rgb[other]).mean()) for other in others)


def _least_size(settings: WindowSettings) -> tuple[int, int]:
    """Height and width that frames must have before they are resized."""
    return settings.crop or (settings.max_size, settings.max_size)


def _resize(image: np.ndarray, settings: WindowSettings) -> np.ndarray:
    """A frame at the size of its window."""
    height, width = image.shape[:2]
    if settings.crop is not None:
        size = _size_at_ratio_of((height, width), settings.crop) if settings.keep_ratio else settings.crop
        return resize_and_crop(image, *size, shrink="area")
    scale = min(1.0, settings.max_size / max(height, width))
    if scale == 1:
        return np.ascontiguousarray(image)
    return resize_and_crop(image, max(1, round(height * scale)), max(1, round(width * scale)), shrink="area")


def _size_at_ratio_of(image: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Height and width at the aspect ratio of an image, limited to 1:3..3:1, and the area of `size`."""
    ratio = min(max(image[0] / image[1], 1 / 3), 3.0)
    area = size[0] * size[1]
    return round(sqrt(area * ratio)), round(sqrt(area / ratio))


def _bars_of(source: Path | ImageSequence) -> Crop | None:
    """Black bars of a video; None without bars. Images have none: they are not letterboxed."""
    if isinstance(source, ImageSequence):
        return None
    profiles: list[Profile] = []
    try:
        with open_video(source) as video:
            step = max(1, round(video.rate * BAR_SECONDS / BAR_FRAMES))
            for number, frame in enumerate(video.frames):
                # The first frames are often black, and short videos end early.
                if number % step == 0 or (number < step and number % max(1, step // 4) == 0):
                    profiles.append(bar_profile(video.image(frame)))
                    if len(profiles) >= BAR_FRAMES:
                        break
    except VideoError:
        pass  # reading the windows meets the same error, after the clips before it
    return find_bars(profiles)
