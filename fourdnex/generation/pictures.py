"""Pictures as people have them, read into the one form that the model takes: RGB, 8 bit, upright, of one size."""

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, JpegImagePlugin

# Formats that need another program to read (PostScript), or that hold no picture, are left out on purpose.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")
MIN_SIDE = 16
"""A picture smaller than this on a side shows nothing that could be generated from."""
MAX_DECODED_PIXELS = 178_956_970
"""The most pixels that are decoded (0.5 GB of RGB): the bound at which Pillow, too, suspects a bomb."""
MAX_PIXELS = 2_000_000_000
"""JPEG is decoded at 1/2, 1/4 or 1/8 of its size, so that it may have more pixels than are decoded."""

_NO_PICTURES = ("", "README", "LICENCE", "LICENCES", "LICENSE", "LICENSES")  # up to the first dot; "": hidden
_JPEG_START = b"\xff\xd8\xff"
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DIRECT_MODES = ("L", "RGB", "CMYK")  # modes whose pixels can be averaged as they are


def read_picture(path: str | os.PathLike[str], *, height: int, width: int) -> np.ndarray:
    """Read a picture as [height, width, 3] uint8 RGB: scaled to cover that size, the rest cut off evenly.

    Turned upright by its EXIF orientation; grey, CMYK and palettes become RGB; what is transparent lies over white;
    16 bits are scaled to 8; of an animation the first frame is taken. Huge JPEGs are decoded at a fraction of their
    size.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a picture, cut or damaged, smaller than 16 x 16, or too large to decode; the message names
            the file.
    """
    if height < 1 or width < 1:
        raise ValueError(f"height and width: expected at least 1, got {height} and {width}")
    path = Path(path)
    with _opened(path, max(height, width)) as image:
        return _fitted(path, image, height, width)


def read_thumbnail(path: str | os.PathLike[str], side: int) -> Image.Image:
    """The whole picture as RGB, no larger than `side` x `side` pixels; read, and refused, as `read_picture` does."""
    path = Path(path)
    with _opened(path, side) as image:
        small = _upright(path, image, side)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def fit_picture(image: Image.Image | np.ndarray, *, height: int, width: int, name: str = "picture") -> np.ndarray:
    """A picture that is open already, or an array [H, W, 3] uint8, made [height, width, 3] as `read_picture` does.

    Raises:
        ValueError: wrong shape or type, damaged, or smaller than 16 x 16; the message starts with `name`.
    """
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
            raise ValueError(f"{name}: expected [H, W, 3] uint8, got {image.shape} {image.dtype}")
        image = Image.fromarray(image)
    _check_size(name, image)
    return _fitted(name, image, height, width)


def upright_size(picture: str | os.PathLike[str] | Image.Image | np.ndarray) -> tuple[int, int]:
    """Height and width of a whole picture that can be read, turned upright by its EXIF orientation."""
    if isinstance(picture, np.ndarray):
        return picture.shape[0], picture.shape[1]
    if not isinstance(picture, Image.Image):
        with open(picture, "rb") as file, _open(Path(picture), file) as image:
            return upright_size(image)
    # The reader of TIFF tells the upright size before it has turned the pixels.
    on_its_side = picture.format != "TIFF" and picture.getexif().get(_ORIENTATION, 1) >= 5
    return picture.size if on_its_side else (picture.height, picture.width)


