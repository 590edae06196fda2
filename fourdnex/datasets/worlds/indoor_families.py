"""Indoor families of worlds: furnished rooms, cluttered tables and corridors."""

from __future__ import annotations

import numpy as np

from fourdnex.datasets.worlds import objects
from fourdnex.datasets.worlds.builder import Builder
from fourdnex.datasets.worlds.camera_placement import FreeSpace, sample_camera, sample_focal, sample_sky, sample_sun
from fourdnex.datasets.worlds.captions import article
from fourdnex.datasets.worlds.finishes import Finish
from fourdnex.datasets.worlds.scenes import COLORS
from fourdnex.datasets.worlds.solids import Scene

WALL_PATTERNS = ("plain", "plain", "gradient", "noise", "stripes", "tiles", "bricks", "dots")
FLOOR_PATTERNS = ("plain", "planks", "tiles", "noise", "checks", "stripes")


def add_room_shell(
    b: Builder, half: tuple[float, float, float], *, at: tuple[float, float] = (0.0, 0.0)
) -> tuple[str, str]:
    """Add a room with half extents `half` centered at (x, z); returns the color names of walls and floor."""
    (wall, wall_color), (floor, floor_color) = b.color(), b.color()
    b.add(
        "shell",
        half,
        (at[0], half[1], at[1]),
        b.finish(wall_color, patterns=WALL_PATTERNS, cell=0.8),
        top=b.finish(floor_color, patterns=FLOOR_PATTERNS, cell=0.5),
        bottom=b.material_finish(COLORS["white"] if b.rng.random() < 0.7 else None),
    )
    return wall, floor


def sample_room_light(b: Builder, half: tuple[float, float, float]) -> np.ndarray:
    """Draw the position [3] of a room's light, below the ceiling."""
    return np.array(
        [b.uniform(-0.6, 0.6) * half[0], -b.uniform(0.75, 0.97) * 2 * half[1], b.uniform(-0.6, 0.6) * half[2]]
    )


def sample_room(rng: np.random.Generator) -> Scene:
    """A furnished room, seen from a random position inside, often toward a corner."""
    b = Builder(rng)
    half = (b.uniform(1.3, 3.5), b.uniform(1.1, 1.7), b.uniform(1.5, 4.0))
    wall, floor = add_room_shell(b, half)
    position = (
        b.uniform(-0.8, 0.8) * half[0],
        b.uniform(0.5, min(2.3, 2 * half[1] - 0.3)),
        b.uniform(-0.85, 0.0) * half[2],
    )
    corner = rng.random() < 0.45
    target_x = float(rng.choice([-1, 1])) * half[0] if corner else b.uniform(-0.8, 0.8) * half[0]
    target = (target_x, b.uniform(0.0, 1.0), half[2] * (1.0 if corner else b.uniform(0.3, 1.0)))
    camera = sample_camera(rng, position, target, focal=sample_focal(rng, 0.6, 1.5))
    free = FreeSpace((position[0], position[2], 0.5))
    names = list(objects.FURNITURE)
    for _ in range(int(rng.integers(4, 14))):
        name = str(rng.choice(names))
        if rng.random() < 0.65:  # with its back against a wall
            side, along = int(rng.integers(4)), b.uniform(-0.9, 0.9)
            x, z = (
                (along * half[0], half[2] - 0.35),
                (along * half[0], 0.35 - half[2]),
                (half[0] - 0.35, along * half[2]),
                (0.35 - half[0], along * half[2]),
            )[side]
            yaw = (np.pi, 0.0, -np.pi / 2, np.pi / 2)[side]
        else:
            x, z, yaw = b.uniform(-0.75, 0.75) * half[0], b.uniform(-0.75, 0.75) * half[2], b.uniform(0, 2 * np.pi)
        if not free.reserve(x, z, 0.45):
            continue
        objects.FURNITURE[name](b.group((x, 0.0, z), yaw=yaw, scale=b.uniform(0.8, 1.2)))
    _add_wall_fixtures(b, half)
    if rng.random() < 0.4:
        b.add(
            "box",
            (b.uniform(0.5, 1.2), 0.006, b.uniform(0.5, 1.5)),
            (b.uniform(-0.5, 0.5), 0.006, b.uniform(-0.5, 1.0)),
            b.finish(cell=0.3),
        )
    _add_moving_objects(b, free, (half[0] * 0.7, half[2] * 0.8), size=(0.08, 0.3))
    return Scene(
        solids=tuple(b.solids),
        camera=camera,
        light_position=sample_room_light(b, half),
        ambient=b.uniform(0.35, 0.65),
        place=f"In a room with {wall} walls and {article(floor)} floor",
        captioned_objects=tuple(b.captioned_objects),
        tags=("indoor",),
    )


