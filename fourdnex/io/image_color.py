"""What an image's file says about its colors, and the image in sRGB."""

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
_HEADER = 1 << 16  # bytes that hold what AVIF and HEIF say about their images
_USUAL_GAMMA = 1 / 2.2
_LITTLE = 0.005  # by which chromaticities, or 5 % of a gamma, may differ from those of sRGB


@dataclass(frozen=True)
class ImageColor:
    """How the numbers of an image become sRGB: by its profile if it has one, else by a code."""

    name: str
    """Begins messages."""
    profile: bytes | None = None
    """ICC."""
    coded: CodedColor = field(default_factory=CodedColor)

    def to_srgb(self, image: Image.Image) -> Image.Image:
        """A loaded image of 8 bits as RGB, or RGBA where something is transparent."""
        alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
        if image.mode not in ("1", "L", "CMYK", "LAB"):
            image = image.convert("L" if image.mode == "LA" else "RGB")
        converted = self._by_profile(image) or image.convert("RGB")
        if not self.coded.is_srgb:
            converted = Image.fromarray(self.coded.to_srgb(np.asarray(converted, np.float32) / 255))
        if alpha is not None:
            converted.putalpha(alpha)
        return converted

    def deep_to_srgb(self, values: np.ndarray) -> np.ndarray:
        """[H, W, 3] uint16, of a gray image three times the same, to sRGB [H, W, 3] uint8."""
        if not self.coded.is_srgb:
            return self.coded.to_srgb(values.astype(np.float32) / 65535)
        try:
            matrix = None if self.profile is None else read_matrix_profile(self.profile)
        except ValueError as error:
            self._report(error)
            return _to_8_bits(values)
        if matrix is not None:
            return matrix.to_srgb(values)
        image = Image.fromarray(_to_8_bits(values))
        return np.asarray(self._by_profile(image) or image)

    def _by_profile(self, image: Image.Image) -> Image.Image | None:
        if self.profile is None:
            return None
        try:
            return image_to_srgb(image, self.profile)
        except ValueError as error:
            self._report(error)
            return None

    def _report(self, error: ValueError) -> None:
        _LOG.warning("%s: the color profile is left out, colors are taken as sRGB (%s)", self.name, error)


def image_color(image: Image.Image, *, name: str) -> ImageColor:
    """What an image says about its colors; if it comes from a file, it must not be loaded yet.

    PNG's cICP goes before a profile; a profile before gAMA and cHRM, and before the codes of AVIF and HEIF.
    """
    profile = image.info.get("icc_profile") or None
    coded = _coded(image)
    if coded is not None and (profile is None or image.format == "PNG"):
        try:
            return ImageColor(name, None, CodedColor(*coded))
        except ValueError as error:
            _LOG.warning("%s: the colors are taken as sRGB (%s)", name, error)
    return ImageColor(name, profile, CodedColor() if profile is not None else _by_chunks(image.info))


def _coded(image: Image.Image) -> tuple[int, int] | None:
    """Codes of primaries and transfer that Pillow does not tell: PNG's cICP, `nclx` of AVIF and HEIF."""
    file: Any = getattr(image, "fp", None)
    if file is None or image.format not in ("PNG", "AVIF", "HEIF"):
        return None
    position = file.tell()
    try:
        if image.format == "PNG":
            return _cicp(file)
        file.seek(0)
        _, found, after = file.read(_HEADER).partition(b"colrnclx")
        return struct.unpack_from(">HH", after) if found and len(after) >= 4 else None
    finally:
        file.seek(position)


def _cicp(file: Any) -> tuple[int, int] | None:
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
    return np.round(values / 257).astype(np.uint8)


def _by_chunks(info: dict[Any, Any]) -> CodedColor:
    """By PNG's gAMA and cHRM, where sRGB does not stand beside them."""
    if "srgb" in info:
        return CodedColor()
    gamma, given = info.get("gamma") or _USUAL_GAMMA, info.get("chromaticity")
    power = None if abs(gamma / _USUAL_GAMMA - 1) < 10 * _LITTLE else 1 / gamma
    primaries: Any = BT709
    if given is not None:
        pairs = tuple(zip(given[0::2], given[1::2], strict=True))
        usual = ((0.3127, 0.3290), (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
        if min(y for _, y in pairs) > 0 and np.abs(np.subtract(pairs, usual)).max() > _LITTLE:
            primaries = pairs
    return CodedColor(primaries, SRGB if power is None else UNSPECIFIED, power)
