"""Cameras of all clips of a video: one focal length and distortion for the video, clips reconstructed together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fourdnex.annotation.base import AnnotationError, VideoClips
from fourdnex.annotation.structure_from_motion import (
    FrameFolder,
    Reconstruction,
    reconstruct,
)
from fourdnex.annotation.undistortion import RadialCamera
from fourdnex.clip import Clip

MAX_FRAMES = 102
"""Max number of frames that are reconstructed together."""
MAX_CALIBRATIONS = 3
"""Max number of groups of clips, spread over the video, whose focal length is estimated; the median is used."""
SAME_FOCAL = 0.02
"""Max relative difference of the focal length of a group from that of the video, to keep the group's reconstruction."""


@dataclass(frozen=True)
class Group:
    """Consecutive clips of one shot that are reconstructed together."""

    names: tuple[str, ...]
    first: tuple[int, ...]
    """Number of the first frame of each clip in the group."""
    num_frames: tuple[int, ...]

    def frames(self, name: str) -> range:
        """Numbers of the frames of a clip in the group."""
        index = self.names.index(name)
        return range(self.first[index], self.first[index] + self.num_frames[index])


Outcome = tuple[str, Reconstruction | AnnotationError, range]
"""Name of a clip, its reconstruction or the reason against it, and its frames there."""


def reconstruct_video(
    clips: VideoClips, names: Sequence[str], *, refuse: Callable[[Clip], str | None], camera: RadialCamera | None = None
) -> Iterator[Outcome]:
    """Reconstruct the clips of a video.

    Args:
        clips: all clips of the video.
        names: the clips that are needed.
        refuse: returns a reason to leave a clip out, such as a static camera, or None.
        camera: the camera of the video, if it is known; None estimates it.
    """
    groups, refused = _groups(clips, refuse)
    for name in names:
        if name in refused:
            yield name, refused[name], range(0)
    solved: dict[int, Reconstruction | AnnotationError] = {}
    if camera is None:
        wanted = [number for number, group in enumerate(groups) if set(group.names) & set(names)]
        for number in _spread(range(len(groups)), MAX_CALIBRATIONS):
            solved[number] = _solve(clips, groups[number], None)
        camera, reason = _calibrate(list(solved.values()))
        if camera is None:
            for number in wanted:
                group = groups[number]
                outcome = solved.get(number)
                error = outcome if isinstance(outcome, AnnotationError) else reason
                yield from ((name, error, range(0)) for name in group.names if name in names)
            return
    for number, group in enumerate(groups):
        needed = [name for name in group.names if name in names]
        if not needed:
            continue
        found = solved.get(number)
        if not isinstance(found, Reconstruction) or not _same(found.camera, camera):
            found = _solve(clips, group, camera)
        yield from _outcomes(clips, group, needed, found, camera)


def _groups(clips: VideoClips, refuse: Callable[[Clip], str | None]) -> tuple[list[Group], dict[str, AnnotationError]]:
    """Consecutive clips of one shot in groups of at most `MAX_FRAMES` frames; clips that are left out have a reason."""
    groups: list[Group] = []
    refused: dict[str, AnnotationError] = {}
    pending: list[tuple[str, int]] = []
    last: tuple[int, int, int] | None = None

    def close() -> None:
        """Turn the pending clips into a group."""
        if pending:
            counts = [count for _, count in pending]
            starts = np.cumsum([0, *counts[:-1]])
            groups.append(Group(tuple(name for name, _ in pending), tuple(map(int, starts)), tuple(counts)))
            pending.clear()

    for name in clips.names:
        try:
            clip = clips.read(name)
        except ValueError as error:
            refused[name] = AnnotationError(str(error))
            continue
        key = (clip.shot, clip.height, clip.width)
        if key != last or sum(count for _, count in pending) + clip.num_frames > MAX_FRAMES:
            close()
            last = key
        if reason := refuse(clip):
            refused[name] = AnnotationError(reason)
        else:
            pending.append((name, clip.num_frames))
    close()
    return groups, refused


def _spread(numbers: range, count: int) -> list[int]:
    """At most `count` of the numbers, evenly spread."""
    return [numbers[int(i)] for i in np.unique(np.linspace(0, len(numbers) - 1, min(count, len(numbers))).round())]


def _solve(clips: VideoClips, group: Group, camera: RadialCamera | None) -> Reconstruction | AnnotationError:
    """The reconstruction of a group, or the reason why there is none."""
    with FrameFolder() as folder:
        try:
            for name, first in zip(group.names, group.first, strict=True):
                folder.add(first, clips.read(name).rgb)
            return reconstruct(folder, camera=camera)
        except AnnotationError as error:
            return error


def _calibrate(
    found: Sequence[Reconstruction | AnnotationError],
) -> tuple[RadialCamera | None, AnnotationError]:
    """The camera of the reconstruction with the median focal length, of those that determine it; else the reason."""
    solved = [each for each in found if isinstance(each, Reconstruction)]
    if not solved:
        errors = [each for each in found if isinstance(each, AnnotationError)]
        return None, errors[0] if errors else AnnotationError("no clip of the video has a moving camera")
    sure = sorted((each for each in solved if each.focal_doubt() is None), key=_relative_focal)
    if not sure:
        best = max(solved, key=lambda each: each.focal_rise)
        return None, AnnotationError(f"focal length: not determined by the video: {best.focal_doubt()}")
    return sure[len(sure) // 2].camera, AnnotationError("")


def _relative_focal(each: Reconstruction) -> float:
    """Focal length in widths of the image."""
    return each.camera.focal / each.camera.width


def _same(camera: RadialCamera, other: RadialCamera) -> bool:
    """Whether two cameras have about the same focal length."""
    return abs(camera.focal / camera.width / (other.focal / other.width) - 1) <= SAME_FOCAL


def _outcomes(
    clips: VideoClips,
    group: Group,
    needed: Sequence[str],
    found: Reconstruction | AnnotationError,
    camera: RadialCamera,
) -> Iterator[Outcome]:
    """The outcome of each clip; a clip that is not registered in its group is reconstructed alone."""
    for name in needed:
        frames = group.frames(name)
        if isinstance(found, Reconstruction) and np.isin(frames, found.frames).all():
            yield name, found, frames
        elif len(group.names) == 1:
            yield name, found, frames
        else:
            alone = Group((name,), (0,), (len(frames),))
            yield name, _solve(clips, alone, camera), range(len(frames))
