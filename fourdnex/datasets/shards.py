"""Shards: tar files of source clips, `{name}.mkv` (RGB video) and `{name}.json` (metadata)."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fourdnex.clip import Clip
from fourdnex.datasets.manifest import DataError, list_shards, read_manifest
from fourdnex.io.files import atomic_path
from fourdnex.io.video import read_video, write_video

SHARDS = "shards"


class SourceShard:
    """Random access to the clips of one shard; a corrupt clip does not affect the others.

    Raises:
        FileNotFoundError: the data set or the shard does not exist.
        ValueError: the shard is not in the manifest.
    """

    def __init__(self, data_dir: str | os.PathLike[str], shard: str) -> None:
        """Index the shard `shard` of the data set at `data_dir`."""
        self.shard = shard
        self.path = Path(data_dir) / SHARDS / f"{shard}.tar"
        self.rows = read_manifest(data_dir, shard=shard).set_index("name", drop=False)
        if self.rows.empty:
            known = list_shards(data_dir)
            shown = ", ".join(known[:10]) + (f" and {len(known) - 10} more" if len(known) > 10 else "")
            raise ValueError(f"shard: expected one of {shown}, got {shard!r}")
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: the shard is missing: run `dvc pull`")
        self._members = _index(self.path)

    @property
    def names(self) -> list[str]:
        """Names of the shard's clips, in manifest order."""
        return list(self.rows["name"])

    def sha256(self, name: str) -> str:
        """Digest of the clip's video from the manifest."""
        return str(self.rows.loc[name, "sha256"])

    def read_member(self, member: str) -> bytes:
        """Contents of a member of the tar file.

        Raises:
            DataError: there is no such member.
        """
        if member not in self._members:
            where = f"{self.path}: {member.rpartition('.')[0]}"
            raise DataError(f"{where}: missing: the shard is truncated or modified: run `dvc checkout --force`")
        start, size = self._members[member]
        with open(self.path, "rb") as file:
            file.seek(start)
            return file.read(size)

    def read_bytes(self, name: str) -> bytes:
        """The encoded video of one clip.

        Raises:
            DataError: the clip is missing from the tar file or has another digest than in the manifest.
        """
        video = self.read_member(f"{name}.mkv")
        digest, expected = hashlib.sha256(video).hexdigest(), self.sha256(name)
        if digest != expected:
            raise DataError(
                f"{self.path}: {name}: expected sha256 {expected[:12]}..., got {digest[:12]}...: the shard is "
                "truncated or modified: run `dvc checkout --force`"
            )
        return video

    def read(self, name: str) -> Clip:
        """Read one clip, RGB only.

        Raises:
            DataError: the clip is missing from the tar file or does not match the manifest.
            VideoError: the video cannot be decoded.
        """
        row = self.rows.loc[name]
        where = f"{self.path}: {name}"
        rgb, _ = read_video(io.BytesIO(self.read_bytes(name)), name=where)
        if rgb.shape[:3] != (row["num_frames"], row["height"], row["width"]):
            expected = f"{row['num_frames']}x{row['height']}x{row['width']}"
            got = "x".join(str(size) for size in rgb.shape[:3])
            raise DataError(f"{where}: expected {expected} (frames x height x width), got {got}")
        return Clip(
            name=name,
            rgb=rgb,
            fps=float(row["fps"]),
            caption=row["caption"],
            subset=row["subset"],
            tags=row["tags"],
            source=row["source"],
            license=row["license"],
            video=row["video"],
            shot=int(row["shot"]),
            start=float(row["start"]),
            source_sha256=row["source_sha256"],
        )


def write_shard(
    data_dir: str | os.PathLike[str], shard: str, clips: Iterable[Clip], *, crf: int = 13
) -> list[dict[str, Any]]:
    """Encode clips into `shards/{shard}.tar`; returns their manifest rows in order.

    The output is deterministic: it contains no timestamps or owners. `crf` is the quality of the H.264 encoder.
    """
    rows = []
    with (
        atomic_path(Path(data_dir) / SHARDS / f"{shard}.tar") as temporary,
        tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for clip in clips:
            video = io.BytesIO()
            write_video(video, clip.rgb, fps=clip.fps, crf=crf)
            row = {
                "name": clip.name,
                "shard": shard,
                "subset": clip.subset,
                "num_frames": clip.num_frames,
                "height": clip.height,
                "width": clip.width,
                "fps": clip.fps,
                "caption": clip.caption,
                "tags": list(clip.tags),
                "source": clip.source,
                "license": clip.license,
                "sha256": hashlib.sha256(video.getvalue()).hexdigest(),
                "video": clip.video,
                "shot": clip.shot,
                "start": clip.start,
                "source_sha256": clip.source_sha256,
            }
            add_member(tar, f"{clip.name}.mkv", video.getvalue())
            add_member(tar, f"{clip.name}.json", (json.dumps(row, indent=2, ensure_ascii=False) + "\n").encode())
            rows.append(row)
    return rows


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add one member without timestamp and owner."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _index(path: Path) -> dict[str, tuple[int, int]]:
    """Member -> (offset, size). Of a truncated file, the members before the cut; `read` verifies each of them."""
    members: dict[str, tuple[int, int]] = {}
    end = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.offset_data + member.size > end:
                    break  # cut off, or a header with a wrong size: whatever follows cannot be found either
                members[member.name] = (member.offset_data, member.size)
    except tarfile.TarError as error:
        if not members:
            raise DataError(f"{path}: cannot be read as a tar file ({error}): run `dvc checkout --force`") from error
    return members
