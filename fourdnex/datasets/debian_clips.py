"""Real clips: short segments of redistributable videos from Debian's package archive."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fourdnex.clip import Clip
from fourdnex.io.files import atomic_path
from fourdnex.io.video import read_video

NUM_FRAMES = 17
_POOL = "http://deb.debian.org/debian/pool/main"
_OPENCV = "opencv-doc_4.6.0+dfsg-12_all.deb"
_DLIB = "dlib_19.24+dfsg.orig.tar.bz2"
ARCHIVES = {
    _OPENCV: (
        f"{_POOL}/o/opencv/{_OPENCV}",
        "4b12681df35878207ac7097dc66184b2ae552e4bf4ddd2af04a0f03ed0b8682a",
    ),
    _DLIB: (
        f"{_POOL}/d/dlib/{_DLIB}",
        "66b4263822a2ff91a3e769e501c7d7927a13089e178c1427ec19cb0475823cf6",
    ),
}
"""File -> (URL, sha256)."""


@dataclass(frozen=True, kw_only=True)
class RealVideo:
    """One video in an archive, and its segments that become clips."""

    name: str
    archive: str
    member: str
    """Path in the archive: a video (optionally gzipped), or the common prefix of numbered images."""
    caption: str
    tags: tuple[str, ...]
    license: str
    credit: str
    fps: float
    size: tuple[int, int]
    """Height and width of the clips, at most those of the video."""
    segments: tuple[tuple[int, int], ...]
    """(first frame, stride) of each clip. The stride is chosen for visible camera or object motion."""

    @property
    def source(self) -> str:
        """Provenance of the video, for the manifest."""
        return f"{self.credit}; {self.archive}: {self.member}"

    @property
    def notice(self) -> str:
        """License notice, one line of `LICENSES.md`."""
        origin = f"{self.credit} (from `{self.archive}`, `{self.member}`)"
        return f"`{self.name}-*`: {origin}. {_TERMS[self.license]}. Cut and scaled."


_TERMS = {
    "Apache-2.0": "Apache-2.0, <https://www.apache.org/licenses/LICENSE-2.0>",
    "CC-BY-SA-3.0-DE": "CC BY-SA 3.0 DE, <https://creativecommons.org/licenses/by-sa/3.0/de/>",
}
_EXAMPLES = "usr/share/doc/opencv-doc/examples/data"
_HTML = "usr/share/doc/opencv-doc/opencv4/html"
REAL_VIDEOS = (
    RealVideo(
        name="juice", archive=_DLIB, member="dlib-19.24+dfsg/examples/video_frames/frame_",
        caption="A juice box, a bottle, cups and a camera stand on a white table in a dark office. "
        "The camera moves around them.",
        tags=("indoor", "far", "static", "grayscale"), license="CC-BY-SA-3.0-DE",
        credit="Bonn Benchmark on Tracking (BoBoT), Dominik A. Klein, University of Bonn, in gray as cut for dlib",
        fps=25.0, size=(240, 320),
        segments=((29, 2), (58, 2), (0, 4), (86, 4)),
    ),
    RealVideo(
        name="tree", archive=_OPENCV, member=f"{_EXAMPLES}/tree.avi",
        caption="Leaves of a tree stir in the wind before a bright sky, seen through a window. The camera stays still.",
        tags=("outdoor", "far", "dynamic", "camera-still"), license="Apache-2.0",
        credit="OpenCV samples", fps=15.0, size=(192, 256), segments=((0, 2),),
    ),
    RealVideo(
        name="pedestrians", archive=_OPENCV, member=f"{_EXAMPLES}/vtest.avi",
        caption="People walk over a road and a lawn between buildings. The camera stays still.",
        tags=("outdoor", "far", "dynamic", "camera-still"), license="Apache-2.0",
        credit="OpenCV samples", fps=10.0, size=(192, 256), segments=((0, 2),),
    ),
    RealVideo(
        name="box", archive=_OPENCV, member=f"{_HTML}/box.mp4.gz",
        caption="A hand turns a yellow box above a table. The camera stays still.",
        tags=("indoor", "close", "dynamic", "camera-still"), license="Apache-2.0",
        credit="OpenCV tutorials", fps=29.97, size=(192, 256), segments=((300, 4),),
    ),
    RealVideo(
        name="cup", archive=_OPENCV, member=f"{_HTML}/cup.mp4.gz",
        caption="A hand turns a black cup before a white wall. The camera stays still.",
        tags=("indoor", "close", "dynamic", "camera-still"), license="Apache-2.0",
        credit="OpenCV tutorials", fps=26.777, size=(192, 256), segments=((100, 4),),
    ),
)  # fmt: skip


def iter_real_clips(downloads: str | os.PathLike[str]) -> Iterator[Clip]:
    """Iterate over all real clips, 17 frames each; missing archives are downloaded to `downloads` and verified.

    Raises:
        OSError: no network.
        ValueError: an archive with an unexpected digest, a missing member, or a video that is too short.
    """
    contents = {archive: _read_archive(Path(downloads), archive) for archive in ARCHIVES}
    for video in REAL_VIDEOS:
        for start, stride in video.segments:
            clip = Clip(
                name=f"{video.name}-{start:04d}x{stride}",
                rgb=_frames(contents[video.archive], video, start, stride),
                fps=video.fps / stride,
                caption=video.caption,
                subset="real",
                tags=video.tags,
                source=f"{video.source}, frames {start}..{start + (NUM_FRAMES - 1) * stride} by {stride}",
                license=video.license,
                video=video.name,
                start=start / video.fps,
            )
            yield clip.resized(*video.size)


def _read_archive(downloads: Path, archive: str) -> dict[str, bytes]:
    """Members of one archive that `REAL_VIDEOS` uses -> their contents."""
    url, sha256 = ARCHIVES[archive]
    path = downloads / archive
    if not path.is_file():
        with urllib.request.urlopen(url, timeout=60) as response, atomic_path(path) as temporary:
            temporary.write_bytes(response.read())
    packed = path.read_bytes()
    digest = hashlib.sha256(packed).hexdigest()
    if digest != sha256:
        raise ValueError(f"{path}: expected sha256 {sha256}, got {digest}")
    selected = tuple(video.member for video in REAL_VIDEOS if video.archive == archive)
    contents = {}
    # Streamed in a single pass: seeking backward in a compressed archive decompresses it from the beginning.
    stream = io.BytesIO(_data_of_deb(packed) if archive.endswith(".deb") else packed)
    with tarfile.open(fileobj=stream, mode="r|*") as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            file = tar.extractfile(member) if name.startswith(selected) and member.isfile() else None
            if file is not None:
                contents[name] = file.read()
    return contents


def _data_of_deb(content: bytes) -> bytes:
    """The `data.tar.*` of a Debian package, an `ar` archive with a 60-byte header before every member."""
    at = 8
    while at < len(content):
        name, size = content[at : at + 16].decode().strip(), int(content[at + 48 : at + 58])
        if name.startswith("data.tar"):
            return content[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    raise ValueError("expected a Debian package with data.tar.*, found no data.tar")


def _frames(contents: dict[str, bytes], video: RealVideo, start: int, stride: int) -> np.ndarray:
    """Frames [T, H, W, 3] uint8 of one segment."""
    members = sorted(name for name in contents if name.startswith(video.member))
    if not members:
        raise ValueError(f"{video.archive}: expected a member {video.member}, found none")
    if len(members) == 1:
        packed = contents[members[0]]
        stream = io.BytesIO(gzip.decompress(packed) if members[0].endswith(".gz") else packed)
        return read_video(stream, start=start, stride=stride, num_frames=NUM_FRAMES, name=video.member)[0]
    from PIL import Image

    selected = members[start : start + (NUM_FRAMES - 1) * stride + 1 : stride]
    return np.stack([np.asarray(Image.open(io.BytesIO(contents[name])).convert("RGB")) for name in selected])
