"""Sampling of cameras, light and free ground for the families of worlds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fourdnex.datasets.worlds.builder import Builder
from fourdnex.datasets.worlds.camera_motion import CameraMotion
from fourdnex.datasets.worlds.finishes import sample_finish
from fourdnex.datasets.worlds.scenes import CAMERA_MOTIONS, SKY_COLORS
from fourdnex.datasets.worlds.solids import Sky

FOCAL = (0.6, 2.2)
"""Range of focal lengths, in widths of a 3:2 image: horizontal fields of view of 80 to 26 degrees."""
MAX_DISTANCE = 38.0
"""Max distance of the sky dome, meters."""


def sample_focal(rng: np.random.Generator, low: float = FOCAL[0], high: float = FOCAL[1]) -> float:
    """Draw a focal length in image widths, within `low`..`high`.

    Half of them are typical (about 60 degrees), the others are log-uniform.
    """
    usual = rng.uniform(0.75, 1.15)
    wide = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return float(np.clip(usual if rng.random() < 0.5 else wide, low, high))


def sample_camera(
    rng: np.random.Generator, position: Sequence[float], target: Sequence[float], *, focal: float
) -> CameraMotion:
    """Draw the motion of a camera at `position` that looks at `target`, both (x, height, z) in meters.

    The amount of motion is proportional to the distance of the target.
    """
    dx, rise, dz = (float(t - p) for t, p in zip(target, position, strict=True))
    level = float(np.hypot(dx, dz))
    motion = str(rng.choice(CAMERA_MOTIONS))
    narrow = min(1.0, 1.2 / focal)  # long lenses magnify the motion
    amount = {
        "still": 0.0,
        "dolly": rng.uniform(0.1, 0.25) * level,
        "truck": rng.uniform(0.1, 0.25) * level * narrow,
        "pan": rng.uniform(0.12, 0.32) * narrow,
        "orbit": rng.uniform(0.15, 0.4) * narrow,
    }[motion]
    return CameraMotion(
        focal=focal,
        position=np.array([position[0], -position[1], position[2]], float),
        pitch=float(np.arctan2(-rise, level)),
        yaw=float(np.arctan2(dx, dz)),
        motion=motion,
        amount=float(rng.choice([-1, 1]) * amount),
        distance=level,
        roll=float(rng.normal(0, 0.04)) if rng.random() < 0.4 else 0.0,
    )


def sample_sun(rng: np.random.Generator) -> np.ndarray:
    """Draw the position [3] of a light far enough away for its rays to be parallel."""
    azimuth, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(0.35, 1.4)
    level = np.cos(elevation)
    return 1e4 * np.array([level * np.sin(azimuth), -np.sin(elevation), level * np.cos(azimuth)])


def sample_sky(b: Builder, radius: float) -> tuple[str, Sky]:
    """Draw a sky; returns its name for the caption and the sky."""
    rng = b.rng
    name = str(rng.choice(list(SKY_COLORS)))
    zenith, horizon = (tuple(np.clip(np.array(c) + rng.uniform(-0.1, 0.1), 0, 1)) for c in SKY_COLORS[name])
    clouds = sample_finish(rng, horizon, patterns=("noise",), cell=0.8) if rng.random() < 0.4 else None
    return name, Sky(zenith=zenith, horizon=horizon, radius=min(radius, MAX_DISTANCE), clouds=clouds)


class FreeSpace:
    """Free space on the ground: circles (x, z, radius) that do not overlap."""

    def __init__(self, *reserved: tuple[float, float, float]) -> None:
        """Free space outside the `reserved` circles."""
        self.reserved = list(reserved)

    def reserve(self, x: float, z: float, radius: float) -> bool:
        """Reserve a circle; returns False if it overlaps a reserved one."""
        if any(np.hypot(x - ox, z - oz) < radius + other for ox, oz, other in self.reserved):
            return False
        self.reserved.append((x, z, radius))
        return True
