"""Images as people have them, read into the one form that the model takes: RGB, 8 bit, upright, of one size."""

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin

from fourdnex.io.image_color import ImageColor, image_color
from fourdnex.io.resizing import resize_and_crop

# Formats that need another program to read (PostScript), or that hold no image, are left out on purpose.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")
RAW_SUFFIXES = ".3fr .arw .cr2 .cr3 .dng .erf .kdc .mrw .nef .nrw .orf .pef .raf .rw2 .sr2 .srf .srw .x3f".split()
"""Raw files of cameras: some would open as TIFF, with a thumbnail in place of the image."""
MIN_SIDE = 16
"""An image smaller than this on a side shows nothing that could be generated from."""
MAX_DECODED_PIXELS = 178_956_970
"""The most pixels that are decoded (0.5 GB of RGB): the bound at which Pillow, too, suspects a bomb."""
MAX_PIXELS = 2_000_000_000
"""JPEG is decoded at 1/2, 1/4 or 1/8 of its size, so that it may have more pixels than are decoded."""

_RAW = "raw camera files are not supported; develop it to JPEG, PNG or TIFF first"
_JPEG_START = b"\xff\xd8\xff"
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_DNG_VERSION = 0xC612
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


def read_image(
    path: str | os.PathLike[str], *, height: int, width: int, ratio: tuple[float, float] | None = None
) -> np.ndarray:
    """Read an image as [height, width, 3] uint8 RGB: its middle of the ratio `ratio`, the rest cut off evenly.

    `ratio` is (height, width), in any unit, and need not be that of the size: the scales of x and y then differ.
    None is the size itself: scaled to cover it.

    Turned upright by its EXIF orientation, and converted to sRGB by its color profile (see `image_color`); gray, CMYK
    and palettes become RGB; what is transparent lies over white; 16 bits are scaled to 8; of an animation the first
    frame is taken. Huge JPEGs are decoded at a fraction of their size. HEIC needs the package pillow-heif.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not an image, cut or damaged, smaller than 16 x 16, or too large to decode; the message names
            the file.
    """
    if height < 1 or width < 1:
        raise ValueError(f"height and width: expected at least 1, got {height} and {width}")
    path = Path(path)
    with _opened(path, max(height, width)) as image:
        return _fitted(path, image, height, width, ratio)


def read_thumbnail(path: str | os.PathLike[str], side: int) -> Image.Image:
    """The whole image as RGB, no larger than `side` x `side` pixels; read, and refused, as `read_image` does."""
    path = Path(path)
    with _opened(path, side) as image:
        small = _upright(path, image, side)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def fit_image(
    image: Image.Image | np.ndarray,
    *,
    height: int,
    width: int,
    ratio: tuple[float, float] | None = None,
    name: str = "image",
) -> np.ndarray:
    """An image that is open already, or an array [H, W, 3] uint8, made [height, width, 3] as `read_image` does.

    Raises:
        ValueError: wrong shape or type, damaged, or smaller than 16 x 16; the message starts with `name`.
    """
    if isinstance(image, np.ndarray):
        _check_array(name, image)
        image = Image.fromarray(image)
    _check_size(name, image)
    return _fitted(name, image, height, width, ratio)


def upright_size(image: str | os.PathLike[str] | Image.Image | np.ndarray, *, name: str = "image") -> tuple[int, int]:
    """Height and width of a whole image, turned upright by its EXIF orientation; it is not decoded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not an image, or smaller than 16 x 16; the message names the file, or starts with `name`.
    """
    if isinstance(image, np.ndarray):
        _check_array(name, image)
        _check_size(name, Image.fromarray(image[:MIN_SIDE, :MIN_SIDE]))
        return image.shape[0], image.shape[1]
    if not isinstance(image, Image.Image):
        path = Path(image)
        _check_regular(path)
        with open(path, "rb") as file, _open(path, file) as opened:
            return upright_size(opened, name=str(path))
    _check_size(name, image)
    try:
        # The reader of TIFF tells the upright size before it has turned the pixels.
        on_its_side = image.format != "TIFF" and image.getexif().get(_ORIENTATION, 1) >= 5
    except Exception as error:  # readers raise whatever they like on damaged data
        raise ValueError(f"{name}: the image is cut or damaged ({error})") from error
    return image.size if on_its_side else (image.height, image.width)


