"""Worlds of the family `primitives`: their components, and sampling by seed.

Building frame: x right, y DOWN, z forward (OpenCV axes), ground at y = 0, in meters. The first camera is above the
origin and looks along +z. Time runs from 0 to 1 over the clip.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fourdnex.datasets.worlds.camera_motion import CameraMotion
from fourdnex.datasets.worlds.captions import article, describe_camera_motion, describe_object_motion

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.18, 0.16),
    "orange": (0.90, 0.52, 0.16),
    "yellow": (0.90, 0.80, 0.25),
    "green": (0.25, 0.60, 0.27),
    "teal": (0.15, 0.58, 0.58),
    "blue": (0.20, 0.35, 0.78),
    "purple": (0.50, 0.26, 0.65),
    "pink": (0.90, 0.52, 0.66),
    "white": (0.88, 0.87, 0.84),
    "grey": (0.52, 0.52, 0.54),
    "brown": (0.48, 0.32, 0.20),
    "black": (0.16, 0.16, 0.18),
}
GROUND_COLORS = ("grey", "brown", "green", "white", "yellow", "teal")
WALL_COLORS = ("white", "grey", "pink", "yellow", "teal", "brown", "blue", "orange")
SKY_COLORS = {
    "blue": ((0.36, 0.58, 0.88), (0.82, 0.90, 0.97)),
    "overcast": ((0.62, 0.66, 0.72), (0.86, 0.87, 0.88)),
    "evening": ((0.32, 0.30, 0.55), (0.97, 0.66, 0.42)),
}
SHAPES = ("box", "sphere", "cylinder")
OBJECT_MOTIONS = ("rest", "slide", "bounce", "spin", "orbit")
CAMERA_MOTIONS = ("still", "dolly", "truck", "pan", "orbit")
PATTERNS = ("plain", "gradient", "stripes", "checks", "blotches")


@dataclass(frozen=True, kw_only=True)
class Texture:
    """A solid texture: color as a smooth function of the position in the frame of the object."""

    pattern: str
    first: tuple[float, float, float]
    second: tuple[float, float, float]
    axes: np.ndarray  # [3, 3] wave vectors, cycles per meter
    phases: np.ndarray  # [3] radians


@dataclass(frozen=True, kw_only=True)
class WorldObject:
    """An object that rests or moves on the ground.

    `half` are the half extents in the frame of the object: (x, y, z) for a box, (radius, half height, radius) for a
    cylinder, (radius, radius, radius) for a sphere.
    """

    shape: str
    color: str
    half: np.ndarray  # [3] meters
    center: np.ndarray  # [3] at time 0, when the object touches the ground
    yaw: float  # radians at time 0
    motion: str
    travel: np.ndarray  # [3] meters over the clip, for "slide" and "bounce"
    turns: float  # signed revolutions over the clip, for "spin" and "orbit"
    hops: float  # arcs over the clip, for "bounce"
    hop_height: float
    pivot: np.ndarray  # [3] center of the "orbit"
    texture: Texture

    @property
    def moves(self) -> bool:
        """Whether the object has any motion."""
        return self.motion != "rest"

    def pose(self, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Center [T, 3] and yaw [T] at `time` [T] in [0, 1]."""
        center = np.repeat(self.center[None], len(time), axis=0)
        yaw = np.full(len(time), self.yaw)
        if self.motion == "slide":
            center = center + time[:, None] * self.travel
        elif self.motion == "bounce":
            center = center + time[:, None] * self.travel
            center[:, 1] -= self.hop_height * np.abs(np.sin(np.pi * self.hops * time))
        elif self.motion == "spin":
            yaw = yaw + 2 * np.pi * self.turns * time
        elif self.motion == "orbit":
            angle = 2 * np.pi * self.turns * time
            offset = self.center - self.pivot
            cos, sin = np.cos(angle), np.sin(angle)
            center[:, 0] = self.pivot[0] + cos * offset[0] - sin * offset[2]
            center[:, 2] = self.pivot[2] + sin * offset[0] + cos * offset[2]
            yaw = yaw - angle
        return center, yaw


