"""Outdoor families of worlds (terrain and streets), and `jumble`: unstructured scenes of random solids."""

from __future__ import annotations

import numpy as np

from fourdnex.datasets.worlds import objects
from fourdnex.datasets.worlds.builder import Builder
from fourdnex.datasets.worlds.camera_placement import (
    MAX_DISTANCE,
    FreeSpace,
    sample_camera,
    sample_focal,
    sample_sky,
    sample_sun,
)
from fourdnex.datasets.worlds.captions import article
from fourdnex.datasets.worlds.indoor_families import add_room_shell, sample_room_light
from fourdnex.datasets.worlds.solids import REST, Ground, Scene, tilt_matrix, yaw_matrix

SOIL = ((0.35, 0.48, 0.22), (0.55, 0.5, 0.35), (0.62, 0.58, 0.5), (0.45, 0.36, 0.26), (0.85, 0.87, 0.9))


def sample_terrain(rng: np.random.Generator) -> Scene:
    """Sloped, uneven ground with trees, rocks, houses, cars and people."""
    b = Builder(rng)
    waves = _sample_waves(b)
    slope = (b.uniform(-0.08, 0.08), b.uniform(-0.05, 0.12)) if rng.random() < 0.6 else (0.0, 0.0)
    color = SOIL[int(rng.integers(len(SOIL)))] if rng.random() < 0.75 else None
    ground = Ground(
        finish=b.finish(color, patterns=("noise", "noise", "plain", "dots", "gradient", "tiles", "checks"), cell=0.8),
        slope=slope,
        waves=waves,
    )

    def height(x: float, z: float) -> float:
        """Height of the ground at (x, z)."""
        return float(ground.height(np.array([x], np.float32), np.array([z], np.float32))[0])

    near = b.uniform(2.0, 7.0)
    position = (0.0, height(0, 0) + float(np.exp(b.uniform(np.log(0.5), np.log(3.5)))), 0.0)
    target = (b.uniform(-0.3, 0.3) * near, height(0, near) + b.uniform(0.0, 1.2), near)
    focal = sample_focal(rng)
    sky_name, sky = sample_sky(b, b.uniform(14.0, MAX_DISTANCE))
    camera = sample_camera(rng, position, target, focal=focal)
    free = FreeSpace((0.0, 0.0, 1.2))
    kinds = [str(kind) for kind in rng.choice(list(objects.OUTDOOR_OBJECTS), size=3)]
    small = b.uniform(0.5, 1.2)
    for _ in range(int(rng.integers(4, 22))):
        z = near * float(np.exp(b.uniform(np.log(0.6), np.log(4.0))))
        x = b.uniform(-0.75, 0.75) * z / focal + target[0] * z / near
        kind = str(rng.choice(kinds))
        radius = {"house": 2.5, "car": 2.0, "tree": 1.0}.get(kind, 0.6) * small
        if np.hypot(x, z) > 0.8 * sky.radius or not free.reserve(x, z, radius):
            continue
        at = (x, height(x, z) - 0.05, z)
        motion = b.sample_motion(
            at,
            (0.3, 0.85, 0.3),
            travel=0.2 * z,
            rest_probability=0.4 if kind == "person" else 0.95,
            slide_only=kind == "car",
        )
        if kind in ("house", "tree", "rock", "post"):
            motion = REST
        objects.OUTDOOR_OBJECTS[kind](
            b.group(at, yaw=b.uniform(0, 6), scale=small * b.uniform(0.8, 1.2), motion=motion)
        )
        b.add_to_caption(kind, motion)
    for _ in range(int(rng.integers(0, 3))):
        z = b.uniform(0.7, 1.5) * near
        x = b.uniform(-0.35, 0.35) * z / focal
        if free.reserve(x, z, 0.4):
            b.add_random_solid((x, height(x, z), z), b.uniform(0.05, 0.12) * z, travel=0.25 * z, rest_probability=0.2)
    return Scene(
        solids=tuple(b.solids), camera=camera, light_position=sample_sun(rng), ambient=b.uniform(0.35, 0.6),
        ground=ground, sky=sky,
        haze=b.uniform(0.0, 0.06) if rng.random() < 0.5 else 0.0,
        place=f"Outdoors on uneven ground under {article(sky_name)} sky",
        captioned_objects=tuple(b.captioned_objects), tags=("outdoor",),
    )  # fmt: skip


