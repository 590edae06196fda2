"""Numbered images of one folder as a video: `walk/frame_0001.png`, `walk/frame_0002.png`, ..."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fourdnex.io.files import sha256_file
from fourdnex.io.images import read_thumbnail, upright_size

SUFFIXES = {".avif", ".bmp", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
MIN_IMAGES = 5
"""Fewer images of one name are no sequence."""
RATE = 24.0
"""Frames per second, where none is given."""
_NUMBERED = re.compile(r"(.*?)(\d+)")


@dataclass(frozen=True)
class ImageSequence:
    """Images in the order of their numbers."""

    name: str
    """The pattern of its file names, relative to the searched folder: `walk/frame_*.png`."""
    files: tuple[Path, ...]

    @property
    def sha256(self) -> str:
        """Digest over the digests of all images."""
        return hashlib.sha256("".join(map(sha256_file, self.files)).encode()).hexdigest()

    def images(self, max_size: int) -> Iterator[np.ndarray]:
        """The images [H, W, 3] uint8, sRGB and upright, with a longer side of at most `max_size` pixels.

        Raises:
            ValueError: an image is damaged or has another size than the first; the message names it.
        """
        first: tuple[int, int] | None = None
        for file in self.files:
            size = upright_size(file)
            first = first or size
            if size != first:
                got = f"{size[1]}x{size[0]}"
                raise ValueError(f"{file.name}: expected {first[1]}x{first[0]} pixels as the first image, got {got}")
            yield np.asarray(read_thumbnail(file, max_size))


def find_sequences(root: Path, files: Sequence[str]) -> list[ImageSequence]:
    """The image sequences among files given by their paths relative to `root`.

    Images belong to one sequence if they are in one folder and their names differ in the last number alone.
    """
    groups: dict[tuple[str, str, str], list[tuple[int, str]]] = {}
    for file in files:
        path = Path(file)
        match = _NUMBERED.fullmatch(path.stem)
        if path.suffix.lower() in SUFFIXES and match:
            groups.setdefault((path.parent.as_posix(), match[1], path.suffix), []).append((int(match[2]), file))
    found = []
    for (folder, stem, suffix), numbered in groups.items():
        if len(numbered) >= MIN_IMAGES:
            name = (Path(folder) / f"{stem}*{suffix}").as_posix()
            found.append(ImageSequence(name, tuple(root / file for _, file in sorted(numbered))))
    return found
