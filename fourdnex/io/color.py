"""Conversion of coded colors (ITU-T H.273: primaries and transfer characteristics) to 8-bit sRGB.

Signals of standard dynamic range (SDR) keep their linear light; wide gamuts are converted to that of sRGB and clipped.
PQ and HLG (ITU-R BT.2100) are rendered as on a display of 1,000 cd/m2, with diffuse white at 203 cd/m2 (ITU-R BT.2408)
mapped to sRGB white: light up to `KNEE` of it is unchanged, and brighter light is compressed towards 255 per channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

UNSPECIFIED = 2
"""The same code for matrix, primaries and transfer function."""
BT709, BT2020, DISPLAY_P3 = 1, 9, 12
SRGB, LINEAR, PQ, HLG = 13, 8, 16, 18

REFERENCE_WHITE = 203.0
"""Luminance of diffuse white in PQ and HLG, cd/m2: 0.58 of the signal in PQ, 0.75 in HLG."""
KNEE = 0.9
"""Light relative to diffuse white above which HDR is compressed: diffuse white becomes 251, three times of it 255."""

_HLG_PEAK, _HLG_GAMMA = 1000.0, 1.2
_D65, _DCI_WHITE = (0.3127, 0.3290), (0.314, 0.351)
Chromaticities = tuple[tuple[float, float], ...]
"""CIE x and y of white, red, green and blue."""
_PRIMARIES: dict[int, Chromaticities] = {
    BT709: (_D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    BT2020: (_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: (_DCI_WHITE, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    DISPLAY_P3: (_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
# Transfer functions that displays render like sRGB: BT.709, BT.470, BT.601, SMPTE 240M, BT.2020 and sRGB itself. The
# reserved codes 0 and 3 are taken as unspecified (2).
_LIKE_SRGB = {0, 1, UNSPECIFIED, 3, 4, 5, 6, 7, 11, 12, SRGB, 14, 15}
_LEVELS = 65535


@dataclass(frozen=True)
class CodedColor:
    """Color space of an image's values."""

    primaries: int | Chromaticities = UNSPECIFIED
    """Code of H.273, or chromaticities. Codes other than those of wide gamuts are taken as BT.709."""
    transfer: int = UNSPECIFIED
    """Code of H.273."""
    gamma: float | None = None
    """Exponent from signal to linear light; overrides `transfer`."""

    def __post_init__(self) -> None:
        if self.transfer not in {*_LIKE_SRGB, LINEAR, PQ, HLG}:
            raise ValueError(f"transfer: expected SDR, linear light, PQ or HLG, got code {self.transfer} of H.273")

    @property
    def is_hdr(self) -> bool:
        """Whether the transfer function is PQ or HLG."""
        return self.gamma is None and self.transfer in (PQ, HLG)

    @property
    def is_srgb(self) -> bool:
        """Whether the values are sRGB already."""
        same_gamut = isinstance(self.primaries, int) and self.primaries not in _PRIMARIES.keys() - {BT709}
        return self.gamma is None and self.transfer in _LIKE_SRGB and same_gamut

    def to_srgb(self, signal: np.ndarray) -> np.ndarray:
        """Convert R'G'B' values [..., 3] in [0, 1] to sRGB [..., 3] uint8."""
        light = _light_table(self.transfer, self.gamma)[_table_indices(signal)]
        if self.is_hdr and self.transfer == HLG:
            luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
            light *= (_HLG_PEAK / REFERENCE_WHITE) * luminance[..., None] ** np.float32(_HLG_GAMMA - 1)
        light = light @ gamut_matrix(self._chromaticities()).T.astype(np.float32)
        return encode_srgb(_compress_highlights(light) if self.is_hdr else light)

    def _chromaticities(self) -> Chromaticities:
        """Chromaticities of the primaries; unspecified ones are BT.2020 for HDR, else BT.709."""
        if not isinstance(self.primaries, int):
            return self.primaries
        default = BT2020 if self.is_hdr and self.primaries == UNSPECIFIED else BT709
        return _PRIMARIES.get(self.primaries, _PRIMARIES[default])


def encode_srgb(light: np.ndarray) -> np.ndarray:
    """Encode linear light in [0, 1] as sRGB uint8 of the same shape; values outside are clipped."""
    return _srgb_table()[_table_indices(light)]


def gamut_matrix(primaries: Chromaticities) -> np.ndarray:
    """Matrix [3, 3] from linear RGB of these primaries to linear sRGB, with Bradford adaptation to white D65."""
    to_xyz, srgb_to_xyz = _xyz_matrix(primaries), _xyz_matrix(_PRIMARIES[BT709])
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    white, d65 = bradford @ to_xyz.sum(axis=1), bradford @ srgb_to_xyz.sum(axis=1)
    adapted = np.linalg.inv(bradford) @ np.diag(d65 / white) @ bradford
    return np.linalg.inv(srgb_to_xyz) @ adapted @ to_xyz


def _xyz_matrix(primaries: Chromaticities) -> np.ndarray:
    """Matrix [3, 3] from linear RGB to XYZ, with Y = 1 for white."""
    white, *colors = (np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in primaries)
    columns = np.stack(colors, axis=1)
    return columns * np.linalg.solve(columns, white)


def _table_indices(values: np.ndarray) -> np.ndarray:
    """Indices uint16 of values in [0, 1] into tables of 65,536 levels; values outside are clipped."""
    return (np.clip(values, 0, 1) * np.float32(_LEVELS) + np.float32(0.5)).astype(np.uint16)


def _compress_highlights(light: np.ndarray) -> np.ndarray:
    """Compress light above `KNEE` by an exponential that continues the slope of 1 and approaches 1."""
    headroom = 1 - KNEE
    return np.where(light > KNEE, 1 - headroom * np.exp((KNEE - light) / headroom), light)


@lru_cache
def _light_table(transfer: int, gamma: float | None) -> np.ndarray:
    """Linear light at 65,536 levels of the signal: relative to white for PQ and SDR, scene light in [0, 1] for HLG."""
    signal = np.linspace(0, 1, _LEVELS + 1)
    if gamma is not None:
        light = signal**gamma
    elif transfer == PQ:  # ITU-R BT.2100, table 4
        power = signal ** (32 / 2523)
        light = (np.maximum(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)) ** (8192 / 1305)
        light *= 10_000 / REFERENCE_WHITE
    elif transfer == HLG:  # ITU-R BT.2100, table 5
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    elif transfer == LINEAR:
        light = signal
    else:
        light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


@lru_cache
def _srgb_table() -> np.ndarray:
    """sRGB uint8 at 65,536 levels of linear light."""
    light = np.linspace(0, 1, _LEVELS + 1)
    signal = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(signal * 255).astype(np.uint8)
