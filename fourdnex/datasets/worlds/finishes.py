"""Surface finishes: procedural 2D patterns such as checkers, bricks, planks and noise.

A finish gives the color at a surface point. Surface coordinates are in meters. The contrast of a pattern fades with the
pixel's footprint, which avoids aliasing of distant surfaces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PATTERNS = ("plain", "gradient", "stripes", "checks", "tiles", "bricks", "planks", "noise", "dots", "windows")
_TABLE = np.random.default_rng(20_240_607).random(4096).astype(np.float32)
"""Hash table: cell of the lattice -> value in [0, 1)."""


@dataclass(frozen=True, kw_only=True)
class Finish:
    """Color as a function of the surface coordinates."""

    pattern: str
    first: tuple[float, float, float]
    second: tuple[float, float, float]
    cell: float = 1.0
    """Cell size of the pattern, meters."""
    rotation: float = 0.0
    """Rotation of the pattern on the surface, radians."""
    offset: tuple[float, float] = (0.0, 0.0)
    """Offset of the pattern, in cells."""
    dirt: float = 0.0
    """Relative amplitude of the low-frequency noise on the color."""
    salt: int = 0
    """Seed of the cell hash."""

    def color(self, a: np.ndarray, b: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        """Colors [N, 3] float32 at surface coordinates `a`, `b` [N] for pixels of `footprint` [N], all in meters."""
        first, second = np.array(self.first, np.float32), np.array(self.second, np.float32)
        cos, sin = np.float32(np.cos(self.rotation) / self.cell), np.float32(np.sin(self.rotation) / self.cell)
        x = cos * a + sin * b + np.float32(self.offset[0])
        y = cos * b - sin * a + np.float32(self.offset[1])
        blur = footprint * np.float32(1 / self.cell)
        mix = self._mix(x, y, blur)
        result = first + mix[:, None] * (second - first)
        if self.dirt > 0:
            noise = _noise(x * np.float32(0.7), y * np.float32(0.7), self.salt + 7, 3, blur)
            result = result * (1 + np.float32(2 * self.dirt) * (noise - np.float32(0.5)))[:, None]
        return result

    def _mix(self, x: np.ndarray, y: np.ndarray, blur: np.ndarray) -> np.ndarray:
        """Weight [N] of the second color; `x` and `y` are in cells."""
        fade = np.clip(np.float32(1.6) - blur * np.float32(1.6), 0, 1)
        half = np.float32(0.5)
        match self.pattern:
            case "plain":
                return np.zeros_like(x)
            case "gradient":
                return half + half * np.sin(np.float32(0.8) * x)
            case "stripes":
                return half + half * _square(x, blur) * fade
            case "checks":
                return half + half * _square(x, blur) * _square(y, blur) * fade
            case "tiles":
                joint = np.maximum(_joint(x, blur), _joint(y, blur))
                return np.clip(joint * fade + half * self._cell_value(x, y) * (1 - joint), 0, 1)
            case "bricks":
                row = np.floor(y * 2)
                x = x + half * np.mod(row, 2)
                joint = np.maximum(_joint(x, blur, 0.04), _joint(y * 2, blur * 2, 0.08))
                return np.clip(joint * fade + half * self._cell_value(x, row) * (1 - joint), 0, 1)
            case "planks":
                row = np.floor(y * 4)
                x = x * np.float32(0.5) + np.float32(0.37) * row
                joint = np.maximum(_joint(x, blur, 0.01), _joint(y * 4, blur * 4, 0.05)) * fade
                grain = _noise(x * 3, y * 40, self.salt, 2, blur * 8)
                value = np.float32(0.35) * self._cell_value(x, row) + np.float32(0.4) * (grain - half)
                return np.clip(joint + value * (1 - joint), 0, 1)
            case "noise":
                return np.clip(half + np.float32(2.2) * (_noise(x, y, self.salt, 4, blur) - half), 0, 1)
            case "dots":
                fx, fy = np.mod(x, 1) - half, np.mod(y, 1) - half
                radius = np.float32(0.15) + np.float32(0.25) * self._cell_value(x, y)
                return np.clip((radius - np.hypot(fx, fy)) / np.maximum(blur, np.float32(0.03)) + half, 0, 1) * fade
            case "windows":
                fx, fy = np.abs(np.mod(x, 1) - half), np.abs(np.mod(y, 1) - half)
                inside = (half - np.maximum(fx / np.float32(0.56), fy / np.float32(0.7))) / np.maximum(blur, 0.03)
                lit = np.float32(0.55) + np.float32(0.45) * self._cell_value(x, y)
                return np.clip(inside + half, 0, 1) * lit * np.maximum(fade, np.float32(0.35))
        raise ValueError(f"pattern: expected one of {PATTERNS}, got {self.pattern!r}")

    def _cell_value(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Random value in [0, 1) per cell."""
        return _hash(np.floor(x).astype(np.int64), np.floor(y).astype(np.int64), self.salt)


