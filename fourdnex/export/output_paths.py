"""Where exports are written: one rule for the names of files, one for what a folder may hold before."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fourdnex.io.files import atomic_dir


def file_target(path: str | os.PathLike[str], *suffixes: str) -> Path:
    """The path of one exported file; a file already there will be replaced.

    Raises:
        ValueError: another suffix than one of `suffixes`.
        IsADirectoryError: a folder is in the way.
    """
    target = Path(path)
    if target.suffix.lower() not in suffixes:
        raise ValueError(f"output: expected a name that ends in {' or '.join(suffixes)}, got {path}")
    if target.is_dir():
        raise IsADirectoryError(f"{path}: expected a file or nothing, got a folder")
    return target


@contextmanager
def folder_target(path: str | os.PathLike[str], owned: Sequence[str]) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path` when the block ends without an error.

    A folder already at `path` is replaced as a whole if it holds nothing but files of an earlier export of this format,
    and left alone with an error if it holds anything else.

    Args:
        owned: patterns (regular expressions) of the format's files, relative to the folder, with "/" between parts.

    Raises:
        FileExistsError: a file is in the way, or a folder with other things; the message names one.
        ValueError: `path` is the working folder or has it inside, or has the suffix of a file format.
    """
    target = Path(path).resolve()
    if target.suffix.lower() in (".ply", ".glb", ".rrd", ".usd", ".usdc", ".npz", ".json") and not target.is_dir():
        raise ValueError(f"output: expected a folder for this format, got the file name {path}")
    if Path.cwd().is_relative_to(target):
        raise ValueError(f"output: expected a folder of its own, got {path}, which is or holds the working folder")
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{path}: expected a folder or nothing, got a file")
    foreign = next(_foreign(target, owned), None)
    if foreign is not None:
        raise FileExistsError(
            f"{path}: expected a new folder or an earlier export of this format, but it holds {foreign}"
        )
    with atomic_dir(target) as folder:
        yield folder


def write_png(path: Path, image: np.ndarray) -> None:
    """Write one image, [H, W, 3] uint8 (RGB) or [H, W] uint16, as PNG.

    Raises:
        OSError: the file cannot be written.
    """
    import cv2

    # Not by Pillow, and not by cv2.imwrite, which says nothing when the disk is full.
    channels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    done, data = cv2.imencode(".png", channels, [cv2.IMWRITE_PNG_COMPRESSION, 2])
    if not done:
        raise ValueError(f"{path.name}: the image of {image.shape} {image.dtype} cannot be coded as PNG")
    path.write_bytes(data.tobytes())


def frame_name(t: int, suffix: str) -> str:
    """frame_0000.ply, frame_0001.ply, ..."""
    return f"frame_{t:04d}{suffix}"


def _foreign(root: Path, owned: Sequence[str]) -> Iterator[str]:
    """Files and folders below `root` that match none of the patterns, by their relative names."""
    ours = re.compile("|".join(f"(?:{pattern})" for pattern in owned))
    for folder, folders, files in os.walk(root):
        inside = Path(folder).relative_to(root)
        for name in files:
            relative = (inside / name).as_posix()
            if not ours.fullmatch(relative):
                yield relative
        if not files and not folders and inside != Path():
            yield f"{inside.as_posix()}/"  # somebody else's: ours are never empty
        for name in folders:
            if (Path(folder) / name).is_symlink():
                yield (inside / name).as_posix()
