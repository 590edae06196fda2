"""Coded colors (ITU-T H.273: primaries and transfer characteristics) to sRGB of 8 bits.

Signals of standard dynamic range keep their light; wide gamuts are converted to that of sRGB and clipped. PQ and HLG
(ITU-R BT.2100) are shown as on a display of 1,000 cd/m2, their diffuse white of 203 cd/m2 (ITU-R BT.2408) at sRGB's
white: light up to `KNEE` of it is kept, and what is brighter rolls off towards 255, channel by channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

UNSPECIFIED = 2
"""Of matrix, primaries and transfer alike."""
BT709, BT2020, DISPLAY_P3 = 1, 9, 12
SRGB, LINEAR, PQ, HLG = 13, 8, 16, 18

REFERENCE_WHITE = 203.0
"""cd/m2 of diffuse white in PQ and HLG; 0.58 of the signal in PQ, 0.75 in HLG."""
KNEE = 0.9
"""Light relative to diffuse white above which HDR rolls off: white itself becomes 251, three times white 255."""

_HLG_PEAK, _HLG_GAMMA = 1000.0, 1.2
_D65, _DCI_WHITE = (0.3127, 0.3290), (0.314, 0.351)
Chromaticities = tuple[tuple[float, float], ...]
"""x and y of white, red, green and blue."""
_PRIMARIES: dict[int, Chromaticities] = {
    BT709: (_D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    BT2020: (_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: (_DCI_WHITE, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    DISPLAY_P3: (_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
# BT.709, BT.470, BT.601, SMPTE 240M, BT.2020 and sRGB itself: displays show all of them alike. 0 and 3 are reserved,
# and mean what 2 does.
_LIKE_SRGB = {0, 1, UNSPECIFIED, 3, 4, 5, 6, 7, 11, 12, SRGB, 14, 15}
_LEVELS = 65535


@dataclass(frozen=True)
class CodedColor:
    """What the numbers of an image mean."""

    primaries: int | Chromaticities = UNSPECIFIED
    """Code of H.273, or chromaticities. Other codes than those of wide gamuts count as BT.709."""
    transfer: int = UNSPECIFIED
    """Code of H.273."""
    gamma: float | None = None
    """Light is the signal to this power, whatever `transfer` says."""

    def __post_init__(self) -> None:
        if self.transfer not in {*_LIKE_SRGB, LINEAR, PQ, HLG}:
            raise ValueError(f"transfer: expected SDR, linear light, PQ or HLG, got code {self.transfer} of H.273")

    @property
    def is_hdr(self) -> bool:
        return self.gamma is None and self.transfer in (PQ, HLG)

    @property
    def is_srgb(self) -> bool:
        """Whether the numbers are those of sRGB already."""
        same_gamut = isinstance(self.primaries, int) and self.primaries not in _PRIMARIES.keys() - {BT709}
        return self.gamma is None and self.transfer in _LIKE_SRGB and same_gamut

    def to_srgb(self, signal: np.ndarray) -> np.ndarray:
        """[..., 3] float, R, G and B from 0 to 1, to sRGB [..., 3] uint8."""
        light = _light_table(self.transfer, self.gamma)[_indices(signal)]
        if self.is_hdr and self.transfer == HLG:
            luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
            light *= (_HLG_PEAK / REFERENCE_WHITE) * luminance[..., None] ** np.float32(_HLG_GAMMA - 1)
        light = light @ gamut_matrix(self._chromaticities()).T.astype(np.float32)
        return encode_srgb(_rolled_off(light) if self.is_hdr else light)

    def _chromaticities(self) -> Chromaticities:
        if not isinstance(self.primaries, int):
            return self.primaries
        usual = BT2020 if self.is_hdr and self.primaries == UNSPECIFIED else BT709
        return _PRIMARIES.get(self.primaries, _PRIMARIES[usual])


def encode_srgb(light: np.ndarray) -> np.ndarray:
    """Linear light, 0 to 1, as sRGB uint8 of the same shape; what lies outside is clipped."""
    return _srgb_table()[_indices(light)]


def gamut_matrix(primaries: Chromaticities) -> np.ndarray:
    """[3, 3]: linear R, G, B of these primaries to those of sRGB; another white than D65 is adapted (Bradford)."""
    to_xyz, srgb_to_xyz = _xyz_matrix(primaries), _xyz_matrix(_PRIMARIES[BT709])
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    white, d65 = bradford @ to_xyz.sum(axis=1), bradford @ srgb_to_xyz.sum(axis=1)
    adapted = np.linalg.inv(bradford) @ np.diag(d65 / white) @ bradford
    return np.linalg.inv(srgb_to_xyz) @ adapted @ to_xyz


def _xyz_matrix(primaries: Chromaticities) -> np.ndarray:
    """[3, 3]: linear R, G, B to XYZ, white having Y = 1."""
    white, *colors = (np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in primaries)
    columns = np.stack(colors, axis=1)
    return columns * np.linalg.solve(columns, white)


def _indices(values: np.ndarray) -> np.ndarray:
    return (np.clip(values, 0, 1) * np.float32(_LEVELS) + np.float32(0.5)).astype(np.uint16)


def _rolled_off(light: np.ndarray) -> np.ndarray:
    """The shoulder touches the straight part below with the same slope and nears 1."""
    room = 1 - KNEE
    return np.where(light > KNEE, 1 - room * np.exp((KNEE - light) / room), light)


@lru_cache
def _light_table(transfer: int, gamma: float | None) -> np.ndarray:
    """Light of 65,536 levels of the signal; of PQ and SDR relative to white, of HLG in the scene, 0 to 1."""
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
    light = np.linspace(0, 1, _LEVELS + 1)
    signal = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(signal * 255).astype(np.uint8)
