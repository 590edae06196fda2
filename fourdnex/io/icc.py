"""ICC color profiles: images to sRGB, with 8 bits by LittleCMS, with 16 by the profile's own curves and matrix.

Pillow's LittleCMS takes no RGB of 16 bits; profiles made of tables alone are for 8 bits only.
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
# Columns: sRGB's red, green and blue in XYZ of D50, the space in which profiles meet.
_SRGB_TO_XYZ = np.array([
    [0.436066, 0.385151, 0.143078],
    [0.222493, 0.716887, 0.060621],
    [0.013916, 0.097081, 0.714097],
])  # fmt: skip


def image_to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """A loaded image (1, L, RGB, CMYK or LAB) as RGB in sRGB: relative colorimetric, with black point compensation.

    Raises:
        ValueError: the profile cannot be read, or is for another kind of colors than the image's.
    """
    space = _space(profile)
    mode, own = _MODES.get(space), "L" if image.mode == "1" else image.mode
    if mode is None or (mode != own and (mode, own) != ("RGB", "L")):
        raise ValueError(f"expected a profile for {own}, got one for {space or 'nothing'}")
    return _transform(profile, mode).apply(image.convert(mode))


@dataclass(frozen=True)
class MatrixProfile:
    """A profile of one curve a channel, and for RGB a matrix."""

    curves: tuple[np.ndarray, ...]
    """Light of 65,536 levels of red, green and blue, or of gray; float32."""
    to_srgb_light: np.ndarray
    """[3, 3], linear RGB to linear RGB of sRGB; the identity for gray."""

    def to_srgb(self, signal: np.ndarray) -> np.ndarray:
        """[H, W, 3] uint16, of a gray image three times the same, to sRGB [H, W, 3] uint8."""
        curves = self.curves * (3 // len(self.curves))
        light = np.stack([curve[signal[..., k]] for k, curve in enumerate(curves)], axis=-1)
        return encode_srgb(light @ self.to_srgb_light.T)


def read_matrix_profile(profile: bytes) -> MatrixProfile | None:
    """The curves and the matrix of a profile; None where it is of tables, or for CMYK.

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
    return profile[16:20].decode("latin-1").strip()


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
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
    """A `curv` or `para` tag as light of 65,536 levels, float32."""
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
    # Types 0 to 2 are type 4 with other names: below -b/a they are constant.
    if kind < 3:
        p |= {"d": -p["b"] / p["a"], "e": p["c"], "f": p["c"], "c": 0.0}
    power = np.maximum(p["a"] * signal + p["b"], 0) ** p["g"] + p["e"]
    return np.clip(np.where(signal >= p["d"], power, p["c"] * signal + p["f"]), 0, 1).astype(np.float32)
