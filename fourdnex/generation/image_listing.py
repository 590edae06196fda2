"""Which files of a collection's folder are images, and which caption them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from fourdnex.io.images import FORMATS
from fourdnex.io.walk import walk

CAPTION_TABLES = ("captions.csv", "captions.jsonl")
"""Files in a collection's folder that caption its images."""
_NO_IMAGES = ("", "README", "LICENSE", "LICENSES", "LICENCE", "LICENCES")  # up to the first dot; "": hidden


def list_images(folder: str | os.PathLike[str], *, recursive: bool = False, without: Path | None = None) -> list[Path]:
    """The files of a collection in the order of their paths: all but hidden ones and those called README or LICENSE.

    Captions are no images: a table of them in the folder (`CAPTION_TABLES`), and `NAME.txt` beside `NAME.jpg`.
    Whether a file is an image shows when it is read: one that is none, or a broken link, should be set aside with its
    reason, not passed over in silence.

    Args:
        recursive: those in folders within it too, links to folders followed.
        without: a folder within it that is left out.

    Raises:
        FileNotFoundError: `folder` is no folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of images")
    return _parted(root, walk(root, recursive=recursive, keep=_is_kept, without=without))[0]


def list_captions(folder: str | os.PathLike[str]) -> list[Path]:
    """The files that caption the images right in a folder, in the order of their paths."""
    root = Path(folder)
    return _parted(root, walk(root, recursive=False, keep=_is_kept))[1]


def count_below(folder: str | os.PathLike[str], *, without: Path | None = None) -> int:
    """How many files with the suffix of an image lie in the folders within a collection, which are no part of it."""
    Image.init()
    suffixes = {suffix for suffix, kind in Image.EXTENSION.items() if kind in FORMATS} | {".heic", ".heif"}
    below = (path for path in list_images(folder, recursive=True, without=without) if path.parent != Path(folder))
    return sum(path.suffix.lower() in suffixes for path in below)


def _is_kept(name: str) -> bool:
    return name.split(".")[0].upper() not in _NO_IMAGES


def _parted(root: Path, paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """What may be images, and their captions: the tables in `root`, and text files beside images."""
    tables = {root / name for name in CAPTION_TABLES}
    files = list(paths)
    stems = {path.with_suffix("") for path in files if path.suffix != ".txt" and path not in tables}
    captions = {path for path in files if path in tables or (path.suffix == ".txt" and path.with_suffix("") in stems)}
    return [path for path in files if path not in captions], [path for path in files if path in captions]
