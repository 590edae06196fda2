"""What worlds of the other families are made of: solids with a finish, the ground, the sky and the light.

Building frame as in `worlds_scenes`: x right, y DOWN, z forward, meters; time runs from 0 to 1 over the clip. Every
solid is an affine image of a unit shape, so one intersection a shape serves all sizes and turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fourdnex.datasets.worlds.captions import article, describe_camera_motion, describe_object_motion
from fourdnex.datasets.worlds.finishes import Finish
from fourdnex.datasets.worlds.scenes import CameraMotion

SHAPES = ("box", "ellipsoid", "cylinder", "cone", "prism", "pyramid", "shell")
"""Unit shapes within [-1, 1] on every axis: the cone's and pyramid's tip and the prism's ridge (along z) are at the
top (y = -1); a shell is a box seen from within."""
Vector = Sequence[float] | np.ndarray
"""Three numbers."""


@dataclass(frozen=True, kw_only=True)
class Motion:
    """A rigid motion over the clip, as of `worlds_scenes.WorldObject`."""

    motion: str = "rest"
    travel: np.ndarray = field(default_factory=lambda: np.zeros(3))  # [3] meters, for "slide" and "bounce"
    turns: float = 0.0  # signed turns, for "spin" and "orbit"
    hops: float = 0.0
    hop_height: float = 0.0
    pivot: np.ndarray = field(default_factory=lambda: np.zeros(3))  # [3] for "spin" and "orbit"
    half: np.ndarray = field(
        default_factory=lambda: np.ones(3)
    )  # [3] half extent of what moves; captions measure by it

    def at(self, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rotations [T, 3, 3] and translations [T, 3] at `time` [T]: a point p goes to R p + t."""
        angle, shift = np.zeros(len(time)), np.zeros((len(time), 3))
        if self.motion in ("slide", "bounce"):
            shift = time[:, None] * self.travel
        if self.motion == "bounce":
            shift[:, 1] -= self.hop_height * np.abs(np.sin(np.pi * self.hops * time))
        if self.motion in ("spin", "orbit"):
            angle = (-1 if self.motion == "orbit" else 1) * 2 * np.pi * self.turns * time
            turn = yaw_matrices(angle)
            return turn, self.pivot - turn @ self.pivot
        return yaw_matrices(angle), shift


REST = Motion()


@dataclass(frozen=True, kw_only=True)
class Solid:
    """A unit shape, stretched by `half`, turned by `turn`, moved to `center`."""

    shape: str
    half: np.ndarray  # [3]
    center: np.ndarray  # [3] at time 0
    turn: np.ndarray  # [3, 3], own axes to building axes
    finish: Finish
    top: Finish | None = None
    """Of faces that look up (of a shell: its floor); None: as the rest."""
    bottom: Finish | None = None
    """Of faces that look down (of a shell: its ceiling)."""
    motion: Motion = REST
    open_top: bool = False
    """A shell without a ceiling."""
    glows: bool = False
    """Whether it shows its finish whatever the light."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Ground that goes on for ever: height -y = slope and waves about 0."""

    finish: Finish
    slope: tuple[float, float] = (0.0, 0.0)  # rise along x and z
    waves: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))  # [K, 4]: amplitude m, wave numbers 1/m, phase

    @property
    def is_level(self) -> bool:
        return not len(self.waves) and self.slope == (0.0, 0.0)

    def height(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Height above y = 0, of the shape of `x` and `z`."""
        total = np.float32(self.slope[0]) * x + np.float32(self.slope[1]) * z
        for amplitude, kx, kz, phase in self.waves.astype(np.float32):
            total = total + amplitude * np.sin(kx * x + kz * z + phase)
        return total

    def gradient(self, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slope of the height along x and z."""
        gx, gz = np.full_like(x, self.slope[0]), np.full_like(x, self.slope[1])
        for amplitude, kx, kz, phase in self.waves.astype(np.float32):
            steep = amplitude * np.cos(kx * x + kz * z + phase)
            gx, gz = gx + kx * steep, gz + kz * steep
        return gx, gz


@dataclass(frozen=True, kw_only=True)
class Sky:
    """A far dome."""

    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    radius: float
    clouds: Finish | None = None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A sampled world of a family."""

    solids: tuple[Solid, ...]
    camera: CameraMotion
    lamp: np.ndarray  # [3] where the light comes from; far away for the sun
    ambient: float
    ground: Ground | None = None
    sky: Sky | None = None
    haze: float = 0.0
    """Share of the horizon's color that a meter of air adds."""
    place: str = ""
    """Begin of the caption."""
    moving: tuple[tuple[str, Motion], ...] = ()
    """Names and motions of the things that the caption tells of."""
    tags: tuple[str, ...] = ()

    @property
    def caption(self) -> str:
        """In the words of `worlds_scenes`."""
        deeds = "".join(f", {article(name)} {describe_object_motion(motion)}" for name, motion in self.moving)
        return f"{self.place}{deeds}. The camera {describe_camera_motion(self.camera)}."


def yaw_matrices(angle: np.ndarray) -> np.ndarray:
    """Rotations [N, 3, 3] about the vertical; own axes to building axes, as `WorldObject` turns."""
    cos, sin, zero = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    return np.stack(
        [
            np.stack([cos, zero, sin], axis=-1),
            np.stack([zero, np.ones_like(angle), zero], axis=-1),
            np.stack([-sin, zero, cos], axis=-1),
        ],
        axis=-2,
    )


def yaw_matrix(angle: float) -> np.ndarray:
    """Rotation [3, 3] about the vertical."""
    return yaw_matrices(np.array([angle]))[0]


def tilt_matrix(about_x: float, about_z: float) -> np.ndarray:
    """Rotation [3, 3] about x, then about z."""
    cx, sx, cz, sz = np.cos(about_x), np.sin(about_x), np.cos(about_z), np.sin(about_z)
    return np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
