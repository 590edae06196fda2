"""The files of a collection: images, and captions of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from fourdnex.io.images import FORMATS
from fourdnex.io.walk import walk

CAPTION_TABLES = ("captions.csv", "captions.jsonl")
"""Names of caption tables in the folder of a collection."""
_IGNORED = (
    "",
    "README",
    "LICENSE",
    "LICENSES",
    "LICENCE",
    "LICENCES",
)  # up to the first dot; "": hidden files


def list_images(folder: str | os.PathLike[str], *, recursive: bool = False, without: Path | None = None) -> list[Path]:
    """The files of a collection, sorted by path.

    Hidden files and files named README or LICENSE are left out, and so are captions: a table (`CAPTION_TABLES`), and
    `NAME.txt` beside `NAME.jpg`. All other files are listed, whatever their suffix: whether a file is an image is
    found out when it is read, so that a broken file or link is reported as failed instead of being ignored.

    Args:
        folder: of the collection.
        recursive: include subfolders, following links to folders.
        without: a subfolder to leave out.

    Raises:
        FileNotFoundError: `folder` is not a folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of images")
    return _split_captions(root, walk(root, recursive=recursive, include=_is_listed, exclude=without))[0]


def list_captions(folder: str | os.PathLike[str]) -> list[Path]:
    """The files that caption the images of a folder, without subfolders, sorted by path."""
    root = Path(folder)
    return _split_captions(root, walk(root, recursive=False, include=_is_listed))[1]


def count_below(folder: str | os.PathLike[str], *, without: Path | None = None) -> int:
    """The number of files with an image suffix in the subfolders of a collection, which `recursive` would include."""
    Image.init()
    suffixes = {suffix for suffix, kind in Image.EXTENSION.items() if kind in FORMATS} | {".heic", ".heif"}
    below = (path for path in list_images(folder, recursive=True, without=without) if path.parent != Path(folder))
    return sum(path.suffix.lower() in suffixes for path in below)


def _is_listed(name: str) -> bool:
    """Whether a file is listed, by its name."""
    return name.split(".")[0].upper() not in _IGNORED


def _split_captions(root: Path, paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Possible images, and captions of them: tables in `root`, and text files beside images."""
    tables = {root / name for name in CAPTION_TABLES}
    files = list(paths)
    stems = {path.with_suffix("") for path in files if path.suffix != ".txt" and path not in tables}
    captions = {path for path in files if path in tables or (path.suffix == ".txt" and path.with_suffix("") in stems)}
    return [path for path in files if path not in captions], [path for path in files if path in captions]
