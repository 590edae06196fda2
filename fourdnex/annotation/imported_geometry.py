"""Annotation with depth and cameras that another tool has estimated, see `geometry_formats`."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fourdnex.annotation.base import AnnotationError, ClipAnnotator, limit_pixels
from fourdnex.annotation.geometry_formats import FORMATS, open_geometry
from fourdnex.annotation.imported_video import ImportedVideo
from fourdnex.annotation.known_cameras import triangulate
from fourdnex.annotation.sfm import MAX_PIXELS, SfmAnnotator
from fourdnex.clip import Clip, is_clip_name
from fourdnex.datasets.clip_geometry import SAME_INTRINSICS, clip_geometry, nearest_rigid
from fourdnex.geometry.cameras import relative_to_first
from fourdnex.geometry.recovery import recover_cameras
from fourdnex.io.resizing import resize_and_crop
from fourdnex.metrics.psnr import psnr

MAX_RATIO_CHANGE = {"stretch": 0.03, "crop": 0.34}
"""Max relative difference of the aspect ratio of a clip from that of its imported geometry, by `ImportedVideo.fit`.
Tools round the size of images to multiples of up to 16 pixels; MonST3R crops square images to 4:3."""
MAX_TIME_ERROR = 0.25
"""Max distance of a frame's time from that of the nearest frame with geometry, in frames of the geometry."""
MIN_PSNR = 15.0
"""Min PSNR in dB between the clip and the images that come with the geometry; those of another video have less."""


class GeometryAnnotator(ClipAnnotator):
    """Reads depth and cameras of clips from the files of another tool in the folder `geometry`.

    Files are found by the name of the clip or else by that of its video (columns `name` and `video` of the manifest).
    Files of a clip hold exactly its frames. In those of a video, frame n is at n / `geometry_fps` seconds, and a clip
    gets the frames at its times.

    The annotated clip has the size of the depth maps, or that of the clip if that is smaller. Its RGB is that of the
    images which come with the geometry, if any, because depth belongs to their pixels; otherwise the clip's own. Depth
    and poses have the unit of the files. Where the intrinsics differ between frames, shared intrinsics, poses and depth
    are recovered from the point maps. Cameras without depth get dense depth by stereo, as those of `sfm`.

    Raises:
        FileNotFoundError: `geometry` is no folder.
        ValueError: `geometry_fps` is not positive.
    """

    name: ClassVar[str] = "imported"
    version: str = "1"
    license: ClassVar[str] = "the tool's own"

    def __init__(self, geometry: str | os.PathLike[str], *, geometry_fps: float | None = None) -> None:
        """Use the files in `geometry`; `geometry_fps` is the frame rate of a video's geometry (default: the clip's)."""
        self.root = Path(geometry)
        if not self.root.is_dir():
            raise FileNotFoundError(f"geometry: {self.root}: expected a folder, found none")
        if geometry_fps is not None and not (np.isfinite(geometry_fps) and geometry_fps > 0):
            raise ValueError(f"geometry_fps: expected a positive number, got {geometry_fps}")
        self.geometry_fps = geometry_fps
        self.version = f"1-{_state(self.root, geometry_fps)}"
        self._open = lru_cache(maxsize=1)(open_geometry)

    def annotate(self, clip: Clip) -> Clip:
        """The clip with its imported geometry.

        Raises:
            AnnotationError: no cameras fit the point maps; or, where there are only cameras, they contradict the video,
                or they have too little parallax.
            ValueError: there is no geometry of the clip, or it is damaged or does not belong to the clip.
        """
        try:
            return self._annotate(clip)
        except OSError as error:  # a missing file of one clip; the others go on
            raise ValueError(f"{clip.name}: imported geometry: {error}") from error

    def _annotate(self, clip: Clip) -> Clip:
        """See `annotate`."""
        video, rows = self._find(clip)
        change = abs(video.size[1] / video.size[0] / (clip.width / clip.height) - 1)
        if change > MAX_RATIO_CHANGE[video.fit]:
            size = f"{video.size[1]}x{video.size[0]}"
            raise ValueError(f"{video.format}: expected the ratio of {clip.width}x{clip.height}, got {size}")
        if video.depth is None:
            return self._with_stereo(clip, video, rows)
        depth = np.stack([np.asarray(video.depth(row), np.float32) for row in rows])
        geometry: dict[str, Any] = clip_geometry(depth, video.intrinsics[rows], video.camera_to_world[rows])
        for field in ("confidence", "dynamic_mask"):
            if (read := getattr(video, field)) is not None:
                geometry[field] = np.stack([read(row) for row in rows])
        if "confidence" in geometry:
            geometry["confidence"] = np.where(geometry["depth"] > 0, geometry["confidence"], 0).astype(np.float32)
        if "imported_pointmaps" in geometry:
            geometry |= _shared_camera(geometry.pop("imported_pointmaps"), geometry.get("confidence"))
        annotated = replace(clip, rgb=_rgb(clip, video, rows), annotator=self.name, **geometry)
        return limit_pixels(annotated, clip.height * clip.width)

    def _with_stereo(self, clip: Clip, video: ImportedVideo, rows: list[int]) -> Clip:
        """The clip with imported cameras, and with dense depth, confidence and dynamic mask as of `sfm`."""
        poses = relative_to_first(nearest_rigid(video.camera_to_world[rows], len(rows))).astype(np.float32)
        intrinsics = np.median(video.intrinsics[rows], axis=0)
        if np.abs(video.intrinsics[rows] - intrinsics).max() > SAME_INTRINSICS:
            raise AnnotationError(f"{video.format}: cameras without depth: expected the same intrinsics in all frames")
        y, x = clip.height / video.size[0], clip.width / video.size[1]
        intrinsics[:2, 2] += 0.5
        intrinsics *= np.array([[x], [y], [1.0]])
        intrinsics[:2, 2] -= 0.5
        clip = replace(clip, intrinsics=intrinsics.astype(np.float32), camera_to_world=poses)
        clip = limit_pixels(clip, MAX_PIXELS)
        assert clip.intrinsics is not None
        found = SfmAnnotator().estimate(clip.rgb, triangulate(clip.rgb, clip.intrinsics.astype(np.float64), poses))
        return replace(
            clip,
            annotator=self.name,
            depth=found.depth,
            confidence=found.confidence,
            dynamic_mask=found.dynamic_mask,
        )

    def _find(self, clip: Clip) -> tuple[ImportedVideo, list[int]]:
        """The geometry of a clip, and the indices of its frames there."""
        if (video := self._open(self.root, clip.name)) is not None:
            if len(video.frames) != clip.num_frames:
                raise ValueError(
                    f"{video.format}: expected the {clip.num_frames} frames of the clip, got {len(video.frames)}"
                )
            return video, list(range(clip.num_frames))
        if is_clip_name(clip.video) and (video := self._open(self.root, clip.video)) is not None:
            return video, _rows_at(video, clip, self.geometry_fps or clip.fps)
        names = " or ".join(filter(None, dict.fromkeys((clip.name, clip.video))))
        raise ValueError(f"{self.root}: expected geometry ({', '.join(FORMATS)}) named {names}, found none")


