"""Objects of the worlds: each function adds the solids of one object to a group, at real-world size in meters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fourdnex.datasets.worlds.builder import Group
from fourdnex.datasets.worlds.finishes import Finish
from fourdnex.datasets.worlds.scenes import COLORS
from fourdnex.datasets.worlds.solids import tilt_matrix

WOOD = (0.55, 0.38, 0.22)
LEAF = (0.22, 0.45, 0.18)
BARK = (0.36, 0.26, 0.18)
SKIN = (0.80, 0.60, 0.47)
_LYING = tilt_matrix(0.0, np.pi / 2)
"""Rotates the upright axis of a shape to its x axis."""


def _legs(group: Group, width: float, depth: float, height: float, finish: Finish, thick: float = 0.03) -> None:
    """Four legs below a seat or a table top of half extents `width` and `depth`."""
    shape = str(group.builder.rng.choice(["box", "cylinder"]))
    for x in (-1, 1):
        for z in (-1, 1):
            at = (x * (width - thick), height / 2, z * (depth - thick))
            group.add(shape, (thick, height / 2, thick), at, finish)


def table(group: Group) -> None:
    """A table, sometimes with small objects on it."""
    b = group.builder
    width, depth, height = b.uniform(0.4, 0.9), b.uniform(0.3, 0.5), b.uniform(0.45, 0.8)
    finish = b.finish(WOOD if b.rng.random() < 0.5 else None, cell=0.25)
    round_top = b.rng.random() < 0.25
    group.add("cylinder" if round_top else "box", (width, 0.025, width if round_top else depth), (0, height, 0), finish)
    if round_top:
        group.add("cylinder", (0.05, height / 2, 0.05), (0, height / 2, 0), b.material_finish())
    else:
        _legs(group, width, depth, height, b.material_finish(WOOD))
    for _ in range(int(b.rng.integers(0, 4))):
        x, up, z = _point_above(group, height + 0.025)
        at = (x + b.uniform(-0.25, 0.25), up, z + b.uniform(-0.25, 0.25))
        SMALL_OBJECTS[str(b.rng.choice(list(SMALL_OBJECTS)))](
            b.group(at, yaw=b.uniform(0, 6), scale=b.uniform(0.8, 1.5))
        )


def chair(group: Group) -> None:
    """A chair that faces its +z axis."""
    b = group.builder
    finish, seat = b.material_finish(WOOD if b.rng.random() < 0.5 else None), b.uniform(0.42, 0.5)
    group.add("box", (0.22, 0.025, 0.22), (0, seat, 0), finish)
    group.add("box", (0.22, b.uniform(0.18, 0.28), 0.02), (0, seat + 0.25, -0.2), finish)
    _legs(group, 0.22, 0.22, seat, finish, 0.02)


def sofa(group: Group) -> None:
    """A sofa, sometimes with a cushion."""
    b = group.builder
    width, finish = b.uniform(0.5, 1.1), b.finish(cell=0.2)
    group.add("box", (width, 0.2, 0.4), (0, 0.2, 0), finish)
    group.add("box", (width, 0.4, 0.1), (0, 0.4, -0.4), finish)
    for side in (-1, 1):
        group.add("box", (0.1, 0.3, 0.45), (side * width, 0.3, 0), finish)
    if b.rng.random() < 0.6:
        group.add("box", (0.2, 0.18, 0.08), (width * b.uniform(-0.6, 0.6), 0.55, -0.2), b.finish(cell=0.1))


def shelf(group: Group) -> None:
    """A shelf with books between two side panels."""
    b = group.builder
    width, boards, gap = b.uniform(0.3, 0.7), int(b.rng.integers(2, 5)), b.uniform(0.3, 0.42)
    finish = b.material_finish(WOOD if b.rng.random() < 0.6 else None)
    height = boards * gap
    for side in (-1, 1):
        group.add("box", (0.02, height / 2, 0.16), (side * width, height / 2, 0), finish)
    group.add("box", (width, height / 2, 0.01), (0, height / 2, -0.15), b.material_finish())
    for board in range(boards + 1):
        group.add("box", (width, 0.015, 0.16), (0, board * gap, 0), finish)
        if board < boards and b.rng.random() < 0.8:
            size = b.uniform(0.1, 0.9) * width
            books = b.finish(patterns=("stripes", "tiles", "planks"), cell=0.06)
            group.add(
                "box",
                (size, gap * b.uniform(0.25, 0.4), 0.1),
                (b.uniform(-1, 1) * (width - size), board * gap + gap * 0.35, 0),
                books,
            )


def cabinet(group: Group) -> None:
    """A cabinet, sometimes with a solid on top."""
    b = group.builder
    half = (b.uniform(0.25, 0.7), b.uniform(0.3, 1.0), b.uniform(0.2, 0.35))
    group.add(
        "box",
        half,
        (0, half[1], 0),
        b.finish(patterns=("plain", "tiles", "planks", "stripes"), cell=0.4),
        top=b.material_finish(),
    )
    if b.rng.random() < 0.5:
        b.add_random_solid(_point_above(group, 2 * half[1]), 0.1)


def bed(group: Group) -> None:
    """A bed with a headboard and a pillow."""
    b = group.builder
    width, finish = b.uniform(0.45, 0.9), b.material_finish(WOOD)
    group.add("box", (width, 0.15, 1.0), (0, 0.15, 0), finish)
    group.add("box", (width * 0.97, 0.1, 0.97), (0, 0.38, 0), b.finish(cell=0.3))
    group.add("box", (width, 0.4, 0.03), (0, 0.4, -1.0), finish)
    group.add("ellipsoid", (width * 0.45, 0.09, 0.22), (0, 0.52, -0.7), b.material_finish(COLORS["white"]))


def lamp(group: Group) -> None:
    """A standing lamp; half of them are emissive."""
    b = group.builder
    height = b.uniform(0.5, 1.6)
    group.add("cylinder", (0.14, 0.02, 0.14), (0, 0.02, 0), b.material_finish())
    group.add("cylinder", (0.02, height / 2, 0.02), (0, height / 2, 0), b.material_finish())
    group.add(
        str(b.rng.choice(["cone", "cylinder", "ellipsoid"])),
        (0.2, 0.16, 0.2),
        (0, height, 0),
        b.material_finish((0.95, 0.88, 0.7)),
        emissive=bool(b.rng.random() < 0.5),
    )


def plant(group: Group) -> None:
    """A potted plant."""
    b = group.builder
    group.add("cylinder", (0.14, 0.15, 0.14), (0, 0.15, 0), b.material_finish())
    leaves = b.finish(LEAF, patterns=("noise", "dots", "plain"), cell=0.1)
    for _ in range(int(b.rng.integers(1, 5))):
        half = b.uniform(0.08, 0.22) * b.rng.uniform(0.6, 1.4, size=3)
        group.add("ellipsoid", half, (b.uniform(-0.15, 0.15), b.uniform(0.4, 0.75), b.uniform(-0.15, 0.15)), leaves)


def person(group: Group) -> None:
    """A person in mid-stride."""
    b = group.builder
    coat, trousers, skin = b.finish(cell=0.1), b.material_finish(), b.material_finish(SKIN)
    stride = b.uniform(0, 0.25)
    for side in (-1, 1):
        swing = tilt_matrix(side * stride, 0.0)
        group.add("cylinder", (0.08, 0.42, 0.08), (side * 0.1, 0.42, 0), trousers, rotation=swing)
        group.add(
            "cylinder",
            (0.05, 0.3, 0.05),
            (side * 0.26, 1.1, 0),
            coat,
            rotation=tilt_matrix(-side * stride, side * -0.15),
        )
    group.add("ellipsoid", (0.22, 0.36, 0.14), (0, 1.12, 0), coat)
    group.add("ellipsoid", (0.11, 0.14, 0.12), (0, 1.6, 0), skin)
    group.add("ellipsoid", (0.115, 0.08, 0.125), (0, 1.68, -0.01), b.material_finish(BARK))


def tree(group: Group) -> None:
    """A deciduous tree or a fir."""
    b = group.builder
    tall = b.uniform(0.8, 2.2)
    group.add("cylinder", (0.08 * tall, tall / 2, 0.08 * tall), (0, tall / 2, 0), b.material_finish(BARK))
    leaves = b.finish(
        LEAF if b.rng.random() < 0.75 else None, patterns=("noise", "dots", "plain", "gradient"), cell=0.3
    )
    if b.rng.random() < 0.35:
        for i in range(3):
            width = b.uniform(0.6, 0.8) * (1 - 0.25 * i) * tall * 0.7
            group.add("cone", (width, 0.45 * tall, width), (0, tall * (0.8 + 0.45 * i), 0), leaves)
        return
    for _ in range(int(b.rng.integers(1, 5))):
        half = tall * b.uniform(0.25, 0.5) * b.rng.uniform(0.8, 1.2, size=3)
        at = (b.uniform(-0.35, 0.35) * tall, tall * b.uniform(1.0, 1.5), b.uniform(-0.35, 0.35) * tall)
        group.add("ellipsoid", half, at, leaves)


def rock(group: Group) -> None:
    """A pile of up to three rocks."""
    b = group.builder
    finish = b.finish((0.5, 0.48, 0.45), patterns=("noise", "plain", "dots"), cell=0.3)
    for _ in range(int(b.rng.integers(1, 4))):
        half = b.uniform(0.15, 0.5) * b.rng.uniform(0.6, 1.3, size=3)
        rotation = tilt_matrix(b.uniform(-0.4, 0.4), b.uniform(-0.4, 0.4))
        at = (b.uniform(-0.4, 0.4), half[1] * 0.5, b.uniform(-0.4, 0.4))
        group.add(str(b.rng.choice(["ellipsoid", "box"])), half, at, finish, rotation=rotation)


def car(group: Group) -> None:
    """A car that faces along its x axis."""
    b = group.builder
    paint, glass, tire = (
        b.material_finish(),
        b.material_finish((0.15, 0.2, 0.25)),
        b.material_finish((0.08, 0.08, 0.09)),
    )
    length, high = b.uniform(1.5, 2.3), b.uniform(0.25, 0.4)
    group.add("box", (length, high, 0.8), (0, 0.3 + high, 0), paint)
    group.add(
        "box",
        (length * b.uniform(0.45, 0.95), b.uniform(0.22, 0.5), 0.72),
        (-0.1, 0.3 + 2 * high + 0.22, 0),
        glass,
        top=paint,
    )
    for x in (-0.65, 0.65):
        for z in (-0.75, 0.75):
            wheel = tilt_matrix(np.pi / 2, 0.0)
            group.add("cylinder", (0.32, 0.1, 0.32), (x * length, 0.32, z), tire, rotation=wheel)


def house(group: Group) -> None:
    """A house with a gabled, hipped or flat roof."""
    b = group.builder
    half = (b.uniform(1.2, 2.5), b.uniform(1.0, 1.8), b.uniform(1.2, 2.2))
    walls = b.finish(patterns=("windows", "bricks", "plain", "planks"), cell=0.8)
    group.add("box", half, (0, half[1], 0), walls)
    roof = b.uniform(0.4, 0.9)
    shape = str(b.rng.choice(["prism", "pyramid", "box"]))
    tiles = b.finish(patterns=("bricks", "tiles", "plain", "stripes"), cell=0.3)
    group.add(
        shape,
        (half[0] * 1.1, roof if shape != "box" else 0.08, half[2] * 1.1),
        (0, 2 * half[1] + (roof if shape != "box" else 0.08), 0),
        tiles,
    )


def post(group: Group) -> None:
    """A post, often with a sign or a lantern."""
    b = group.builder
    height = b.uniform(0.8, 3.5)
    metal = b.material_finish((0.3, 0.3, 0.32))
    group.add("cylinder", (0.06, height / 2, 0.06), (0, height / 2, 0), metal)
    if b.rng.random() < 0.6:
        group.add("box", (b.uniform(0.15, 0.4), b.uniform(0.08, 0.3), 0.04), (0, height, 0), b.finish(cell=0.1))


def mug(group: Group) -> None:
    """A mug with a handle."""
    b = group.builder
    finish = b.finish(cell=0.05)
    group.add("cylinder", (0.06, 0.07, 0.06), (0, 0.07, 0), finish, top=b.material_finish(BARK))
    group.add("ellipsoid", (0.045, 0.04, 0.01), (0.07, 0.08, 0), finish)


def bottle(group: Group) -> None:
    """A bottle with a neck."""
    b = group.builder
    finish, height = b.material_finish(cell=0.1), b.uniform(0.07, 0.12)
    group.add("cylinder", (0.045, height, 0.045), (0, height, 0), finish, top=None)
    group.add("cone", (0.045, 0.06, 0.045), (0, 2 * height + 0.06, 0), finish)
    group.add("cylinder", (0.015, 0.04, 0.015), (0, 2 * height + 0.1, 0), b.material_finish())


def books(group: Group) -> None:
    """A stack of books."""
    b = group.builder
    height = 0.0
    for _ in range(int(b.rng.integers(1, 5))):
        thick = b.uniform(0.01, 0.03)
        half = (b.uniform(0.08, 0.13), thick, b.uniform(0.1, 0.16))
        group.add("box", half, (0, height + thick, 0), b.finish(cell=0.1), yaw=b.uniform(-0.4, 0.4))
        height += 2 * thick


def fruit(group: Group) -> None:
    """A plate with fruit."""
    b = group.builder
    group.add("cylinder", (0.15, 0.012, 0.15), (0, 0.012, 0), b.material_finish(COLORS["white"]))
    finish = b.material_finish()
    for _ in range(int(b.rng.integers(1, 5))):
        radius = b.uniform(0.03, 0.05)
        group.add("ellipsoid", (radius,) * 3, (b.uniform(-0.09, 0.09), 0.024 + radius, b.uniform(-0.09, 0.09)), finish)


def _point_above(group: Group, height: float) -> tuple[float, float, float]:
    """World position (x, height, z) above the origin of the group."""
    return group.at[0], group.at[1] + group.scale * height, group.at[2]


FURNITURE: dict[str, Callable[[Group], None]] = {
    "table": table, "chair": chair, "sofa": sofa, "shelf": shelf,
    "cabinet": cabinet, "bed": bed, "lamp": lamp, "plant": plant,
}  # fmt: skip
SMALL_OBJECTS: dict[str, Callable[[Group], None]] = {
    "mug": mug,
    "bottle": bottle,
    "book": books,
    "fruit": fruit,
    "plant": plant,
}
OUTDOOR_OBJECTS: dict[str, Callable[[Group], None]] = {
    "tree": tree,
    "rock": rock,
    "person": person,
    "post": post,
    "house": house,
    "car": car,
}
