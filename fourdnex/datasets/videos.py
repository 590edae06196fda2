"""One's own videos as a data set: each is cut into clips of one size, back to back.

```
out_dir/shards/videos-0000.tar ...   the clips
out_dir/manifest.parquet             a row a clip
out_dir/failed.json               [{file, reason}] of each video that gave no clips, or not all
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

import numpy as np

from fourdnex.clip import Clip
from fourdnex.datasets.build import CLIPS_PER_SHARD
from fourdnex.datasets.manifest import write_manifest
from fourdnex.datasets.shards import write_shard
from fourdnex.io.files import atomic_dir, check_empty, read_text, write_json
from fourdnex.io.resizing import resize_and_crop
from fourdnex.io.video import VideoError, at_times, open_video
from fourdnex.io.walk import unreadable, walk

NUM_FRAMES, HEIGHT, WIDTH = 17, 240, 360
SIDECARS = {".aae", ".json", ".lrv", ".md", ".nfo", ".srt", ".thm", ".txt", ".vtt", ".xml"}
"""Endings of what lies beside videos: captions, notes, what cameras write."""


@dataclass(frozen=True, kw_only=True)
class VideosReport:
    """What became of a folder of videos."""

    videos: int
    """Files that were tried."""
    clips: int
    failed: tuple[tuple[str, str], ...]
    """(file, reason)."""


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
    """Cut the videos in `folder` and in the folders within it into a data set at `out_dir`, whole or not at all.

    Videos come upright, in the order of their paths, one clip in memory at a time; frames that fill no clip at the end
    are left out. The caption of `kitchen.mp4` is the text of `kitchen.txt` beside it, or "". Links to folders are
    followed. Every file is tried but hidden ones and `SIDECARS`; one that cannot be read to its end, or is too short,
    is set aside with its reason. Clips before the damage stay.

    Args:
        num_frames: of a clip, 4k+1; a base learns from clips of its own number of frames, or longer ones.
        height: of a clip, pixels; frames are scaled to cover height x width, and the rest is cut off evenly.
        width: of a clip, pixels.
        keep_ratio: clips have each video's own ratio, between 1:3 and 3:1, and the area of height x width; nothing is
            cut.
        fps: frames a second; the frame shown at each time is taken. None = all frames, at the video's mean rate.
        clips_per_video: at most; None = all that fit.
        license: of the videos.
        progress: called with one line for every video.

    Raises:
        FileNotFoundError: `folder` is no folder.
        FileExistsError: there is something at `out_dir`.
        ValueError: a wrong number, no videos in `folder`, or none that gives a clip.
        OSError: no room, no permission.
    """
    if num_frames < 1 or num_frames % 4 != 1:
        nearest = max(0, round((num_frames - 1) / 4)) * 4 + 1
        raise ValueError(f"num_frames: expected 4k+1, got {num_frames}; the nearest valid number is {nearest}")
    counts = {"clips_per_video": (clips_per_video, 1), "shard_size": (shard_size, 1)}
    for name, (value, least) in (counts | {"height": (height, 16), "width": (width, 16)}).items():
        if value is not None and value < least:
            raise ValueError(f"{name}: expected at least {least}, got {value}")
    if fps is not None and not 0 < fps < np.inf:
        raise ValueError(f"fps: expected a positive number, got {fps}")
    check_empty(out_dir)
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of videos")
    if not (files := _files(root)):
        raise ValueError(f"{folder}: expected videos, found none")
    failed: list[tuple[str, str]] = []

    def cut(file: str, stem: str) -> Iterator[Clip]:
        clips = 0
        try:
            if reason := unreadable(root / file):
                raise VideoError(reason)
            caption = _caption(root / file)
            for rgb, rate in _pieces(root / file, num_frames, (height, width), keep_ratio, fps):
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
            kept = f" (clips kept from before that: {clips})" if clips else ""
            failed.append((file, str(error).replace(f"{root / file}: ", "") + kept))
            progress(f"set aside: {file}: {failed[-1][1]}")

    numbers = count()
    rows: list[dict] = []
    clips = chain.from_iterable(cut(file, stem) for file, stem in _stems(files).items())
    with atomic_dir(out_dir) as temporary:
        for shard, part in groupby(clips, lambda clip: next(numbers) // shard_size):
            rows += write_shard(temporary, f"videos-{shard:04d}", part)
        if not rows:
            file, reason = failed[0]
            raise ValueError(f"{folder}: expected a video that gives a clip, found none; {file}: {reason}")
        write_manifest(temporary, rows)
        write_json(temporary / "failed.json", [{"file": file, "reason": reason} for file, reason in failed])
    return VideosReport(videos=len(files), clips=len(rows), failed=tuple(failed))


def _files(root: Path) -> list[str]:
    """Paths within `root` of what may be a video, sorted; broken links are among them."""
    files = (path.relative_to(root) for path in walk(root) if path.suffix.lower() not in SIDECARS)
    return sorted(file.as_posix() for file in files)


def _stems(files: Iterable[str]) -> dict[str, str]:
    """What the names of each video's clips begin with: its path without suffix, made safe, unlike all others."""
    stems: dict[str, str] = {}
    taken: set[str] = set()
    for file in files:
        plain = unicodedata.normalize("NFKD", file.removesuffix(Path(file).suffix)).encode("ascii", "ignore").decode()
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", plain)[:80].strip(".-") or "video"
        candidates = chain([stem], (f"{stem}-{number}" for number in count(2)))
        stems[file] = next(name for name in candidates if name.casefold() not in taken)
        taken.add(stems[file].casefold())
    return stems


def _pieces(
    path: Path, num_frames: int, size: tuple[int, int], keep_ratio: bool, fps: float | None
) -> Iterator[tuple[np.ndarray, float]]:
    """Frames [num_frames, H, W, 3] of each clip, and their rate."""
    seen = 0
    frames: list[np.ndarray] = []
    with open_video(path) as video:
        rate = fps or video.rate
        for frame in video.frames if fps is None else at_times(video.frames, video.rate, fps):
            whole = video.image(frame, at_least=size)
            clip_size = _own_size(whole.shape[:2], size) if keep_ratio else size
            frames.append(resize_and_crop(whole, *clip_size, shrink="area"))
            seen += 1
            if len(frames) == num_frames:
                yield np.stack(frames), rate
                frames = []
    if seen < num_frames:
        raise VideoError(f"expected at least {num_frames} frames at {rate:g} a second, found {seen}")


def _own_size(image: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int]:
    """Height and width in the ratio of an image, with the area of `size`."""
    ratio = min(max(image[0] / image[1], 1 / 3), 3.0)
    area = size[0] * size[1]
    return round(sqrt(area * ratio)), round(sqrt(area / ratio))


def _caption(path: Path) -> str:
    """The text beside a video, on one line."""
    beside = path.with_suffix(".txt")
    try:
        return " ".join(read_text(beside).split()) if beside.is_file() else ""
    except ValueError as error:
        raise ValueError(f"{error}".replace(f"{beside}", beside.name)) from error