def list_pictures(folder: str | os.PathLike[str]) -> list[Path]:
    """The files of a collection in the order of their names: all but hidden ones and those called README or LICENCE.

    Whether a file is a picture shows when it is read: one that is none should be set aside with its reason, not passed
    over in silence.

    Raises:
        FileNotFoundError: `folder` is no folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of pictures")
    files = (path for path in root.iterdir() if path.name.split(".")[0].upper() not in _NO_PICTURES)
    return sorted(path for path in files if path.is_file())


@contextmanager
def _opened(path: Path, side: int) -> Iterator[Image.Image]:
    """The picture, not decoded yet; a JPEG at a fraction of its size, with at least twice `side` pixels a side."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):  # a pipe would wait for ever
        raise ValueError(f"{path}: expected a file, got {'a folder' if stat.S_ISDIR(mode) else 'something else'}")
    with open(path, "rb") as file, _open(path, file) as image:
        _check_size(path, image)
        if image.format == "JPEG":
            # Libjpeg decodes to 1/1, 1/2, 1/4 or 1/8, never below the size asked for here.
            image.draft(None, (2 * side, 2 * side))
        pixels = image.width * image.height
        if pixels > MAX_DECODED_PIXELS:
            raise ValueError(
                f"{path}: {image.width} x {image.height} pixels are too many to decode; "
                f"expected at most {MAX_DECODED_PIXELS:,} (save it smaller, or as JPEG)"
            )
        yield image


def _open(path: Path, file: BinaryIO) -> Image.Image:
    start = file.read(16)
    if not start:
        raise ValueError(f"{path}: the file is empty")
    file.seek(0)
    try:
        if start.startswith(_JPEG_START):
            # Past Image.open, which refuses by the full size, before it is known at what size we decode.
            return JpegImagePlugin.JpegImageFile(file, str(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked here instead
            return Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{path}: too many pixels to decode; expected at most {MAX_DECODED_PIXELS:,} (save it smaller, or as JPEG)"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"{path}: not a picture; expected one of {', '.join(FORMATS)}") from error
    except Exception as error:  # decoders raise whatever they like on damaged data
        raise ValueError(f"{path}: the picture is cut or damaged ({error})") from error


def _fitted(path: Path | str, image: Image.Image, height: int, width: int) -> np.ndarray:
    return np.asarray(_cover(_upright(path, image, max(height, width)), height, width))


def _upright(path: Path | str, image: Image.Image, side: int) -> Image.Image:
    """The picture as RGB, turned by its EXIF orientation; its smaller side may have shrunk to 4 `side` or more."""
    try:
        image.load()
        # After loading: a reader that turns the picture itself takes the orientation away.
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
        small = _shrunk(image, 4 * side)
        upright = small if turn is None else small.transpose(turn)
    except Exception as error:  # decoders raise whatever they like on damaged data
        raise ValueError(f"{path}: the picture is cut or damaged ({error})") from error
    return _to_rgb(path, upright)


def _check_size(path: Path | str, image: Image.Image) -> None:
    if min(image.size) < MIN_SIDE:
        expected = f"{MIN_SIDE} x {MIN_SIDE} pixels"
        raise ValueError(f"{path}: expected at least {expected}, got {image.width} x {image.height}")
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{path}: expected at most {MAX_PIXELS:,} pixels, got {image.width} x {image.height}")


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    """Average blocks of pixels while the smaller side stays above `side`: later steps then cost little memory."""
    factor = min(image.size) // side
    if factor < 2 or image.mode not in _DIRECT_MODES or image.has_transparency_data:
        return image
    return image.reduce(factor)


def _to_rgb(path: Path | str, image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep(path, np.asarray(image)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(paper, layer).convert("RGB")
    return image.convert("RGB")


def _from_deep(path: Path | str, values: np.ndarray) -> Image.Image:
    """Grey of 16 bits (0..65535, also when stored in 32), or floating point (0..1), as 8 bits."""
    top = 1.0 if values.dtype.kind == "f" else 65535.0
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= top):
        raise ValueError(f"{path}: expected grey values in 0..{top:g}, got {low:g}..{high:g}")
    return Image.fromarray(np.round(values.astype(np.float64) * (255 / top)).astype(np.uint8))


def _cover(image: Image.Image, height: int, width: int) -> Image.Image:
    scale = max(height / image.height, width / image.width)
    left, top = max((image.width - width / scale) / 2, 0.0), max((image.height - height / scale) / 2, 0.0)
    box = (left, top, image.width - left, image.height - top)
    return image.resize((width, height), Image.Resampling.BICUBIC, box=box)
