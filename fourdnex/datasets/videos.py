"""Builds a data set from a directory of videos: each video is split into consecutive windows of frames, the clips.

```
out_dir/shards/{name}-0000.tar ...   the clips
out_dir/manifest.parquet             one row per clip
out_dir/failed.json                  [{file, reason}] of every video that could not be read completely
out_dir/skipped.json                 {reason: number of windows} that are no clips
```
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, count, groupby
from pathlib import Path
from typing import Any

import numpy as np

from fourdnex.clip import Clip
from fourdnex.datasets.build import CLIPS_PER_SHARD
from fourdnex.datasets.image_sequences import ImageSequence, find_sequences
from fourdnex.datasets.manifest import write_manifest
from fourdnex.datasets.near_duplicates import DuplicateFinder
from fourdnex.datasets.shards import write_shard
from fourdnex.datasets.video_windows import WindowSettings, iter_windows
from fourdnex.io.files import atomic_dir, check_empty, read_text, sha256_file, write_json
from fourdnex.io.frame_conversion import VideoError
from fourdnex.io.walk import unreadable_reason, walk
from fourdnex.progress import track

NUM_FRAMES, MAX_SIZE = 17, 1280
SUBSET = "videos"
"""Value of the column `subset`."""
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
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Reason -> number of windows that are no clips: static, repeated frames, near-duplicate."""
    warnings: tuple[str, ...] = ()
    """What was ignored, such as captions that are not text."""