def _sample_waves(b: Builder) -> np.ndarray:
    """Draw up to four waves [K, 4] of the ground, see `Ground.waves`; longer waves have larger amplitudes."""
    waves = []
    strength = b.uniform(0.3, 1.0)
    for _ in range(int(b.rng.integers(0, 5))):
        amplitude, direction = strength * b.uniform(0.03, 0.9), b.uniform(0, np.pi)
        number = 2 * np.pi / (amplitude * b.uniform(12, 40))
        waves.append((amplitude, number * np.cos(direction), number * np.sin(direction), b.uniform(0, 6)))
    return np.array(waves).reshape(-1, 4)


def sample_street(rng: np.random.Generator) -> Scene:
    """A street between two rows of facades, with cars, people and trees."""
    b = Builder(rng)
    side = b.uniform(2.2, 6.0)
    road = b.finish(
        (0.35, 0.35, 0.37) if rng.random() < 0.7 else None,
        patterns=("plain", "noise", "tiles", "bricks", "checks"),
        cell=0.7,
    )
    sky_name, sky = sample_sky(b, b.uniform(26.0, MAX_DISTANCE))
    for sign in (-1, 1):
        if rng.random() < 0.12:
            continue
        z = b.uniform(-4.0, -1.0)
        while z < 30.0:
            half = (b.uniform(1.0, 2.5), b.uniform(1.2, 4.5), b.uniform(1.2, 4.0))
            walls = b.finish(patterns=("windows", "windows", "bricks", "plain", "planks"), cell=b.uniform(0.8, 1.6))
            at = (sign * (side + half[0] + b.uniform(0, 0.8)), half[1], z + half[2])
            b.add("box", half, at, walls)
            if rng.random() < 0.35:
                b.add(
                    "prism",
                    (half[0], b.uniform(0.5, 1.2), half[2]),
                    (at[0], 2 * half[1] + 0.5, at[2]),
                    b.finish(cell=0.3),
                )
            z += 2 * half[2] + (b.uniform(0.5, 2.5) if rng.random() < 0.4 else 0.0)
    if rng.random() < 0.5:
        half = (side * 2, b.uniform(2.0, 5.0), 1.5)
        b.add(
            "box",
            half,
            (0, half[1], b.uniform(12.0, 26.0)),
            b.finish(patterns=("windows", "bricks", "plain"), cell=1.0),
        )
    pavement = b.material_finish((0.6, 0.6, 0.58)) if rng.random() < 0.7 else None
    if pavement is not None:
        for sign in (-1, 1):
            b.add("box", (0.3 * side, 0.06, 30), (sign * 0.85 * side, 0.06, 14), pavement)
    if rng.random() < 0.5:
        for z in np.arange(0.0, 25.0, 2.0):
            b.add("box", (0.06, 0.005, 0.6), (0, 0.005, z), b.material_finish((0.9, 0.9, 0.85)))
    position = (b.uniform(-0.5, 0.5) * side, float(np.exp(b.uniform(np.log(0.8), np.log(3.5)))), 0.0)
    target = (b.uniform(-0.7, 0.7) * side, b.uniform(0.3, 2.0), b.uniform(4.0, 10.0))
    free = FreeSpace((position[0], 0.0, 1.6))
    for _ in range(int(rng.integers(3, 12))):
        kind = str(rng.choice(["car", "person", "tree", "post", "rock"]))
        z = float(np.exp(b.uniform(np.log(2.5), np.log(18.0))))
        x = float(rng.choice([-1, 1])) * side * (b.uniform(0.3, 0.7) if kind == "car" else b.uniform(0.5, 0.95))
        if not free.reserve(x, z, 1.6 if kind == "car" else 0.5):
            continue
        travel, rest_probability = (2.0, 0.5) if kind == "car" else (0.8, 0.4 if kind == "person" else 1.0)
        motion = b.sample_motion(
            (x, 0, z), (0.4, 0.85, 0.4), travel=travel, rest_probability=rest_probability, slide_only=kind == "car"
        )
        yaw = np.pi / 2 + b.uniform(-0.1, 0.1) if kind == "car" else b.uniform(0, 6)
        objects.OUTDOOR_OBJECTS[kind](b.group((x, 0.0, z), yaw=yaw, scale=b.uniform(0.8, 1.1), motion=motion))
        b.add_to_caption(kind, motion)
    for _ in range(int(rng.integers(0, 3))):
        x, z = b.uniform(-0.5, 0.5) * side, b.uniform(2.5, 7.0)
        if free.reserve(x, z, 0.5):
            b.add_random_solid((x, 0.0, z), b.uniform(0.15, 0.5), travel=1.0, rest_probability=0.2)
    return Scene(
        solids=tuple(b.solids), camera=sample_camera(rng, position, target, focal=sample_focal(rng)),
        light_position=sample_sun(rng), ambient=b.uniform(0.35, 0.6), ground=Ground(finish=road), sky=sky,
        haze=b.uniform(0.0, 0.04) if rng.random() < 0.4 else 0.0,
        place=f"Outdoors on a street under {article(sky_name)} sky",
        captioned_objects=tuple(b.captioned_objects), tags=("outdoor",),
    )  # fmt: skip