@dataclass(frozen=True, kw_only=True)
class World:
    """A sampled world of the family `primitives`; `wall_z` None = no back wall in front of the sky dome."""

    indoor: bool
    ground: Texture
    walls: Texture
    wall_z: float | None  # z of the back wall
    room_x: tuple[float, float]  # x of the left and right wall, indoors
    room_height: float
    sky: tuple[tuple[float, float, float], tuple[float, float, float]]  # zenith, horizon
    sky_radius: float
    light: np.ndarray  # [3] unit vector toward the light
    ambient: float
    objects: tuple[WorldObject, ...]
    camera: CameraMotion
    caption: str = ""
    tags: tuple[str, ...] = field(default=())


def sample_world(seed: int) -> World:
    """Draw the world of `seed`; the same seed always gives the same world."""
    rng = np.random.default_rng(seed)
    indoor = bool(rng.random() < 0.45)
    close = bool(rng.random() < 0.5)
    depth_range = (2.0, 3.6) if close else (3.6, 6.5)
    height = rng.uniform(0.9, 1.5) if close else rng.uniform(1.2, 2.4)
    middle = 0.5 * (depth_range[0] + depth_range[1])
    pitch = float(np.clip(np.arctan2(height - 0.35, middle) * rng.uniform(0.35, 0.95), 0.02, 0.45))
    wall_z = rng.uniform(1.0, 3.0) + depth_range[1] if indoor or rng.random() < 0.4 else None
    motion = str(rng.choice(CAMERA_MOTIONS))
    sign = rng.choice([-1.0, 1.0])
    amount = {
        "still": 0.0,
        "dolly": rng.uniform(0.4, 0.9) * (0.8 if close else 1.3),
        "truck": rng.uniform(0.4, 1.0) * (0.7 if close else 1.2),
        "pan": rng.uniform(0.12, 0.32),
        "orbit": rng.uniform(0.15, 0.4),
    }[motion]
    if motion == "dolly" and sign > 0:
        amount *= 0.7  # keeps the camera in front of the nearest object
    camera = CameraMotion(
        focal=rng.uniform(0.75, 1.15),
        position=np.array([0.0, -height, 0.0]),
        pitch=pitch,
        yaw=rng.uniform(-0.15, 0.15),
        motion=motion,
        amount=float(sign * amount),
        distance=middle,
    )
    half_width = 0.5 / camera.focal
    room = (
        -rng.uniform(1.2, 2.2) - half_width * depth_range[1] * 0.6,
        rng.uniform(1.2, 2.2) + half_width * depth_range[1] * 0.6,
    )
    objects = _sample_objects(rng, depth_range=depth_range, half_width=half_width, still_camera=motion == "still")
    azimuth, elevation = rng.uniform(-2.4, 2.4), rng.uniform(0.6, 1.2)
    light = np.array([np.cos(elevation) * np.sin(azimuth), -np.sin(elevation), -np.cos(elevation) * np.cos(azimuth)])
    ground_name, wall_name = str(rng.choice(GROUND_COLORS)), str(rng.choice(WALL_COLORS))
    sky_name = str(rng.choice(list(SKY_COLORS)))
    world = World(
        indoor=indoor,
        ground=_sample_texture(rng, ground_name, period=rng.uniform(1.2, 3.0)),
        walls=_sample_texture(rng, wall_name, period=rng.uniform(1.5, 4.0)),
        wall_z=wall_z,
        room_x=room,
        room_height=rng.uniform(2.4, 3.4) + 0.4 * (not close),
        sky=SKY_COLORS[sky_name],
        sky_radius=rng.uniform(2.0, 2.8) * depth_range[1],
        light=light,
        ambient=rng.uniform(0.4, 0.6),
        objects=objects,
        camera=camera,
    )
    fast = any(_relative_speed(item) > 0.9 for item in objects)
    tags: tuple[str, ...] = (
        "indoor" if indoor else "outdoor",
        "close" if close else "far",
        "dynamic" if any(item.moves for item in objects) else "static",
    )
    tags += ("fast",) * fast + (f"camera-{motion}",)
    caption = _caption(world, ground_name, wall_name, sky_name)
    return World(**{**world.__dict__, "caption": caption, "tags": tags})