def _rows_at(video: ImportedVideo, clip: Clip, fps: float) -> list[int]:
    """Indices of the frames of a video's geometry at the times of a clip's frames."""
    numbers = (clip.start + np.arange(clip.num_frames) / clip.fps) * fps
    nearest = np.rint(numbers).astype(np.int64)
    if (error := np.abs(numbers - nearest).max()) > MAX_TIME_ERROR:
        raise ValueError(
            f"{video.format}: the clip's frames, at {clip.fps:g} per second from {clip.start:g} s, are up to "
            f"{error:.2f} frames from those of the geometry at {fps:g} per second: pass --geometry-fps"
        )
    rows = np.searchsorted(video.frames, nearest)
    found = (rows < len(video.frames)) & (video.frames[np.minimum(rows, len(video.frames) - 1)] == nearest)
    if not found.all():
        raise ValueError(
            f"{video.format}: expected geometry of frames {nearest[0]} to {nearest[-1]} of {clip.video}, found "
            f"{found.sum()} of {len(nearest)} (it has {len(video.frames)}, from {video.frames[0]} to "
            f"{video.frames[-1]})"
        )
    return [int(row) for row in rows]


def _rgb(clip: Clip, video: ImportedVideo, rows: list[int]) -> np.ndarray:
    """Frames [T, H, W, 3] uint8 at the size of the geometry."""
    ratio = (clip.height, clip.width) if video.fit == "stretch" else None
    rgb = np.stack([resize_and_crop(frame, *video.size, ratio=ratio) for frame in clip.rgb])
    if video.image is None:
        return rgb
    images = np.stack([video.image(row) for row in rows])
    if (similarity := psnr(images, rgb)) < MIN_PSNR:
        raise ValueError(
            f"{video.format}: the images of the geometry do not show the clip: expected a PSNR of at least "
            f"{MIN_PSNR:.0f} dB, got {similarity:.1f} dB"
        )
    return images


def _shared_camera(points: np.ndarray, confidence: np.ndarray | None) -> dict[str, np.ndarray]:
    """Depth, poses and shared intrinsics that fit point maps [T, H, W, 3]."""
    try:
        recovery = recover_cameras(points, confidence)
    except ValueError as error:
        raise AnnotationError(f"no cameras fit the point maps: {error}") from error
    poses = relative_to_first(recovery.camera_to_world)
    return {"depth": recovery.depth, "intrinsics": recovery.intrinsics, "camera_to_world": poses}


def _state(root: Path, fps: float | None) -> str:
    """Digest of the names, sizes and times of all files of a folder, so that changed geometry is imported again."""
    digest = hashlib.sha256(repr(fps).encode())
    for folder, folders, files in os.walk(root):
        folders.sort()
        for file in sorted(files):
            path = Path(folder, file)
            status = path.stat()
            digest.update(f"{path.relative_to(root)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:12]
