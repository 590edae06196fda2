"""Components of the scenes of all families except `primitives`: solids with finishes, ground, sky and light.

The building frame is that of `scenes`: x right, y DOWN, z forward, in meters; time runs from 0 to 1 over the clip.
Every solid is an affine image of a unit shape, so one intersection per shape covers all sizes and rotations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fourdnex.datasets.worlds.camera_motion import CameraMotion
from fourdnex.datasets.worlds.captions import article, describe_camera_motion, describe_object_motion
from fourdnex.datasets.worlds.finishes import Finish

SHAPES = ("box", "ellipsoid", "cylinder", "cone", "prism", "pyramid", "shell")
"""Unit shapes within [-1, 1] on every axis. The tips of cone and pyramid and the ridge of the prism (along z) are at
the top (y = -1); a shell is a box seen from the inside."""
Vector = Sequence[float] | np.ndarray
"""Three components."""


@dataclass(frozen=True, kw_only=True)
class Motion:
    """A rigid motion over the clip, with the same kinds of motion as `scenes.WorldObject`."""

    motion: str = "rest"
    travel: np.ndarray = field(default_factory=lambda: np.zeros(3))  # [3] meters, for "slide" and "bounce"
    turns: float = 0.0  # signed turns, for "spin" and "orbit"
    hops: float = 0.0
    hop_height: float = 0.0
    pivot: np.ndarray = field(default_factory=lambda: np.zeros(3))  # [3] for "spin" and "orbit"
    half: np.ndarray = field(
        default_factory=lambda: np.ones(3)
    )  # [3] half extents of the object, the unit of speed in captions

    def transforms(self, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rotations R [T, 3, 3] and translations t [T, 3] at `time` [T]: a point p moves to R p + t."""
        angle, shift = np.zeros(len(time)), np.zeros((len(time), 3))
        if self.motion in ("slide", "bounce"):
            shift = time[:, None] * self.travel
        if self.motion == "bounce":
            shift[:, 1] -= self.hop_height * np.abs(np.sin(np.pi * self.hops * time))
        if self.motion in ("spin", "orbit"):
            angle = (-1 if self.motion == "orbit" else 1) * 2 * np.pi * self.turns * time
            rotation = yaw_matrices(angle)
            return rotation, self.pivot - rotation @ self.pivot
        return yaw_matrices(angle), shift


REST = Motion()


@dataclass(frozen=True, kw_only=True)
class Solid:
    """A unit shape, scaled by `half`, rotated by `rotation` and moved to `center`."""

    shape: str
    half: np.ndarray  # [3]
    center: np.ndarray  # [3] at time 0
    rotation: np.ndarray  # [3, 3], object axes to building axes
    finish: Finish
    top: Finish | None = None
    """Finish of faces with an upward normal (a shell: its floor); None = `finish`."""
    bottom: Finish | None = None
    """Finish of faces with a downward normal (a shell: its ceiling); None = `finish`."""
    motion: Motion = REST
    open_top: bool = False
    """Shells only: without a ceiling."""
    emissive: bool = False
    """Rendered with its unshaded color; casts no shadow."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Infinite ground; its height -y is the sum of a slope and sine waves."""

    finish: Finish
    slope: tuple[float, float] = (0.0, 0.0)  # rise along x and z
    waves: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))  # [K, 4]: amplitude m, wave numbers 1/m, phase

    @property
    def is_level(self) -> bool:
        """Whether the ground is the plane y = 0."""
        return not len(self.waves) and self.slope == (0.0, 0.0)

    def height(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Height above y = 0, in the shape of `x` and `z`."""
        total = np.float32(self.slope[0]) * x + np.float32(self.slope[1]) * z
        for amplitude, kx, kz, phase in self.waves.astype(np.float32):
            total = total + amplitude * np.sin(kx * x + kz * z + phase)
        return total

    def gradient(self, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives of the height along x and z."""
        gx, gz = np.full_like(x, self.slope[0]), np.full_like(x, self.slope[1])
        for amplitude, kx, kz, phase in self.waves.astype(np.float32):
            steep = amplitude * np.cos(kx * x + kz * z + phase)
            gx, gz = gx + kx * steep, gz + kz * steep
        return gx, gz


@dataclass(frozen=True, kw_only=True)
class Sky:
    """A distant sky dome with a vertical gradient."""

    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    radius: float
    clouds: Finish | None = None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A sampled world of any family except `primitives`."""

    solids: tuple[Solid, ...]
    camera: CameraMotion
    light_position: np.ndarray  # [3] meters; far away for the sun
    ambient: float
    ground: Ground | None = None
    sky: Sky | None = None
    haze: float = 0.0
    """Extinction of the haze in the color of the horizon, 1/meter."""
    place: str = ""
    """Beginning of the caption: where the scene is."""
    captioned_objects: tuple[tuple[str, Motion], ...] = ()
    """Names and motions of the objects in the caption."""
    tags: tuple[str, ...] = ()

    @property
    def caption(self) -> str:
        """Caption in the phrases of `captions`."""
        motions = "".join(
            f", {article(name)} {describe_object_motion(motion)}" for name, motion in self.captioned_objects
        )
        return f"{self.place}{motions}. The camera {describe_camera_motion(self.camera)}."


def yaw_matrices(angle: np.ndarray) -> np.ndarray:
    """Rotations [N, 3, 3] about the vertical axis by `angle` [N] radians, object axes to building axes."""
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
    """Rotation [3, 3] about the vertical axis by `angle` radians."""
    return yaw_matrices(np.array([angle]))[0]


def tilt_matrix(about_x: float, about_z: float) -> np.ndarray:
    """Rotation [3, 3] about x, then about z, by angles in radians."""
    cx, sx, cz, sz = np.cos(about_x), np.sin(about_x), np.cos(about_z), np.sin(about_z)
    return np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