def sample_jumble(rng: np.random.Generator) -> Scene:
    """Random solids with random rotations, on the ground or in the air, in a space of random proportions."""
    b = Builder(rng)
    reach = float(np.exp(b.uniform(np.log(2.0), np.log(14.0))))
    height = b.uniform(0.1, 0.6) * reach
    position = (0.0, height, 0.0)
    target = (b.uniform(-0.3, 0.3) * reach, height - reach * b.uniform(-0.15, 0.6), b.uniform(0.5, 0.9) * reach)
    focal = sample_focal(rng)
    indoor = rng.random() < 0.55
    ground = sky = None
    if indoor:
        half = (b.uniform(0.25, 1.2) * reach, max(0.5 * height * b.uniform(1.1, 3.0), 0.2), b.uniform(0.6, 1.1) * reach)
        wall, floor = add_room_shell(b, half, at=(0.0, 0.8 * half[2]))
        lamp, place = sample_room_light(b, half), f"In a room with {wall} walls and {article(floor)} floor"
    else:
        sky_name, sky = sample_sky(b, b.uniform(1.5, 5.0) * reach)
        ground = Ground(
            finish=b.finish(cell=0.15 * reach),
            slope=(b.uniform(-0.1, 0.1), b.uniform(-0.05, 0.15)) if rng.random() < 0.4 else (0, 0),
        )
        lamp, place = sample_sun(rng), f"Outdoors under {article(sky_name)} sky"
        if rng.random() < 0.4:
            rotation = yaw_matrix(b.uniform(-0.6, 0.6)) @ tilt_matrix(b.uniform(-0.2, 0.2), 0.0)
            b.add(
                "box",
                (b.uniform(0.4, 2.5) * reach, b.uniform(0.1, 0.8) * reach, 0.02 * reach),
                (b.uniform(-0.5, 0.5) * reach, 0.0, b.uniform(0.9, 1.4) * reach),
                b.finish(cell=0.15 * reach),
                rotation=rotation,
            )
    for _ in range(int(rng.integers(3, 22))):
        z = b.uniform(0.3, 1.2) * reach
        x = (b.uniform(-0.6, 0.6) / focal + target[0] / target[2]) * z
        up = height + (target[1] - height) * z / target[2] + b.uniform(-0.35, 0.35) / focal * z
        size = b.uniform(0.03, 0.2) * z
        if rng.random() < 0.5:
            b.add_random_solid((x, 0.0, z), size, travel=0.2 * reach, rest_probability=0.7)
            continue
        extent = size * np.exp(rng.uniform(-1.0, 0.7, size=3))
        rotation = yaw_matrix(b.uniform(0, 6)) @ tilt_matrix(b.uniform(-1, 1), b.uniform(-1, 1))
        name, color = b.color()
        at = (x, max(up, 0.3 * size), z)
        motion = b.sample_motion(at, extent, travel=0.2 * reach, rest_probability=0.7)
        shape = str(rng.choice(["box", "box", "ellipsoid", "cylinder", "cone", "prism", "pyramid"]))
        b.add(shape, extent, at, b.finish(color, cell=0.8 * size), rotation=rotation, motion=motion)
        b.add_to_caption(f"{name} {shape}", motion)
    return Scene(
        solids=tuple(b.solids), camera=sample_camera(rng, position, target, focal=focal), light_position=lamp,
        ambient=b.uniform(0.3, 0.7), ground=ground, sky=sky, place=place, captioned_objects=tuple(b.captioned_objects),
        tags=("indoor" if indoor else "outdoor",),
    )  # fmt: skip
