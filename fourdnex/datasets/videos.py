"""Builds a data set from a directory of videos: each video is split into consecutive, equally sized clips.

```
out_dir/shards/videos-0000.tar ...   the clips
out_dir/manifest.parquet             one row per clip
out_dir/failed.json                  [{file, reason}] of every video that could not be read completely
```
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, count, groupby
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from fourdnex.clip import Clip
from fourdnex.datasets.build import CLIPS_PER_SHARD
from fourdnex.datasets.manifest import write_manifest
from fourdnex.datasets.shards import write_shard
from fourdnex.io.files import atomic_dir, check_empty, read_text, write_json
from fourdnex.io.frame_conversion import VideoError
from fourdnex.io.resizing import resize_and_crop
from fourdnex.io.video import open_video, resample_frames
from fourdnex.io.walk import unreadable_reason, walk
from fourdnex.progress import track

NUM_FRAMES, HEIGHT, WIDTH = 17, 240, 360
SIDECARS = {".aae", ".json", ".lrv", ".md", ".nfo", ".srt", ".thm", ".txt", ".vtt", ".xml"}
"""Suffixes of sidecar files, such as captions, notes and camera metadata, which are skipped."""


@dataclass(frozen=True, kw_only=True)
class VideosReport:
    """Result of `build_from_videos`."""

    videos: int
    """Number of files that were read."""
    clips: int
    """Number of clips written."""
    failed: tuple[tuple[str, str], ...]
    """(file, reason) of every video that could not be read completely."""


def build_from_videos(
    folder: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    num_frames: int = NUM_FRAMES,
    height: int = HEIGHT,
    width: int = WIDTH,
    keep_ratio: bool = False,
    fps: float | None = None,
    clips_per_video: int | None = None,
    license: str = "",
    shard_size: int = CLIPS_PER_SHARD,
    progress: Callable[[str], None] = lambda line: None,
) -> VideosReport:
    """Split the videos in `folder` and its subfolders into a data set at `out_dir`, atomically.

    Videos are read in path order, with one clip in memory at a time. Their display rotation is applied. Frames at the
    end that do not fill a clip are dropped. The caption of `kitchen.mp4` is the text of `kitchen.txt` next to it, or
    "". Links to folders are followed. All files are read except hidden ones and `SIDECARS`. A file that is not
    readable to its end, or that is too short, is reported as failed with the reason; its clips before the error are
    included.

    Args:
        folder: directory of videos.
        out_dir: directory to create; must be absent or empty.
        num_frames: frames per clip, 4k+1. Training requires at least as many frames as the base model generates.
        height: height of a clip, pixels; frames are scaled to cover height x width and center-cropped.
        width: width of a clip, pixels.
        keep_ratio: clips have the aspect ratio of their video, limited to 1:3..3:1, at the area of height x width.
        fps: frames per second; frames are sampled by their display time. None = all frames, at the video's mean rate.
        clips_per_video: max clips per video; None = all.
        license: license of the videos, stored with every clip.
        shard_size: clips per shard.
        progress: called with one line per video.

    Raises:
        FileNotFoundError: `folder` is not a directory.
        FileExistsError: `out_dir` is not empty.
        ValueError: an invalid argument, no videos in `folder`, or no video that yields a clip.
        OSError: the disk is full or not writable.
    """
    if num_frames < 1 or num_frames % 4 != 1:
        nearest = max(0, round((num_frames - 1) / 4)) * 4 + 1
        raise ValueError(f"num_frames: expected 4k+1, got {num_frames}; the nearest valid number is {nearest}")
    counts = {"clips_per_video": (clips_per_video, 1), "shard_size": (shard_size, 1)}
    for name, (value, minimum) in (counts | {"height": (height, 16), "width": (width, 16)}).items():
        if value is not None and value < minimum:
            raise ValueError(f"{name}: expected at least {minimum}, got {value}")
    if fps is not None and not 0 < fps < np.inf:
        raise ValueError(f"fps: expected a positive number, got {fps}")
    check_empty(out_dir)
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of videos")
    if not (files := _video_files(root)):
        raise ValueError(f"{folder}: expected videos, found none")
    failed: list[tuple[str, str]] = []

    def iter_clips(file: str, stem: str) -> Iterator[Clip]:
        """Clips of one video; an error ends them and is added to `failed`."""
        clips = 0
        try:
            if reason := unreadable_reason(root / file):
                raise VideoError(reason)
            caption = _caption(root / file)
            for rgb, rate in _iter_frames(root / file, num_frames, (height, width), keep_ratio, fps):
                yield Clip(
                    name=f"{stem}-{clips:04d}",
                    rgb=rgb,
                    fps=rate,
                    caption=caption,
                    subset="videos",
                    source=f"{file}, from {clips * num_frames / rate:.2f} s",
                    license=license,
                )
                clips += 1
                if clips == clips_per_video:
                    break
            progress(f"{file}: {clips} clips")
        except (OSError, ValueError) as error:
            included = f" (clips included from before the error: {clips})" if clips else ""
            failed.append((file, str(error).replace(f"{root / file}: ", "") + included))
            progress(f"failed: {file}: {failed[-1][1]}")

    numbers = count()
    rows: list[dict[str, Any]] = []
    stems = track(_clip_name_stems(files).items(), desc="videos", unit="video")
    clips = chain.from_iterable(iter_clips(file, stem) for file, stem in stems)
    with atomic_dir(out_dir) as temporary:
        for shard, part in groupby(clips, lambda clip: next(numbers) // shard_size):
            rows += write_shard(temporary, f"videos-{shard:04d}", part)
        if not rows:
            file, reason = failed[0]
            raise ValueError(f"{folder}: expected at least one video that yields a clip, found none; {file}: {reason}")
        write_manifest(temporary, rows)
        write_json(temporary / "failed.json", [{"file": file, "reason": reason} for file, reason in failed])
    return VideosReport(videos=len(files), clips=len(rows), failed=tuple(failed))


def _video_files(root: Path) -> list[str]:
    """Sorted paths relative to `root` of all candidate videos, including broken links."""
    files = (path.relative_to(root) for path in walk(root) if path.suffix.lower() not in SIDECARS)
    return sorted(file.as_posix() for file in files)


def _clip_name_stems(files: Iterable[str]) -> dict[str, str]:
    """Video -> unique prefix of its clip names: the path without suffix, reduced to safe characters."""
    stems: dict[str, str] = {}
    used: set[str] = set()
    for file in files:
        plain = unicodedata.normalize("NFKD", file.removesuffix(Path(file).suffix)).encode("ascii", "ignore").decode()
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", plain)[:80].strip(".-") or "video"
        candidates = chain([stem], (f"{stem}-{number}" for number in count(2)))
        stems[file] = next(name for name in candidates if name.casefold() not in used)
        used.add(stems[file].casefold())
    return stems


def _iter_frames(
    path: Path, num_frames: int, size: tuple[int, int], keep_ratio: bool, fps: float | None
) -> Iterator[tuple[np.ndarray, float]]:
    """Frames [num_frames, H, W, 3] of each clip of a video, and their frame rate."""
    seen = 0
    frames: list[np.ndarray] = []
    with open_video(path) as video:
        rate = fps or video.rate
        for frame in video.frames if fps is None else resample_frames(video.frames, video.rate, fps):
            whole = video.image(frame, min_size=size)
            clip_size = _size_at_ratio_of(whole.shape[:2], size) if keep_ratio else size
            frames.append(resize_and_crop(whole, *clip_size, shrink="area"))
            seen += 1
            if len(frames) == num_frames:
                yield np.stack(frames), rate
                frames = []
    if seen < num_frames:
        raise VideoError(f"expected at least {num_frames} frames at {rate:g} fps, found {seen}")


def _size_at_ratio_of(image: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int]:
    """Height and width at the aspect ratio of an image, limited to 1:3..3:1, and the area of `size`."""
    ratio = min(max(image[0] / image[1], 1 / 3), 3.0)
    area = size[0] * size[1]
    return round(sqrt(area * ratio)), round(sqrt(area / ratio))


def _caption(path: Path) -> str:
    """Caption of a video: the text of its sidecar `.txt` on one line."""
    sidecar = path.with_suffix(".txt")
    try:
        return " ".join(read_text(sidecar).split()) if sidecar.is_file() else ""
    except ValueError as error:
        raise ValueError(f"{error}".replace(f"{sidecar}", sidecar.name)) from error