@contextmanager
def _opened(path: Path, side: int) -> Iterator[Image.Image]:
    """The image, not decoded yet; a JPEG at a fraction of its size, with at least twice `side` pixels a side."""
    _check_regular(path)
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
    start = file.read(64)
    if not start:
        raise ValueError(f"{path}: the file is empty")
    file.seek(0)
    formats: tuple[str, ...] = FORMATS
    if start[4:8] == b"ftyp" and _HEIC_BRANDS & {start[at : at + 4] for at in range(8, len(start), 4)}:
        _register_heif(path)
        formats += ("HEIF",)
    try:
        if start.startswith(_JPEG_START):
            # Past Image.open, which refuses by the full size, before it is known at what size we decode.
            return JpegImagePlugin.JpegImageFile(file, str(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked here instead
            image = Image.open(file, formats=formats)
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{path}: too many pixels to decode; expected at most {MAX_DECODED_PIXELS:,} (save it smaller, or as JPEG)"
        ) from error
    except Image.UnidentifiedImageError as error:
        expected = f"not an image; expected one of {', '.join(FORMATS)}, HEIC"
        raise ValueError(f"{path}: {_RAW if path.suffix.lower() in RAW_SUFFIXES else expected}") from error
    except Exception as error:  # decoders raise whatever they like on damaged data
        raise ValueError(f"{path}: the image is cut or damaged ({error})") from error
    if path.suffix.lower() in RAW_SUFFIXES or _DNG_VERSION in getattr(image, "tag_v2", ()):
        raise ValueError(f"{path}: {_RAW}")
    return image


def _register_heif(path: Path) -> None:
    try:
        import pillow_heif
    except ImportError as error:
        cure = "pip install 'fourdnex[heif]', or save it as JPEG"
        raise ValueError(f"{path}: HEIC needs the package pillow-heif: {cure}") from error
    pillow_heif.register_heif_opener(thumbnails=False)


def _fitted(
    path: Path | str, image: Image.Image, height: int, width: int, ratio: tuple[float, float] | None
) -> np.ndarray:
    return resize_and_crop(_upright(path, image, max(height, width)), height, width, ratio=ratio)


def _upright(path: Path | str, image: Image.Image, side: int) -> Image.Image:
    """The image in sRGB, turned by its EXIF orientation; its smaller side may have shrunk to 4 `side` or more."""
    try:
        color, deep = image_color(image, name=str(path)), _deep_color(image)
        image.load()
        # After loading: a reader that turns the image itself takes the orientation away.
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception as error:  # decoders raise whatever they like on damaged data
        raise ValueError(f"{path}: the image is cut or damaged ({error})") from error
    if image.mode.startswith("I") or image.mode == "F":
        deep = _deep_gray(path, np.asarray(image))
    if deep is not None and deep.shape[:2] == (image.height, image.width):
        image, color = _from_deep(deep, color, 4 * side), ImageColor(str(path))
    small = _shrunk(image, 4 * side)
    return _over_white(color.to_srgb(small if turn is None else small.transpose(turn)))


def _check_regular(path: Path) -> None:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):  # a pipe would wait for ever
        raise ValueError(f"{path}: expected a file, got {'a folder' if stat.S_ISDIR(mode) else 'something else'}")


def _check_array(name: str, image: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ValueError(f"{name}: expected [H, W, 3] uint8, got {image.shape} {image.dtype}")


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


def _deep_color(image: Image.Image) -> np.ndarray | None:
    """Color of 16 bits, [H, W, 3 or 4] uint16, of which Pillow would keep 8; None for all others, and once loaded."""
    file = getattr(image, "fp", None)
    stored = str([tile.args for tile in getattr(image, "tile", ())])
    if file is None or not ("RGB;16" in stored or "RGBA;16" in stored):
        return None
    if image.mode == "RGB" and image.has_transparency_data:  # one color of it, which Pillow knows
        return None
    position = file.tell()
    file.seek(0)
    values = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    file.seek(position)
    if values is None or values.dtype != np.uint16 or values.shape[2:] not in ((3,), (4,)):
        return None
    return cv2.cvtColor(values, cv2.COLOR_BGR2RGB if values.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def _deep_gray(path: Path | str, values: np.ndarray) -> np.ndarray:
    """Gray of 16 bits (0..65535, also when stored in 32), or floating point (0..1), as [H, W] uint16."""
    top = 1.0 if values.dtype.kind == "f" else 65535.0
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= top):
        raise ValueError(f"{path}: expected gray values in 0..{top:g}, got {low:g}..{high:g}")
    return np.round(values * (65535 / top)).astype(np.uint16)


def _from_deep(values: np.ndarray, color: ImageColor, side: int) -> Image.Image:
    """[H, W], [H, W, 3] or [H, W, 4] uint16 in sRGB of 8 bits; the smaller side may have shrunk to `side` or more."""
    height, width = values.shape[:2]
    factor = max(1, min(height, width) // side)
    if factor > 1:
        values = cv2.resize(values, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
    rgb = values[..., :3] if values.ndim == 3 else values[..., None].repeat(3, axis=2)
    image = Image.fromarray(color.deep_to_srgb(rgb))
    if values.shape[2:] == (4,):
        image.putalpha(Image.fromarray(np.round(values[..., 3] / 257).astype(np.uint8)))
    return image


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
