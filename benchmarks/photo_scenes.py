"""Scenes and hand-held camera paths of rendered test videos, drawn from a seed. Meters, y down, z forward."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from benchmarks.photo_worlds import TEXTURE_SIZE, PhotoWorld, Solid, photo_textures

PLACES = ("room", "courtyard", "street")
MOTIONS = ("sideways", "orbit", "forward", "weak", "rotation", "static")
"""Camera paths. "weak" moves a fifteenth as far as "sideways"; "rotation" and "static" stay at one point."""

_FRONT_Z = {"room": 5.5, "courtyard": 9.0, "street": 22.0}
_HALF_WIDTH = {"room": 3.2, "courtyard": 6.0, "street": 4.5}


def photo_world(rng: np.random.Generator, place: str, *, moving: bool) -> PhotoWorld:
    """A place with objects, two of them in motion if `moving`; the camera starts at the origin, 1.5 m above ground."""
    front, side = _FRONT_Z[place], _HALF_WIDTH[place]
    solids: list[Solid] = []

    def add(shape: str, center: tuple[float, ...], half: tuple[float, ...], **options: object) -> None:
        """Add a solid with a random texture."""
        solids.append(
            Solid(
                shape=shape,
                center=np.array(center),
                half=np.array(half),
                texture=int(rng.integers(8)),
                offset=(float(rng.uniform(0, 2 * TEXTURE_SIZE)), float(rng.uniform(0, 2 * TEXTURE_SIZE))),
                density=float(rng.uniform(160, 260)),
                **options,  # type: ignore[arg-type]
            )
        )

    height = {"room": 2.8, "courtyard": 5.0, "street": 9.0}[place]
    add("shell", (0.0, 1.5 - height / 2, front - 8), (side, height / 2, 8.0), open_top=place != "room")
    if place == "street":
        for z in np.arange(3.0, front - 1, 3.2):
            for sign in (-1, 1):
                depth, tall = rng.uniform(0.3, 1.2), rng.uniform(1.5, 3.2)
                add("box", (sign * (side - depth / 2), 1.5 - tall, z), (depth, tall, rng.uniform(0.8, 1.3)))
    for _ in range(int(rng.integers(7, 11))):
        z = float(rng.uniform(2.2, min(front - 0.5, 8.0)))
        reach = min(side - 0.3, 0.75 * z)
        x = float(rng.uniform(-reach, reach))
        if rng.random() < 0.3:
            radius = float(rng.uniform(0.2, 0.5))
            add("sphere", (x, 1.5 - radius - float(rng.uniform(0, 1.2)), z), (radius,) * 3)
        else:
            half = (float(rng.uniform(0.15, 0.5)), float(rng.uniform(0.2, 0.75)), float(rng.uniform(0.15, 0.5)))
            add("box", (x, 1.5 - half[1], z), half, yaw=float(rng.uniform(0, np.pi)))
    if moving:
        for sign in (-1, 1):
            z, size = float(rng.uniform(2.6, 3.8)), float(rng.uniform(0.25, 0.4))
            velocity = np.array([-sign * rng.uniform(0.4, 0.8), 0.0, rng.uniform(-0.15, 0.15)])
            position = (sign * rng.uniform(0.3, 0.6) * z * 0.6, 0.2 + rng.uniform(0, 0.4), z)
            shape = "box" if sign < 0 else "sphere"
            add(shape, position, (size,) * 3, velocity=velocity, spin=float(rng.uniform(-1, 1)), bounce=0.15)
    return PhotoWorld(solids=tuple(solids), textures=photo_textures(rng))


def camera_path(
    rng: np.random.Generator, motion: str, *, num_frames: int, fps: float, distance: float, shake: bool
) -> np.ndarray:
    """camera_to_world [T, 4, 4] float64 of a hand-held camera in the frame of the world.

    Speed does not depend on the number of frames: "sideways" and "orbit" move a quarter of `distance` in two seconds.

    Args:
        rng: the random numbers.
        motion: one of `MOTIONS`.
        num_frames: T.
        fps: frames per second.
        distance: meters from the camera to the things it looks at.
        shake: add shake of 1 to 6 Hz: .3 degrees and 4 mm (root mean square per axis).
    """
    time = np.arange(num_frames) / fps
    sign = 1.0 if rng.random() < 0.5 else -1.0
    stride = 0.125 * distance * rng.uniform(0.85, 1.15)
    drift = [_smooth(rng, time, 0.35) for _ in range(6)]
    position, angles = np.zeros((num_frames, 3)), np.zeros((num_frames, 3))
    center = time - time[-1] / 2
    if motion in ("sideways", "weak", "orbit"):
        amount = stride / 15 if motion == "weak" else stride
        position[:, 0] = sign * amount * center
        position[:, 1] = 0.3 * amount * drift[1]
        position[:, 2] = 0.3 * amount * drift[2]
        turn = 1.0 if motion == "orbit" else 0.25
        angles[:, 1] = -turn * np.arctan2(position[:, 0], distance)
    elif motion == "forward":
        position[:, 2] = 1.3 * stride * time
        position[:, 0] = 0.15 * stride * drift[0]
    elif motion == "rotation":
        angles[:, 1] = sign * np.radians(9) * center
    if motion != "static":
        angles += np.radians(1.2) * np.stack([drift[3], drift[4], 0.5 * drift[5]], axis=1)
    if shake:
        angles += np.radians(0.3) * _band(rng, time, num_frames)
        if motion not in ("rotation", "static"):
            position += 0.004 * _band(rng, time, num_frames) * (0.25 if motion == "weak" else 1.0)
    pose = np.tile(np.eye(4), (num_frames, 1, 1))
    pose[:, :3, :3] = Rotation.from_euler("YXZ", angles[:, [1, 0, 2]]).as_matrix()
    pose[:, :3, 3] = position
    return pose


def _smooth(rng: np.random.Generator, time: np.ndarray, frequency: float) -> np.ndarray:
    """A slow wave [T] with values about 1."""
    wave: np.ndarray = np.sin(2 * np.pi * frequency * rng.uniform(0.6, 1.4) * time + rng.uniform(0, 2 * np.pi))
    return wave


def _band(rng: np.random.Generator, time: np.ndarray, num_frames: int) -> np.ndarray:
    """Waves of 1 to 6 Hz [T, 3] with a root mean square of about 1."""
    frequency = rng.uniform(1, 6, (3, 8))
    amplitude = frequency**-0.7
    phase = rng.uniform(0, 2 * np.pi, (3, 8))
    waves = amplitude[..., None] * np.sin(2 * np.pi * frequency[..., None] * time + phase[..., None])
    scaled: np.ndarray = (waves.sum(axis=1) / np.sqrt((amplitude**2).sum(axis=1, keepdims=True) / 2)).T
    assert len(scaled) == num_frames
    return scaled
