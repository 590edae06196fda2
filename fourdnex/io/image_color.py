"""Color metadata of image files, and conversion of images to sRGB."""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from fourdnex.io.color import BT709, SRGB, UNSPECIFIED, CodedColor
from fourdnex.io.icc import image_to_srgb, read_matrix_profile

_LOG = logging.getLogger(__name__)
_HEADER_BYTES = 1 << 16  # start of AVIF and HEIF files that contains the color metadata
_DEFAULT_GAMMA = 1 / 2.2
_TOLERANCE = 0.005  # chromaticities within it, and a gamma within 10 times of it (relative), count as those of sRGB


@dataclass(frozen=True)
class ImageColor:
    """Conversion of an image to sRGB: by its ICC profile if it has one, else by its coded color space."""

    name: str
    """Of the image, in log messages."""
    profile: bytes | None = None
    """ICC profile."""
    coded: CodedColor = field(default_factory=CodedColor)

    def to_srgb(self, image: Image.Image) -> Image.Image:
        """Convert a loaded 8-bit image to RGB, or RGBA if it has transparency."""
        alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
        if image.mode not in ("1", "L", "CMYK", "LAB"):
            image = image.convert("L" if image.mode == "LA" else "RGB")
        converted = self._by_profile(image) or image.convert("RGB")
        if not self.coded.is_srgb:
            converted = Image.fromarray(self.coded.to_srgb(np.asarray(converted, np.float32) / 255))
        if alpha is not None:
            converted.putalpha(alpha)
        return converted

    def to_srgb_from_16_bits(self, values: np.ndarray) -> np.ndarray:
        """Convert [H, W, 3] uint16 (gray repeated three times) to sRGB [H, W, 3] uint8."""
        if not self.coded.is_srgb:
            return self.coded.to_srgb(values.astype(np.float32) / 65535)
        try:
            matrix = None if self.profile is None else read_matrix_profile(self.profile)
        except ValueError as error:
            self._warn(error)
            return _to_8_bits(values)
        if matrix is not None:
            return matrix.to_srgb(values)
        image = Image.fromarray(_to_8_bits(values))
        return np.asarray(self._by_profile(image) or image)

    def _by_profile(self, image: Image.Image) -> Image.Image | None:
        """The image converted by its profile; None without a usable profile."""
        if self.profile is None:
            return None
        try:
            return image_to_srgb(image, self.profile)
        except ValueError as error:
            self._warn(error)
            return None

    def _warn(self, error: ValueError) -> None:
        """Log that the profile is ignored."""
        _LOG.warning("%s: ignoring the color profile, colors are taken as sRGB (%s)", self.name, error)


def image_color(image: Image.Image, *, name: str) -> ImageColor:
    """Color metadata of an image; an image from a file must not be loaded yet.

    Precedence: PNG's cICP, then the ICC profile, then the `nclx` codes of AVIF and HEIF, then PNG's gAMA and cHRM.
    """
    profile = image.info.get("icc_profile") or None
    coded = _coded_color(image)
    if coded is not None and (profile is None or image.format == "PNG"):
        try:
            return ImageColor(name, None, CodedColor(*coded))
        except ValueError as error:
            _LOG.warning("%s: unsupported color space, colors are taken as sRGB (%s)", name, error)
    return ImageColor(name, profile, CodedColor() if profile is not None else _png_gamma_color(image.info))


def _coded_color(image: Image.Image) -> tuple[int, int] | None:
    """Codes of primaries and transfer that Pillow does not expose: PNG's cICP, `nclx` of AVIF and HEIF."""
    file: Any = getattr(image, "fp", None)
    if file is None or image.format not in ("PNG", "AVIF", "HEIF"):
        return None
    position = file.tell()
    try:
        if image.format == "PNG":
            return _cicp(file)
        file.seek(0)
        _, found, after = file.read(_HEADER_BYTES).partition(b"colrnclx")
        return struct.unpack_from(">HH", after) if found and len(after) >= 4 else None
    finally:
        file.seek(position)


def _cicp(file: Any) -> tuple[int, int] | None:
    """Primaries and transfer of a PNG file's cICP chunk; None without one."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind == b"cICP":
            return struct.unpack("BB", file.read(2))
        if kind == b"IDAT":
            break
        file.seek(size + 4, 1)
    return None


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Scale uint16 to uint8."""
    return np.round(values / 257).astype(np.uint8)


def _png_gamma_color(info: dict[Any, Any]) -> CodedColor:
    """Color space of PNG's gAMA and cHRM chunks; sRGB if the file also has an sRGB chunk."""
    if "srgb" in info:
        return CodedColor()
    gamma, chromaticity = info.get("gamma") or _DEFAULT_GAMMA, info.get("chromaticity")
    power = None if abs(gamma / _DEFAULT_GAMMA - 1) < 10 * _TOLERANCE else 1 / gamma
    primaries: Any = BT709
    if chromaticity is not None:
        pairs = tuple(zip(chromaticity[0::2], chromaticity[1::2], strict=True))
        srgb = ((0.3127, 0.3290), (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
        if min(y for _, y in pairs) > 0 and np.abs(np.subtract(pairs, srgb)).max() > _TOLERANCE:
            primaries = pairs
    return CodedColor(primaries, SRGB if power is None else UNSPECIFIED, power)
