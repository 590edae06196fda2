"""Reading images of any common format as the model expects them: 8-bit sRGB, upright, of one size."""

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from fourdnex.io.image_color import ImageColor, image_color
from fourdnex.io.resizing import resize_and_crop

# Formats that need an external program (PostScript), or that hold no image, are excluded on purpose.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")
RAW_SUFFIXES = ".3fr .arw .cr2 .cr3 .dng .erf .kdc .mrw .nef .nrw .orf .pef .raf .rw2 .sr2 .srf .srw .x3f".split()
"""Raw camera files; Pillow would open some of them as TIFF and return a thumbnail."""
MIN_SIDE = 16
"""Smallest height and width in pixels."""
MAX_DECODED_PIXELS = 178_956_970
"""Max number of decoded pixels (0.5 GB of RGB); also Pillow's limit for decompression bombs."""
MAX_PIXELS = 2_000_000_000
"""Max number of pixels in the file: JPEG can be decoded at 1/2, 1/4 or 1/8 of its size."""

_RAW_MESSAGE = "raw camera files are not supported; convert it to JPEG, PNG or TIFF first"
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_DNG_VERSION = 0xC612
_ORIENTATION = 0x0112
_ORIENTATION_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_AVERAGEABLE_MODES = ("L", "RGB", "CMYK")  # modes whose pixel values can be averaged


def read_image(
    path: str | os.PathLike[str], *, height: int, width: int, ratio: tuple[float, float] | None = None
) -> np.ndarray:
    """Read the center crop of an image as [height, width, 3] uint8 RGB.

    The image is rotated by its EXIF orientation and converted to sRGB by its color profile (see `image_color`). Gray,
    CMYK and palette images become RGB, transparency is composited over white, 16 bits are reduced to 8, and the first
    frame of an animation is used. Large JPEGs are decoded at a fraction of their size. HEIC requires the package
    pillow-heif.

    Args:
        path: image file.
        height, width: size of the result in pixels.
        ratio: (height, width) of the crop in any unit, see `fourdnex.io.resizing.center_crop`. Default: that of the
            size. Where it differs, the scales of x and y differ.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not an image, is damaged, smaller than 16x16, or too large to decode; the message names
            the file.
    """
    if height < 1 or width < 1:
        raise ValueError(f"height and width: expected at least 1, got {height} and {width}")
    path = Path(path)
    with _opened(path, max(height, width)) as image:
        return _crop_upright(path, image, height, width, ratio)


def read_thumbnail(path: str | os.PathLike[str], side: int) -> Image.Image:
    """Read the whole image as RGB, at most `side` x `side` pixels; same conversions and errors as `read_image`."""
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
    """Convert an open image, or an array [H, W, 3] uint8, to [height, width, 3] uint8 as `read_image` does.

    Raises:
        ValueError: the image has a wrong shape or type, is damaged, or is smaller than 16x16; the message starts with
            `name`.
    """
    if isinstance(image, np.ndarray):
        _check_array(name, image)
        image = Image.fromarray(image)
    _check_size(name, image)
    return _crop_upright(name, image, height, width, ratio)


def upright_size(image: str | os.PathLike[str] | Image.Image | np.ndarray, *, name: str = "image") -> tuple[int, int]:
    """Height and width of an image after rotation by its EXIF orientation, without decoding it.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not an image, or it is smaller than 16x16; the message starts with its path or `name`.
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
        # Pillow's TIFF reader reports the size after rotation.
        is_rotated = image.format != "TIFF" and image.getexif().get(_ORIENTATION, 1) >= 5
    except Exception as error:  # decoders raise any exception on damaged data
        raise ValueError(f"{name}: the image is truncated or damaged ({error})") from error
    return image.size if is_rotated else (image.height, image.width)


@contextmanager
def _opened(path: Path, side: int) -> Iterator[Image.Image]:
    """Open an image without decoding it; JPEGs will be decoded at the smallest scale with at least 2 `side` pixels."""
    _check_regular(path)
    with open(path, "rb") as file, _open(path, file) as image:
        _check_size(path, image)
        if image.format == "JPEG":
            # libjpeg decodes at 1/1, 1/2, 1/4 or 1/8, never below the requested size.
            image.draft(None, (2 * side, 2 * side))
        pixels = image.width * image.height
        if pixels > MAX_DECODED_PIXELS:
            raise ValueError(
                f"{path}: expected at most {MAX_DECODED_PIXELS:,} pixels, got {image.width} x {image.height}; "
                "save it smaller, or as JPEG"
            )
        yield image


def _open(path: Path, file: BinaryIO) -> Image.Image:
    """Open an image by its content; raises ValueError for other formats than `FORMATS` and HEIC."""
    start = file.read(64)
    if not start:
        raise ValueError(f"{path}: the file is empty")
    file.seek(0)
    formats: tuple[str, ...] = FORMATS
    if start[4:8] == b"ftyp" and _HEIC_BRANDS & {start[at : at + 4] for at in range(8, len(start), 4)}:
        _register_heif(path)
        formats += ("HEIF",)
    try:
        if start.startswith(_JPEG_SIGNATURE):
            # Not by Image.open, which refuses large files before the decoded size is known.
            return JpegImagePlugin.JpegImageFile(file, str(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked by the caller instead
            image = Image.open(file, formats=formats)
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{path}: expected at most {MAX_DECODED_PIXELS:,} pixels, got more; save it smaller, or as JPEG"
        ) from error
    except UnidentifiedImageError as error:
        expected = f"not an image; expected one of {', '.join(FORMATS)}, HEIC"
        raise ValueError(f"{path}: {_RAW_MESSAGE if path.suffix.lower() in RAW_SUFFIXES else expected}") from error
    except Exception as error:  # decoders raise any exception on damaged data
        raise ValueError(f"{path}: the image is truncated or damaged ({error})") from error
    if path.suffix.lower() in RAW_SUFFIXES or _DNG_VERSION in getattr(image, "tag_v2", ()):
        raise ValueError(f"{path}: {_RAW_MESSAGE}")
    return image


def _register_heif(path: Path) -> None:
    """Let Pillow open HEIC; raises ValueError if pillow-heif is not installed."""
    try:
        import pillow_heif
    except ImportError as error:
        hint = "pip install 'fourdnex[heif]', or save the image as JPEG"
        raise ValueError(f"{path}: HEIC needs the package pillow-heif: {hint}") from error
    pillow_heif.register_heif_opener(thumbnails=False)


def _crop_upright(
    path: Path | str, image: Image.Image, height: int, width: int, ratio: tuple[float, float] | None
) -> np.ndarray:
    """The center crop of an image, upright and in sRGB."""
    return resize_and_crop(_upright(path, image, max(height, width)), height, width, ratio=ratio)


def _upright(path: Path | str, image: Image.Image, side: int) -> Image.Image:
    """The image in sRGB, rotated by its EXIF orientation, reduced to about 4 `side` pixels."""
    try:
        color, values = image_color(image, name=str(path)), _decode_16_bit_color(image)
        image.load()
        # After loading: readers that rotate the image themselves remove the orientation.
        transpose = _ORIENTATION_TRANSPOSES.get(image.getexif().get(_ORIENTATION, 1))
    except Exception as error:  # decoders raise any exception on damaged data
        raise ValueError(f"{path}: the image is truncated or damaged ({error})") from error
    if image.mode.startswith("I") or image.mode == "F":
        values = _gray_to_16_bits(path, np.asarray(image))
    if values is not None and values.shape[:2] == (image.height, image.width):
        image, color = _convert_16_bits(values, color, 4 * side), ImageColor(str(path))
    small = _reduce(image, 4 * side)
    return _composite_over_white(color.to_srgb(small if transpose is None else small.transpose(transpose)))


def _check_regular(path: Path) -> None:
    """Raise ValueError unless the path is a regular file: reading a pipe could block forever."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        found = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise ValueError(f"{path}: expected a regular file, got {found}")