def _add_wall_fixtures(b: Builder, half: tuple[float, float, float]) -> None:
    """Add pictures, windows and doors on the walls."""
    for _ in range(int(b.rng.integers(0, 6))):
        side, along = int(b.rng.integers(4)), b.uniform(-0.8, 0.8)
        kind = str(b.rng.choice(["picture", "window", "door"]))
        size = {
            "picture": (b.uniform(0.15, 0.5), b.uniform(0.15, 0.4)),
            "window": (b.uniform(0.3, 0.8), b.uniform(0.4, 0.7)),
            "door": (0.42, 1.0),
        }[kind]
        height = {"picture": 1.5, "window": 1.4, "door": 1.0}[kind]
        finish = b.material_finish((0.85, 0.92, 0.98)) if kind == "window" else b.finish(cell=0.2)
        across = side < 2
        at = (
            (along * half[0], height, (1, -1)[side] * half[2])
            if across
            else ((1, -1)[side - 2] * half[0], height, along * half[2])
        )
        b.add(
            "box",
            (size[0], size[1], 0.03) if across else (0.03, size[1], size[0]),
            at,
            finish,
            emissive=kind == "window" and bool(b.rng.random() < 0.7),
        )


def _add_moving_objects(b: Builder, free: FreeSpace, reach: tuple[float, float], *, size: tuple[float, float]) -> None:
    """Add up to three objects, some of them people, that may move within `reach` (x, z); `size` is their range."""
    for _ in range(int(b.rng.integers(1, 4))):
        x, z = b.uniform(-reach[0], reach[0]), b.uniform(-0.2, 1.0) * reach[1]
        if not free.reserve(x, z, 0.35):
            continue
        if b.rng.random() < 0.2:
            motion = b.sample_motion((x, 0, z), (0.3, 0.85, 0.3), travel=0.6, rest_probability=0.4)
            objects.person(b.group((x, 0.0, z), yaw=b.uniform(0, 6), scale=b.uniform(0.85, 1.1), motion=motion))
            b.add_to_caption("person", motion)
        else:
            b.add_random_solid((x, 0.0, z), b.uniform(*size), travel=0.7, rest_probability=0.3)


def sample_clutter(rng: np.random.Generator) -> Scene:
    """Many objects on a table or on the ground, seen from above; the scale ranges from a desk to a yard."""
    b = Builder(rng)
    scale = float(np.exp(b.uniform(np.log(0.5), np.log(4.0))))
    count = int(rng.integers(6, 26))
    spread = (b.uniform(0.4, 0.8) * scale, b.uniform(0.3, 0.8) * scale)
    ground_height = 0.0
    indoor = rng.random() < 0.65
    sky = None
    if rng.random() < 0.6:  # on a table
        ground_height = b.uniform(0.5, 0.9) * scale
        slab = (spread[0] * b.uniform(0.95, 1.6), 0.03 * scale, spread[1] * b.uniform(0.95, 1.6))
        b.add(
            "box",
            slab,
            (0, ground_height - slab[1], 0),
            b.finish(objects.WOOD if rng.random() < 0.5 else None, patterns=FLOOR_PATTERNS, cell=0.3 * scale),
        )
        if rng.random() < 0.5:
            for across in (-1, 1):
                for ahead in (-1, 1):
                    leg = (0.04 * scale, ground_height / 2, 0.04 * scale)
                    b.add(
                        "box",
                        leg,
                        (across * slab[0] * 0.9, ground_height / 2, ahead * slab[2] * 0.9),
                        b.material_finish(objects.WOOD),
                    )
    distance = b.uniform(0.9, 2.2) * scale
    pitch = b.uniform(0.12, 1.05)
    target = (b.uniform(-0.2, 0.2) * scale, ground_height + b.uniform(0.0, 0.15) * scale, b.uniform(-0.1, 0.2) * scale)
    heading = b.uniform(-0.8, 0.8)
    position = (
        target[0] - distance * np.cos(pitch) * np.sin(heading),
        target[1] + distance * np.sin(pitch),
        target[2] - distance * np.cos(pitch) * np.cos(heading),
    )
    half = (
        max(abs(position[0]) + 0.4, b.uniform(1.0, 2.5) * scale),
        max(position[1] + 0.3, b.uniform(1.2, 2.6) * scale) / 2,
        max(abs(position[2]) + 0.4, b.uniform(0.9, 2.5) * scale),
    )
    if indoor:
        _, floor = add_room_shell(b, half)
        _add_wall_fixtures(b, half)
        lamp = sample_room_light(b, half)
        place = f"In a room with {article(floor)} floor"
    else:
        floor, color = b.color()
        sky_name, sky = sample_sky(b, b.uniform(4, 12) * scale)
        radius = sky.radius
        b.add(
            "box",
            (radius, 0.05, radius),
            (0, -0.05, 0),
            b.finish(color, patterns=(*FLOOR_PATTERNS, "noise"), cell=0.5 * scale),
        )
        lamp = sample_sun(rng)
        place = f"Outdoors on {floor} ground under {article(sky_name)} sky"
        if rng.random() < 0.4:
            b.add(
                "box",
                (6 * scale, b.uniform(0.4, 1.5) * scale, 0.1),
                (0, 0, b.uniform(0.9, 2.5) * scale),
                b.finish(cell=0.4 * scale),
            )
    free = FreeSpace()
    for _ in range(3 * count):
        if len(free.reserved) >= count:
            break
        x, z = b.uniform(-1, 1) * spread[0], b.uniform(-1, 1) * spread[1]
        size = b.uniform(0.03, 0.13) * scale
        if not free.reserve(x, z, size):
            continue
        at = (x, ground_height, z)
        if rng.random() < 0.4:
            name = str(rng.choice(list(objects.SMALL_OBJECTS)))
            motion = b.sample_motion(at, (size,) * 3, travel=0.2 * scale, rest_probability=0.85)
            objects.SMALL_OBJECTS[name](b.group(at, yaw=b.uniform(0, 6), scale=size / 0.08, motion=motion))
            b.add_to_caption(name, motion)
        else:
            b.add_random_solid(at, size, travel=0.3 * scale, rest_probability=0.75)
            if rng.random() < 0.2:  # stack a second solid on top
                last = b.solids[-1]
                if last.motion.motion == "rest" and last.shape in ("box", "cylinder"):
                    b.add_random_solid((x, ground_height + 2 * float(last.half[1]), z), 0.7 * size)
    camera = sample_camera(rng, position, target, focal=sample_focal(rng))
    return Scene(
        solids=tuple(b.solids), camera=camera, light_position=lamp, ambient=b.uniform(0.3, 0.65), sky=sky, place=place,
        captioned_objects=tuple(b.captioned_objects), tags=("indoor" if indoor else "outdoor",),
    )  # fmt: skip