def _sample_objects(
    rng: np.random.Generator, *, depth_range: tuple[float, float], half_width: float, still_camera: bool
) -> tuple[WorldObject, ...]:
    """One to four objects in view that do not overlap at time 0; with a still camera at least one of them moves."""
    objects: list[WorldObject] = []
    colors = rng.permutation([name for name in COLORS])
    count = int(rng.choice([1, 2, 3, 4], p=[0.2, 0.35, 0.3, 0.15]))
    for _ in range(40):
        if len(objects) == count:
            break
        shape = str(rng.choice(SHAPES))
        size = rng.uniform(0.055, 0.11) * (depth_range[0] + depth_range[1]) * 0.8
        if shape == "sphere":
            half = np.full(3, size)
        elif shape == "box":
            half = size * rng.uniform(0.65, 1.25, size=3)
        else:
            half = size * np.array([0.75, rng.uniform(0.8, 1.5), 0.75])
        z = rng.uniform(*depth_range)
        x = rng.uniform(-0.8, 0.8) * half_width * z
        center = np.array([x, -half[1], z])
        reach = np.hypot(half[0], half[2])
        if any(
            np.hypot(*(center - other.center)[[0, 2]]) < reach + np.hypot(other.half[0], other.half[2])
            for other in objects
        ):
            continue
        motion = str(rng.choice(OBJECT_MOTIONS, p=[0.3, 0.25, 0.2, 0.1, 0.15]))
        if still_camera and not objects and motion == "rest":
            motion = "slide"
        if motion == "spin" and shape != "box":
            motion = "bounce"  # the spin of a round object is not visible
        heading = rng.uniform(0, 2 * np.pi)
        length = rng.uniform(0.25, 0.8) * half_width * z * (0.4 if motion == "bounce" else 1.0)
        travel = length * np.array([np.cos(heading), 0.0, 0.6 * np.sin(heading)])
        if travel[0] * x > 0:
            travel[0] *= -1.0  # toward the middle, to stay in view
        if z + travel[2] < depth_range[0]:
            travel[2] *= -1.0
        radius = rng.uniform(0.3, 0.7) * size * 4
        angle = rng.uniform(0, 2 * np.pi)
        pivot = center + radius * np.array([np.cos(angle), 0.0, abs(np.sin(angle))])
        objects.append(
            WorldObject(
                shape=shape,
                color=str(colors[len(objects)]),
                half=half,
                center=center,
                yaw=rng.uniform(0, np.pi),
                motion=motion,
                travel=travel,
                turns=float(rng.choice([-1, 1]) * rng.uniform(0.15, 0.4)),
                hops=rng.uniform(1.0, 2.5),
                hop_height=rng.uniform(0.5, 1.3) * size * 2,
                pivot=pivot,
                texture=_sample_texture(rng, str(colors[len(objects)]), period=rng.uniform(1.0, 2.5) * 2 * size),
            )
        )
    return tuple(objects)


def _sample_texture(rng: np.random.Generator, color: str, *, period: float) -> Texture:
    """Draw a texture around a named color; `period` is the wavelength in meters."""
    base = np.array(COLORS[color])
    pattern = str(rng.choice(PATTERNS, p=[0.3, 0.2, 0.18, 0.14, 0.18]))
    first = np.clip(base + rng.uniform(-0.06, 0.06, size=3), 0.05, 0.95)
    toward = np.array([1.0, 1.0, 1.0]) if base.mean() < 0.45 else np.array([0.1, 0.1, 0.15])
    second = first + rng.uniform(0.25, 0.5) * (toward - first)
    axes = rng.normal(size=(3, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True) * period
    if pattern in ("stripes", "checks"):
        angle = rng.uniform(0, np.pi / 2)
        cos, sin = np.cos(angle), np.sin(angle)
        axes = np.array([[cos, 0, sin], [-sin, 0, cos], [0, 1, 0]]) / period
    return Texture(
        pattern=pattern, first=tuple(first), second=tuple(second), axes=axes, phases=rng.uniform(0, 2 * np.pi, 3)
    )


def _relative_speed(item: WorldObject) -> float:
    """Path length over the clip, in units of twice the object's largest extent."""
    centers, _ = item.pose(np.linspace(0, 1, 33))
    length = np.linalg.norm(np.diff(centers, axis=0), axis=1).sum()
    return float(length / (4 * item.half.max()))


def _caption(world: World, ground: str, wall: str, sky: str) -> str:
    """Caption: the place, the objects and their motions, and the camera motion."""
    if world.indoor:
        place = f"In a room with {wall} walls and {article(ground)} floor"
    else:
        place = f"Outdoors on {ground} ground under {article(sky)} sky"
        if world.wall_z is not None:
            place += f" before {article(wall)} wall"
    motions = ", ".join(f"{article(item.color)} {item.shape} {describe_object_motion(item)}" for item in world.objects)
    return f"{place}, {motions}. The camera {describe_camera_motion(world.camera)}."
