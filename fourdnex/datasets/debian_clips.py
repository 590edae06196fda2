"""Real clips: short pieces of videos that Debian's archive carries and that may be passed on."""

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
"""File -> (address, sha256)."""


@dataclass(frozen=True, kw_only=True)
class RealVideo:
    """One video in an archive, and the pieces of it that become clips."""

    name: str
    archive: str
    member: str
    """Path in the archive: a video (perhaps gzipped), or the beginning of the paths of numbered images."""
    caption: str
    tags: tuple[str, ...]
    license: str
    credit: str
    fps: float
    size: tuple[int, int]
    """height, width of the clips: at most those of the video."""
    pieces: tuple[tuple[int, int], ...]
    """(first frame, stride) of each clip; the stride gives the camera or the objects time to move."""

    @property
    def source(self) -> str:
        return f"{self.credit}; {self.archive}: {self.member}"

    @property
    def notice(self) -> str:
        """Line for LICENSES.md."""
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
        pieces=((29, 2), (58, 2), (0, 4), (86, 4)),
    ),
    RealVideo(
        name="tree", archive=_OPENCV, member=f"{_EXAMPLES}/tree.avi",
        caption="Leaves of a tree stir in the wind before a bright sky, seen through a window. The camera stays still.",
        tags=("outdoor", "far", "dynamic", "camera-still"), license="Apache-2.0",
        credit="OpenCV samples", fps=15.0, size=(192, 256), pieces=((0, 2),),
    ),
    RealVideo(
        name="pedestrians", archive=_OPENCV, member=f"{_EXAMPLES}/vtest.avi",
        caption="People walk over a road and a lawn between buildings. The camera stays still.",
        tags=("outdoor", "far", "dynamic", "camera-still"), license="Apache-2.0",
        credit="OpenCV samples", fps=10.0, size=(192, 256), pieces=((0, 2),),
    ),
    RealVideo(
        name="box", archive=_OPENCV, member=f"{_HTML}/box.mp4.gz",
        caption="A hand turns a yellow box above a table. The camera stays still.",
        tags=("indoor", "close", "dynamic", "camera-still"), license="Apache-2.0",
        credit="OpenCV tutorials", fps=29.97, size=(192, 256), pieces=((300, 4),),
    ),
    RealVideo(
        name="cup", archive=_OPENCV, member=f"{_HTML}/cup.mp4.gz",
        caption="A hand turns a black cup before a white wall. The camera stays still.",
        tags=("indoor", "close", "dynamic", "camera-still"), license="Apache-2.0",
        credit="OpenCV tutorials", fps=26.777, size=(192, 256), pieces=((100, 4),),
    ),
)  # fmt: skip


def iter_real_clips(downloads: str | os.PathLike[str]) -> Iterator[Clip]:
    """All real clips, 17 frames each; archives that are not in `downloads` yet are downloaded there and checked.

    Raises:
        OSError: no network.
        ValueError: an archive has another digest, a member is missing, a video is too short.
    """
    contents = {archive: _contents(Path(downloads), archive) for archive in ARCHIVES}
    for video in REAL_VIDEOS:
        for start, stride in video.pieces:
            clip = Clip(
                name=f"{video.name}-{start:04d}x{stride}",
                rgb=_frames(contents[video.archive], video, start, stride),
                fps=video.fps / stride,
                caption=video.caption,
                subset="real",
                tags=video.tags,
                source=f"{video.source}, frames {start}..{start + (NUM_FRAMES - 1) * stride} by {stride}",
                license=video.license,
            )
            yield clip.resized(*video.size)


def _contents(downloads: Path, archive: str) -> dict[str, bytes]:
    """Member -> contents, of what `REAL_VIDEOS` takes from one archive."""
    url, sha256 = ARCHIVES[archive]
    path = downloads / archive
    if not path.is_file():
        with urllib.request.urlopen(url, timeout=60) as response, atomic_path(path) as temporary:
            temporary.write_bytes(response.read())
    packed = path.read_bytes()
    digest = hashlib.sha256(packed).hexdigest()
    if digest != sha256:
        raise ValueError(f"{path}: expected sha256 {sha256}, got {digest}")
    wanted = tuple(video.member for video in REAL_VIDEOS if video.archive == archive)
    contents = {}
    # As a stream, read once: going back in a compressed archive starts again at its beginning.
    stream = io.BytesIO(_data_of_deb(packed) if archive.endswith(".deb") else packed)
    with tarfile.open(fileobj=stream, mode="r|*") as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            file = tar.extractfile(member) if name.startswith(wanted) and member.isfile() else None
            if file is not None:
                contents[name] = file.read()
    return contents


def _data_of_deb(content: bytes) -> bytes:
    """The `data.tar.*` of a Debian package, which is an `ar` archive: 60 bytes of header before every member."""
    at = 8
    while at < len(content):
        name, size = content[at : at + 16].decode().strip(), int(content[at + 48 : at + 58])
        if name.startswith("data.tar"):
            return content[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    raise ValueError("expected a Debian package, found no data.tar in it")


def _frames(contents: dict[str, bytes], video: RealVideo, start: int, stride: int) -> np.ndarray:
    members = sorted(name for name in contents if name.startswith(video.member))
    if not members:
        raise ValueError(f"{video.archive}: expected {video.member}, found no such file")
    if len(members) == 1:
        packed = contents[members[0]]
        stream = io.BytesIO(gzip.decompress(packed) if members[0].endswith(".gz") else packed)
        return read_video(stream, start=start, stride=stride, num_frames=NUM_FRAMES, name=video.member)[0]
    from PIL import Image

    wanted = members[start : start + (NUM_FRAMES - 1) * stride + 1 : stride]
    return np.stack([np.asarray(Image.open(io.BytesIO(contents[name])).convert("RGB")) for name in wanted])