def sample_corridor(rng: np.random.Generator) -> Scene:
    """A corridor with doors, pillars and ceiling lights, seen along its length."""
    b = Builder(rng)
    half = (b.uniform(0.7, 2.2), b.uniform(1.1, 1.8), b.uniform(4.0, 14.0))
    wall, floor = add_room_shell(b, half, at=(0.0, half[2] - 1.5))
    length = 2 * half[2] - 1.5
    position = (b.uniform(-0.5, 0.5) * half[0], b.uniform(0.6, min(2.0, 2 * half[1] - 0.4)), 0.0)
    target = (b.uniform(-0.8, 0.8) * half[0], b.uniform(0.4, 1.6), b.uniform(2.5, 6.0))
    door = b.finish(cell=0.3)
    step = b.uniform(1.2, 3.0)
    for side in (-1, 1):
        for z in np.arange(b.uniform(0.5, 2.5), length, step):
            if rng.random() < 0.7:
                b.add("box", (0.04, 1.0, 0.42), (side * half[0], 1.0, z), door)
    if rng.random() < 0.5:
        pillar, shape = b.finish(cell=0.4), str(rng.choice(["box", "cylinder"]))
        for z in np.arange(b.uniform(1.5, 3.0), length, b.uniform(1.5, 3.5)):
            for side in (-1, 1):
                b.add(shape, (0.12, half[1], 0.12), (side * (half[0] - 0.12), half[1], z), pillar)
    light = Finish(pattern="plain", first=(0.98, 0.97, 0.9), second=(1, 1, 1))
    if rng.random() < 0.6:
        for z in np.arange(1.0, length, b.uniform(1.5, 3.5)):
            b.add("box", (b.uniform(0.15, 0.3), 0.02, 0.4), (0, 2 * half[1], z), light, emissive=True)
    if rng.random() < 0.5:  # baseboards
        for side in (-1, 1):
            b.add("box", (0.03, b.uniform(0.05, 0.5), length), (side * half[0], 0.05, 0), b.material_finish())
    free = FreeSpace((position[0], 0.0, 1.2))
    for _ in range(int(rng.integers(0, 6))):
        x, z = float(rng.choice([-1, 1])) * (half[0] - 0.35), b.uniform(1.5, min(length, 10.0))
        if free.reserve(x, z, 0.5):
            name = str(rng.choice(["chair", "cabinet", "plant", "shelf", "lamp"]))
            objects.FURNITURE[name](b.group((x, 0.0, z), yaw=np.pi / 2 if x < 0 else -np.pi / 2, scale=0.9))
    for _ in range(int(rng.integers(1, 4))):
        x, z = b.uniform(-0.6, 0.6) * half[0], b.uniform(1.8, min(length, 8.0))
        if free.reserve(x, z, 0.4):
            if rng.random() < 0.4:
                motion = b.sample_motion((x, 0, z), (0.3, 0.85, 0.3), travel=0.8, rest_probability=0.3)
                objects.person(b.group((x, 0.0, z), yaw=b.uniform(0, 6), motion=motion))
                b.add_to_caption("person", motion)
            else:
                b.add_random_solid((x, 0.0, z), b.uniform(0.12, 0.35), travel=0.6, rest_probability=0.3)
    lamp = np.array([0.0, -1.9 * half[1], b.uniform(0.0, 6.0)])
    camera = sample_camera(rng, position, target, focal=sample_focal(rng, 0.6, 1.6))
    return Scene(
        solids=tuple(b.solids), camera=camera, light_position=lamp, ambient=b.uniform(0.45, 0.75),
        place=f"In a room with {wall} walls and {article(floor)} floor", captioned_objects=tuple(b.captioned_objects),
        tags=("indoor",),
    )  # fmt: skip
