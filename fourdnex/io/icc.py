"""Conversion of images with ICC color profiles to sRGB: 8 bits with LittleCMS, 16 bits with curves and matrix.

Pillow's LittleCMS does not support 16-bit RGB. Profiles that consist of lookup tables only are applied in 8 bits.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from fourdnex.io.color import encode_srgb

if TYPE_CHECKING:
    from PIL import Image, ImageCms

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
_LEVELS = 65535
# Columns: red, green and blue of sRGB in XYZ with white D50, the profile connection space.
_SRGB_TO_XYZ = np.array([
    [0.436066, 0.385151, 0.143078],
    [0.222493, 0.716887, 0.060621],
    [0.013916, 0.097081, 0.714097],
])  # fmt: skip


def image_to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert a loaded image (mode 1, L, RGB, CMYK or LAB) to sRGB: relative colorimetric, black point compensation.

    Raises:
        ValueError: the profile cannot be read, or is for another color model than the image's.
    """
    space = _space(profile)
    profile_mode, image_mode = _MODES.get(space), "L" if image.mode == "1" else image.mode
    if profile_mode is None or (profile_mode != image_mode and (profile_mode, image_mode) != ("RGB", "L")):
        raise ValueError(f"expected a profile for {image_mode}, got one for {space or 'no color space'}")
    return _transform(profile, profile_mode).apply(image.convert(profile_mode))


@dataclass(frozen=True)
class MatrixProfile:
    """A profile with one curve per channel and, for RGB, a matrix."""

    curves: tuple[np.ndarray, ...]
    """Linear light at 65,536 levels of red, green and blue, or of gray; float32."""
    to_linear_srgb: np.ndarray
    """[3, 3], from linear RGB to linear sRGB; the identity for gray."""

    def to_srgb(self, signal: np.ndarray) -> np.ndarray:
        """Convert [H, W, 3] uint16 (gray repeated three times) to sRGB [H, W, 3] uint8."""
        curves = self.curves * (3 // len(self.curves))
        light = np.stack([curve[signal[..., k]] for k, curve in enumerate(curves)], axis=-1)
        return encode_srgb(light @ self.to_linear_srgb.T)


def read_matrix_profile(profile: bytes) -> MatrixProfile | None:
    """Read the curves and the matrix of a profile; None if it consists of lookup tables or is for CMYK.

    Raises:
        ValueError: the profile is damaged.
    """
    space = _space(profile)
    try:
        (count,) = struct.unpack_from(">I", profile, 128)
        entries = [struct.unpack_from(">4sII", profile, 132 + 12 * number) for number in range(count)]
        tags = {name: profile[start : start + size] for name, start, size in entries}
        if space == "GRAY":
            return MatrixProfile((_curve(tags[b"kTRC"]),), np.eye(3, dtype=np.float32))
        if space != "RGB" or b"A2B0" in tags:
            return None
        columns = [struct.unpack_from(">3i", tags[name], 8) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
        curves = tuple(_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC"))
    except (struct.error, KeyError, IndexError) as error:
        raise ValueError(f"expected curves and a matrix, got {error!r}") from error
    matrix = np.linalg.solve(_SRGB_TO_XYZ, np.array(columns).T / 65536)
    return MatrixProfile(curves, matrix.astype(np.float32))


def _space(profile: bytes) -> str:
    """Color space signature in the profile's header, such as "RGB" or "GRAY"."""
    return profile[16:20].decode("latin-1").strip()


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    """LittleCMS transform from a profile to sRGB."""
    from PIL import ImageCms

    try:
        return ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (OSError, ImageCms.PyCMSError) as error:
        raise ValueError(str(error)) from error


def _curve(tag: bytes) -> np.ndarray:
    """Linear light at 65,536 levels of a `curv` or `para` tag, float32."""
    signal = np.linspace(0, 1, _LEVELS + 1)
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        values = np.array(struct.unpack_from(f">{count}H", tag, 12), np.float64)
        if count == 0:
            return signal.astype(np.float32)
        if count == 1:
            return (signal ** (values[0] / 256)).astype(np.float32)
        return np.interp(signal, np.linspace(0, 1, count), values / 65535).astype(np.float32)
    kind = struct.unpack_from(">H", tag, 8)[0] if tag[:4] == b"para" else -1
    names = {0: "g", 1: "gab", 2: "gabc", 3: "gabcd", 4: "gabcdef"}[kind]
    numbers = struct.unpack_from(f">{len(names)}i", tag, 12)
    p = dict.fromkeys("abcdef", 0.0) | {"a": 1.0} | {name: n / 65536 for name, n in zip(names, numbers, strict=True)}
    # Types 0 to 2 are special cases of type 4: constant below -b/a.
    if kind < 3:
        p |= {"d": -p["b"] / p["a"], "e": p["c"], "f": p["c"], "c": 0.0}
    power = np.maximum(p["a"] * signal + p["b"], 0) ** p["g"] + p["e"]
    return np.clip(np.where(signal >= p["d"], power, p["c"] * signal + p["f"]), 0, 1).astype(np.float32)