def _check_array(name: str, image: np.ndarray) -> None:
    """Raise ValueError unless the array is [H, W, 3] uint8."""
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ValueError(f"{name}: expected [H, W, 3] uint8, got {image.shape} {image.dtype}")


def _check_size(path: Path | str, image: Image.Image) -> None:
    """Raise ValueError if the image is too small, or has too many pixels for any decoder."""
    if min(image.size) < MIN_SIDE:
        expected = f"{MIN_SIDE} x {MIN_SIDE} pixels"
        raise ValueError(f"{path}: expected at least {expected}, got {image.width} x {image.height}")
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{path}: expected at most {MAX_PIXELS:,} pixels, got {image.width} x {image.height}")


def _reduce(image: Image.Image, side: int) -> Image.Image:
    """Average blocks of pixels, keeping at least `side` on the smaller side, to save memory in later steps."""
    factor = min(image.size) // side
    if factor < 2 or image.mode not in _AVERAGEABLE_MODES or image.has_transparency_data:
        return image
    return image.reduce(factor)


def _decode_16_bit_color(image: Image.Image) -> np.ndarray | None:
    """Decode 16-bit color as [H, W, 3 or 4] uint16, which Pillow would reduce to 8 bits; None for other images."""
    file = getattr(image, "fp", None)
    stored = str([tile.args for tile in getattr(image, "tile", ())])
    if file is None or not ("RGB;16" in stored or "RGBA;16" in stored):
        return None
    if image.mode == "RGB" and image.has_transparency_data:  # a single transparent color, which Pillow handles
        return None
    position = file.tell()
    file.seek(0)
    values = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    file.seek(position)
    if values is None or values.dtype != np.uint16 or values.shape[2:] not in ((3,), (4,)):
        return None
    return cv2.cvtColor(values, cv2.COLOR_BGR2RGB if values.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def _gray_to_16_bits(path: Path | str, values: np.ndarray) -> np.ndarray:
    """Gray as [H, W] uint16, from 16 bits (0..65535, also when stored in 32 bits) or floating point (0..1)."""
    top = 1.0 if values.dtype.kind == "f" else 65535.0
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= top):
        raise ValueError(f"{path}: expected gray values in 0..{top:g}, got {low:g}..{high:g}")
    return np.round(values * (65535 / top)).astype(np.uint16)


def _convert_16_bits(values: np.ndarray, color: ImageColor, side: int) -> Image.Image:
    """Convert [H, W], [H, W, 3] or [H, W, 4] uint16 to 8-bit sRGB, reduced to about `side` pixels."""
    height, width = values.shape[:2]
    factor = max(1, min(height, width) // side)
    if factor > 1:
        values = cv2.resize(values, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
    rgb = values[..., :3] if values.ndim == 3 else values[..., None].repeat(3, axis=2)
    image = Image.fromarray(color.to_srgb_from_16_bits(rgb))
    if values.shape[2:] == (4,):
        image.putalpha(Image.fromarray(np.round(values[..., 3] / 257).astype(np.uint8)))
    return image


def _composite_over_white(image: Image.Image) -> Image.Image:
    """RGBA composited over white; other images unchanged."""
    if image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
