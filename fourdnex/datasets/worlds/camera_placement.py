"""Cameras and light of the families: where one stands, what one looks at, how the clip moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fourdnex.datasets.worlds.builder import Builder
from fourdnex.datasets.worlds.finishes import sample_finish
from fourdnex.datasets.worlds.scenes import CAMERA_MOTIONS, SKY_COLORS, CameraMotion
from fourdnex.datasets.worlds.solids import Sky

FOCAL = (0.6, 2.2)
"""Range of focal lengths, in widths of a 2:3 image: 80 to 26 degrees from left to right."""
MAX_DISTANCE = 38.0
"""Meters within which every world ends."""


def sample_focal(rng: np.random.Generator, low: float = FOCAL[0], high: float = FOCAL[1]) -> float:
    """Half of them as most cameras have it, about 60 degrees; the others anything between `low` and `high`."""
    usual = rng.uniform(0.75, 1.15)
    wide = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return float(np.clip(usual if rng.random() < 0.5 else wide, low, high))


def sample_camera(
    rng: np.random.Generator, position: Sequence[float], target: Sequence[float], *, focal: float
) -> CameraMotion:
    """A camera at (x, height, z) that looks at (x, height, z), moved in proportion to the distance."""
    dx, rise, dz = (float(t - p) for t, p in zip(target, position, strict=True))
    level = float(np.hypot(dx, dz))
    motion = str(rng.choice(CAMERA_MOTIONS))
    narrow = min(1.0, 1.2 / focal)  # what is seen closer goes by faster
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
    """A lamp [3] so far away that its rays are parallel."""
    azimuth, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(0.35, 1.4)
    level = np.cos(elevation)
    return 1e4 * np.array([level * np.sin(azimuth), -np.sin(elevation), level * np.cos(azimuth)])


def sample_sky(b: Builder, radius: float) -> tuple[str, Sky]:
    """A sky and its name."""
    rng = b.rng
    name = str(rng.choice(list(SKY_COLORS)))
    zenith, horizon = (tuple(np.clip(np.array(c) + rng.uniform(-0.1, 0.1), 0, 1)) for c in SKY_COLORS[name])
    clouds = sample_finish(rng, horizon, patterns=("noise",), cell=0.8) if rng.random() < 0.4 else None
    return name, Sky(zenith=zenith, horizon=horizon, radius=min(radius, MAX_DISTANCE), clouds=clouds)


class Free:
    """Places on the ground that are not taken yet."""

    def __init__(self, *taken: tuple[float, float, float]) -> None:
        self.taken = list(taken)

    def take(self, x: float, z: float, radius: float) -> bool:
        """Takes a circle, if it is free."""
        if any(np.hypot(x - ox, z - oz) < radius + other for ox, oz, other in self.taken):
            return False
        self.taken.append((x, z, radius))
        return True
