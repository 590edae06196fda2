"""Output paths of exports: checks of file names, and of folders that an export may replace."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fourdnex.io.files import atomic_dir


def file_target(path: str | os.PathLike[str], *suffixes: str) -> Path:
    """The path of a single-file export; an existing file is replaced.

    Raises:
        ValueError: `path` ends in none of `suffixes`.
        IsADirectoryError: `path` is a folder.
    """
    target = Path(path)
    if target.suffix.lower() not in suffixes:
        raise ValueError(f"output: expected a file name ending in {' or '.join(suffixes)}, got {path}")
    if target.is_dir():
        raise IsADirectoryError(f"{path}: expected a file or a new path, got a folder")
    return target


@contextmanager
def folder_target(path: str | os.PathLike[str], owned: Sequence[str]) -> Iterator[Path]:
    """Yield an empty temporary folder that replaces `path` when the block ends without an error.

    An existing folder is replaced as a whole if it holds only files of an earlier export of this format. Otherwise it
    is left unchanged and an error is raised.

    Args:
        owned: regular expressions of the format's files, relative to the folder, with "/" as separator.

    Raises:
        FileExistsError: `path` is a file, or a folder that holds other files; the message names one of them.
        ValueError: `path` is the working directory or one of its parents, or ends in the suffix of a file format.
    """
    target = Path(path).resolve()
    if target.suffix.lower() in (".ply", ".glb", ".rrd", ".usd", ".usdc", ".npz", ".json") and not target.is_dir():
        raise ValueError(f"output: expected a folder for this format, got the file name {path}")
    if Path.cwd().is_relative_to(target):
        raise ValueError(f"output: expected a new folder, got {path}, which is or contains the working directory")
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{path}: expected a folder or a new path, got a file")
    foreign = next(_foreign(target, owned), None)
    if foreign is not None:
        raise FileExistsError(
            f"{path}: expected a new folder or an earlier export of this format, but it holds {foreign}"
        )
    with atomic_dir(target) as folder:
        yield folder


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an image, [H, W, 3] uint8 (RGB) or [H, W] uint16, as PNG.

    Raises:
        OSError: the file cannot be written.
    """
    import cv2

    # cv2 encodes faster than Pillow; cv2.imwrite does not report a full disk.
    channels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    success, data = cv2.imencode(".png", channels, [cv2.IMWRITE_PNG_COMPRESSION, 2])
    if not success:
        raise ValueError(f"{path.name}: an image of {image.shape} {image.dtype} cannot be encoded as PNG")
    path.write_bytes(data.tobytes())


def frame_name(t: int, suffix: str) -> str:
    """File name of a frame: frame_0000.ply, frame_0001.ply, ..."""
    return f"frame_{t:04d}{suffix}"


def _foreign(root: Path, owned: Sequence[str]) -> Iterator[str]:
    """Relative paths of files, links and empty folders below `root` that match none of the patterns."""
    pattern_of_owned = re.compile("|".join(f"(?:{pattern})" for pattern in owned))
    for folder, folders, files in os.walk(root):
        parent = Path(folder).relative_to(root)
        for name in files:
            relative = (parent / name).as_posix()
            if not pattern_of_owned.fullmatch(relative):
                yield relative
        if not files and not folders and parent != Path():
            yield f"{parent.as_posix()}/"  # exports write no empty folders
        for name in folders:
            if (Path(folder) / name).is_symlink():
                yield (parent / name).as_posix()