def build_from_videos(
    folder: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    num_frames: int = NUM_FRAMES,
    max_size: int = MAX_SIZE,
    height: int | None = None,
    width: int | None = None,
    keep_ratio: bool = False,
    fps: float | None = None,
    find_cuts: bool = True,
    crop_bars: bool = True,
    skip_static: bool = True,
    clips_per_video: int | None = None,
    license: str = "",
    name: str | None = None,
    shard_size: int = CLIPS_PER_SHARD,
    progress: Callable[[str], None] = lambda line: None,
) -> VideosReport:
    """Split the videos in `folder` and its subfolders into a data set at `out_dir`, atomically.

    Numbered images of one folder, such as `walk/frame_0001.png`, are one video at `fps` (default: 24); its caption is
    in `walk.txt`. Videos are read in path order, with one clip in memory at a time. Their display rotation is applied,
    and black bars are cropped. A clip never crosses a cut. Frames at the end of a shot that do not fill a clip are
    dropped. Windows that are static, consist of repeated frames, or show what a clip of another video shows, are
    skipped and counted.
    The caption of `kitchen.mp4` is the text of `kitchen.txt` next to it, or "". Links to folders are followed. All
    files are read except hidden ones and `SIDECARS`. A file that is not readable to its end, or that is too short, is
    reported as failed with the reason; its clips before the error are included.

    All clips of a video stand together and, as far as they fit, in one shard: annotation estimates one camera for them.

    Args:
        folder: directory of videos.
        out_dir: directory to create; must be absent or empty.
        num_frames: frames per clip, 4k+1. Training requires at least as many frames as the base model generates.
        max_size: longer side in pixels to which larger frames are scaled down. Cameras are estimated at this size;
            annotated clips are smaller.
        height, width: size of all clips: frames are scaled to cover it and center-cropped. None keeps frames whole.
        keep_ratio: clips have the aspect ratio of their video, limited to 1:3..3:1, at the area of height x width.
        fps: frames per second; frames are sampled by their display time. None = all frames, at the video's mean rate.
        find_cuts: clips end at cuts.
        crop_bars: crop letterbox and pillarbox.
        skip_static: skip windows in which nothing changes.
        clips_per_video: max clips per video; None = all.
        license: license of the videos, stored with every clip.
        name: beginning of the names of shards, unique among data sets that share a workspace. None: the name of
            `out_dir`.
        shard_size: clips per shard; a shard may have up to twice as many, to hold all clips of a video.
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
    counts = {"clips_per_video": (clips_per_video, 1), "shard_size": (shard_size, 1), "max_size": (max_size, 16)}
    for argument, (value, minimum) in (counts | {"height": (height, 16), "width": (width, 16)}).items():
        if value is not None and value < minimum:
            raise ValueError(f"{argument}: expected at least {minimum}, got {value}")
    if (height is None) != (width is None):
        raise ValueError(f"height and width: expected both or neither, got {height} and {width}")
    if keep_ratio and height is None:
        raise ValueError("keep_ratio: expected height and width, whose area clips have, got neither")
    if fps is not None and not 0 < fps < np.inf:
        raise ValueError(f"fps: expected a positive number, got {fps}")
    check_empty(out_dir)
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of videos")
    if not (videos := _find_videos(root)):
        raise ValueError(f"{folder}: expected videos, found none")
    settings = WindowSettings(
        num_frames=num_frames,
        max_size=max_size,
        crop=None if height is None or width is None else (height, width),
        keep_ratio=keep_ratio,
        fps=fps,
        find_cuts=find_cuts,
        crop_bars=crop_bars,
        skip_static=skip_static,
    )
    build = _Build(root, videos, settings, license, clips_per_video, progress)
    stems = track(_clip_name_stems(videos).items(), desc="videos", unit="video")
    clips = chain.from_iterable(build.iter_clips(file, stem) for file, stem in stems)
    prefix = safe_name(name if name is not None else Path(out_dir).absolute().name) or "videos"
    rows: list[dict[str, Any]] = []
    with atomic_dir(out_dir) as temporary:
        for shard, part in groupby(clips, _ShardNumbers(shard_size)):
            rows += write_shard(temporary, f"{prefix}-{shard:04d}", part)
        if not rows:
            reasons = build.failed or [(next(iter(videos)), f"all windows were skipped: {dict(build.skipped)}")]
            file, reason = reasons[0]
            raise ValueError(f"{folder}: expected at least one video that yields a clip, found none; {file}: {reason}")
        write_manifest(temporary, rows)
        write_json(temporary / "failed.json", [{"file": file, "reason": reason} for file, reason in build.failed])
        write_json(temporary / "skipped.json", dict(build.skipped))
    return VideosReport(
        videos=len(videos),
        clips=len(rows),
        failed=tuple(build.failed),
        skipped=dict(build.skipped),
        warnings=tuple(build.warnings),
    )


class _ShardNumbers:
    """Number of the shard of each clip, in order: a shard ends where it is full and a video ends."""

    def __init__(self, shard_size: int) -> None:
        self._size, self._number, self._count, self._video = shard_size, 0, 0, ""

    def __call__(self, clip: Clip) -> int:
        """The shard of the next clip."""
        is_full = self._count >= self._size and clip.video != self._video
        if is_full or self._count >= 2 * self._size:
            self._number, self._count = self._number + 1, 0
        self._count, self._video = self._count + 1, clip.video
        return self._number


class _Build:
    """The clips of all videos, and what became of the rest."""

    def __init__(
        self,
        root: Path,
        videos: Mapping[str, Path | ImageSequence],
        settings: WindowSettings,
        license: str,
        clips_per_video: int | None,
        progress: Callable[[str], None],
    ) -> None:
        self.root, self.videos, self.settings, self.license = root, videos, settings, license
        self.clips_per_video, self.progress = clips_per_video, progress
        self.failed: list[tuple[str, str]] = []
        self.skipped: Counter[str] = Counter()
        self.warnings: list[str] = []
        self._duplicates = DuplicateFinder()

    def iter_clips(self, file: str, stem: str) -> Iterator[Clip]:
        """Clips of one video; an error ends them and is added to `failed`."""
        source, path, clips, skipped = self.videos[file], self.root / file, 0, Counter[str]()
        try:
            if isinstance(source, Path) and (reason := unreadable_reason(source)):
                raise VideoError(reason)
            if isinstance(source, Path):
                caption, digest = self._caption(path.with_suffix(".txt")), sha256_file(source)
            else:
                caption, digest = self._caption(Path(f"{path.parent}.txt")), source.sha256
            for number, window in enumerate(iter_windows(source, self.settings)):
                name = f"{stem}-{number:04d}"
                reason = window.skipped
                if not reason and (original := self._duplicates.duplicate_of(window.rgb, name=name, video=stem)):
                    reason = "near-duplicate"
                    self.progress(f"skipped: {name}: near-duplicate of {original}")
                if reason:
                    skipped[reason] += 1
                    continue
                yield Clip(
                    name=name,
                    rgb=window.rgb,
                    fps=window.rate,
                    caption=caption,
                    subset=SUBSET,
                    source=f"{file}, from {window.start:.2f} s",
                    license=self.license,
                    video=stem,
                    shot=window.shot,
                    start=window.start,
                    source_sha256=digest,
                )
                clips += 1
                if clips == self.clips_per_video:
                    break
            details = "".join(f", {count} skipped: {reason}" for reason, count in sorted(skipped.items()))
            self.progress(f"{file}: {clips} clips{details}")
        except (OSError, ValueError) as error:
            included = f" (clips included from before the error: {clips})" if clips else ""
            self.failed.append((file, str(error).replace(f"{path}: ", "") + included))
            self.progress(f"failed: {file}: {self.failed[-1][1]}")
        self.skipped += skipped

    def _caption(self, sidecar: Path) -> str:
        """Caption: the text of the file on one line; empty without one, and with a warning, if it is not UTF-8."""
        try:
            return " ".join(read_text(sidecar).split()) if sidecar.is_file() else ""
        except ValueError as error:
            message = str(error).replace(str(sidecar), os.path.relpath(sidecar, self.root))
            self.warnings.append(f"{message}: the caption is left empty")
            self.progress(f"warning: {self.warnings[-1]}")
            return ""


def _find_videos(root: Path) -> dict[str, Path | ImageSequence]:
    """Path relative to `root` -> candidate video, including broken links, or image sequence, in path order."""
    found = (path.relative_to(root).as_posix() for path in walk(root) if path.suffix.lower() not in SIDECARS)
    files = sorted(found)
    sequences = find_sequences(root, files)
    parts = {path for sequence in sequences for path in sequence.files}
    videos: dict[str, Path | ImageSequence] = {file: root / file for file in files if root / file not in parts}
    return dict(sorted((videos | {sequence.name: sequence for sequence in sequences}).items()))


def _clip_name_stems(files: Iterable[str]) -> dict[str, str]:
    """Video -> unique prefix of its clip names: the path without suffix, reduced to safe characters."""
    stems: dict[str, str] = {}
    used: set[str] = set()
    for file in files:
        plain = file.removesuffix(Path(file).suffix)
        stem = safe_name(plain.rstrip("*_-. ") if plain.endswith("*") else plain) or "video"
        candidates = chain([stem], (f"{stem}-{number}" for number in count(2)))
        stems[file] = next(name for name in candidates if name.casefold() not in used)
        used.add(stems[file].casefold())
    return stems


def safe_name(text: str) -> str:
    """The text reduced to characters of clip names; may be empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain)[:80].strip(".-")