def sample_finish(
    rng: np.random.Generator,
    color: tuple[float, float, float],
    *,
    patterns: tuple[str, ...] = PATTERNS,
    cell: float = 0.5,
) -> Finish:
    """Draw a finish around `color`; `cell` is the median cell size in meters."""
    base = np.array(color)
    first = np.clip(base + rng.uniform(-0.08, 0.08, size=3), 0.03, 0.97)
    if rng.random() < 0.3:  # an unrelated second color
        second = rng.uniform(0.03, 0.97, size=3)
    else:
        toward = np.ones(3) if first.mean() < rng.uniform(0.3, 0.6) else np.full(3, 0.05)
        second = first + rng.uniform(0.15, 0.95) * (toward - first)
    square = rng.random() < 0.7
    return Finish(
        pattern=str(rng.choice(patterns)),
        first=tuple(first),
        second=tuple(second),
        cell=float(cell * np.exp(rng.uniform(-0.7, 0.7))),
        rotation=float(rng.choice([0.0, np.pi / 2]) if square else rng.uniform(0, np.pi)),
        offset=tuple(rng.uniform(0, 1, size=2)),
        dirt=float(rng.choice([0.0, rng.uniform(0.05, 0.4)])),
        salt=int(rng.integers(1 << 16)),
    )


def _hash(i: np.ndarray, j: np.ndarray, salt: int) -> np.ndarray:
    """Random values in [0, 1) of integer cells."""
    return _TABLE[((i * 73_856_093) ^ (j * 19_349_663) ^ (salt * 83_492_791)) & 4095]


def _square(x: np.ndarray, blur: np.ndarray) -> np.ndarray:
    """A square wave of period 2 in [-1, 1], with edges as wide as `blur`."""
    triangle = 1 - 2 * np.abs(np.mod(x, 2) - 1)  # [-1, 1], zero at the edges
    return np.clip(triangle / np.maximum(blur, np.float32(0.02)), -1, 1)


def _joint(x: np.ndarray, blur: np.ndarray, width: float = 0.05) -> np.ndarray:
    """1 within `width` of an integer, 0 elsewhere, with edges as wide as `blur`."""
    distance = np.abs(np.mod(x + np.float32(0.5), 1) - np.float32(0.5))
    return np.clip((np.float32(width) - distance) / np.maximum(blur, np.float32(0.02)) + np.float32(0.5), 0, 1)


def _noise(x: np.ndarray, y: np.ndarray, salt: int, octaves: int, blur: np.ndarray) -> np.ndarray:
    """Value noise of several octaves in [0, 1]; octaves finer than the footprint are omitted."""
    total, weight, amplitude = np.zeros_like(x), 0.0, 1.0
    for octave in range(octaves):
        scale = np.float32(2**octave)
        u, v = x * scale, y * scale
        i, j = np.floor(u), np.floor(v)
        fu, fv = u - i, v - j
        fu, fv = fu * fu * (3 - 2 * fu), fv * fv * (3 - 2 * fv)
        i, j = i.astype(np.int64), j.astype(np.int64)
        near = _hash(i, j, salt) * (1 - fu) + _hash(i + 1, j, salt) * fu
        far = _hash(i, j + 1, salt) * (1 - fu) + _hash(i + 1, j + 1, salt) * fu
        fade = np.clip(np.float32(1.5) - blur * scale, 0, 1)
        total += np.float32(amplitude) * ((near * (1 - fv) + far * fv - np.float32(0.5)) * fade)
        weight += amplitude
        amplitude *= 0.6
    return np.float32(0.5) + total / np.float32(weight)
