"""The held-out families: courtyards with columns and warehouses of stacked crates, both with checkered surfaces.

They are never used for training, so they measure generalization to unseen scene layouts.
"""

from __future__ import annotations

import numpy as np

from fourdnex.datasets.worlds.builder import Builder
from fourdnex.datasets.worlds.camera_placement import sample_camera, sample_focal, sample_sky, sample_sun
from fourdnex.datasets.worlds.captions import article
from fourdnex.datasets.worlds.finishes import Finish
from fourdnex.datasets.worlds.solids import Scene, tilt_matrix


def sample_courtyard(rng: np.random.Generator) -> Scene:
    """A courtyard with columns, often with steps and a fountain, seen from one end at eye level or from above."""
    b = Builder(rng)
    half = (b.uniform(2.5, 5.5), b.uniform(1.0, 2.6), b.uniform(3.0, 6.5))
    wall, wall_color = b.color()
    floor, floor_color = b.color()
    plain = b.material_finish()
    b.add(
        "shell", half, (0, half[1], 0), _checkers(b, wall_color, 0.6), top=_checkers(b, floor_color, 0.8), open_top=True
    )
    _colonnade(b, half, plain)
    if rng.random() < 0.6:
        _steps(b, (b.uniform(-0.4, 0.4) * half[0], 0.75 * half[2]), min(half[0], 2.0))
    if rng.random() < 0.6:
        _fountain(b, (b.uniform(-0.4, 0.4) * half[0], b.uniform(-0.2, 0.4) * half[2]))
    for _ in range(int(rng.integers(1, 5))):
        at = (b.uniform(-0.6, 0.6) * half[0], 0.0, b.uniform(-0.4, 0.6) * half[2])
        b.add_random_solid(at, b.uniform(0.2, 0.5), travel=1.2, rest_probability=0.3)
    position = (b.uniform(-0.5, 0.5) * half[0], b.uniform(0.9, 3.0), -0.85 * half[2])
    target = (b.uniform(-0.4, 0.4) * half[0], b.uniform(0.0, 1.0), b.uniform(0.0, 0.7) * half[2])
    sky_name, sky = sample_sky(b, b.uniform(1.5, 3.0) * (half[0] + half[2]))
    return Scene(
        solids=tuple(b.solids), camera=sample_camera(rng, position, target, focal=sample_focal(rng, 0.6, 1.6)),
        light_position=sample_sun(rng), ambient=b.uniform(0.35, 0.6), sky=sky,
        place=f"In a courtyard with {wall} walls and {article(floor)} floor under {article(sky_name)} sky",
        captioned_objects=tuple(b.captioned_objects), tags=("outdoor",),
    )  # fmt: skip


def sample_warehouse(rng: np.random.Generator) -> Scene:
    """A hall of stacked crates with pipes under the ceiling, seen from the ground or from a gallery."""
    b = Builder(rng)
    half = (b.uniform(3.0, 7.0), b.uniform(1.6, 3.5), b.uniform(3.0, 7.0))
    wall, wall_color = b.color()
    floor, floor_color = b.color()
    walls = _checkers(b, wall_color, 1.0)
    b.add("shell", half, (0, half[1], 0), walls, top=_checkers(b, floor_color, 0.7), bottom=b.material_finish())
    position = (
        b.uniform(-0.8, 0.8) * half[0],
        b.uniform(0.5, min(4.0, 1.7 * half[1])),
        b.uniform(-0.85, -0.3) * half[2],
    )
    crates = [_checkers(b, b.color()[1], b.uniform(0.15, 0.4)) for _ in range(3)]
    spacing, angle = b.uniform(0.8, 1.6), b.uniform(0, np.pi / 2)
    for i in range(-8, 9):
        for j in range(-8, 9):
            x = spacing * (i * np.cos(angle) - j * np.sin(angle))
            z = spacing * (i * np.sin(angle) + j * np.cos(angle))
            inside = abs(x) < half[0] - 0.6 and abs(z) < half[2] - 0.6
            if not inside or np.hypot(x - position[0], z - position[2]) < 1.4 or rng.random() > 0.4:
                continue
            height = 0.0
            for _ in range(int(rng.integers(1, 4))):
                size = 0.5 * spacing * b.uniform(0.4, 0.85)
                tall = size * b.uniform(0.5, 1.0)
                b.add(
                    "box",
                    (size, tall, size),
                    (x, height + tall, z),
                    crates[int(rng.integers(3))],
                    yaw=-angle + b.uniform(-0.2, 0.2),
                )
                height += 2 * tall
                if height > 1.6 * half[1]:
                    break
    for _ in range(int(rng.integers(0, 5))):  # pipes under the ceiling
        at = (b.uniform(-0.5, 0.5) * half[0], b.uniform(1.3, 1.9) * half[1], b.uniform(-0.5, 0.8) * half[2])
        b.add("cylinder", (0.12, half[0], 0.12), at, b.material_finish(), rotation=tilt_matrix(0.0, np.pi / 2))
    for _ in range(int(rng.integers(1, 4))):
        at = (position[0] + b.uniform(-1.0, 1.0), 0.0, position[2] + b.uniform(1.2, 3.0))
        b.add_random_solid(at, b.uniform(0.12, 0.35), travel=1.2, rest_probability=0.3)
    target = (b.uniform(-1.0, 1.0) * half[0], b.uniform(0.0, 1.2), b.uniform(0.0, 0.9) * half[2])
    return Scene(
        solids=tuple(b.solids), camera=sample_camera(rng, position, target, focal=sample_focal(rng)),
        light_position=np.array([0.0, -1.95 * half[1], 0.0]), ambient=b.uniform(0.35, 0.6),
        place=f"In a warehouse with {wall} walls and {article(floor)} floor",
        captioned_objects=tuple(b.captioned_objects), tags=("indoor",),
    )  # fmt: skip


def _checkers(b: Builder, color: tuple[float, float, float], cell: float) -> Finish:
    """Checkers of `color` and its complement."""
    other = tuple(np.clip(1.1 - np.array(color), 0.05, 0.95))
    return Finish(
        pattern="checks",
        first=color,
        second=other,
        cell=cell * b.uniform(0.6, 1.5),
        offset=(b.uniform(0, 1), b.uniform(0, 1)),
    )


def _colonnade(b: Builder, half: tuple[float, float, float], finish: Finish) -> None:
    """Columns along the walls, with beams on top of them."""
    height, inset, thick = b.uniform(0.6, 0.95) * half[1], b.uniform(0.6, 1.0), b.uniform(0.1, 0.22)
    step = b.uniform(1.0, 2.0)
    is_round = b.rng.random() < 0.7
    for side in (-1, 1):
        x = side * (half[0] - inset)
        for z in np.arange(-0.5 * half[2], half[2] - inset, step):
            b.add("cylinder" if is_round else "box", (thick, height, thick), (x, height, z), finish)
        b.add("box", (1.3 * thick, 0.1, 0.75 * half[2]), (x, 2 * height, 0.25 * half[2]), finish)
    for x in np.arange(-half[0] + inset, half[0] - inset + 0.1, step):
        b.add("cylinder" if is_round else "box", (thick, height, thick), (x, height, half[2] - inset), finish)
    b.add("box", (half[0] - inset, 0.1, 1.3 * thick), (0, 2 * height, half[2] - inset), finish)


def _steps(b: Builder, at: tuple[float, float], width: float) -> None:
    """Stacked steps that narrow toward the top, centered at (x, z)."""
    finish, rise = _checkers(b, b.color()[1], 0.3), b.uniform(0.12, 0.25)
    for step in range(int(b.rng.integers(2, 6))):
        size = width * (1 - 0.17 * step)
        b.add("box", (size, rise / 2, 0.6 * size), (at[0], rise * (step + 0.5), at[1]), finish)


def _fountain(b: Builder, at: tuple[float, float]) -> None:
    """A fountain of two basins, centered at (x, z)."""
    stone, water = b.material_finish(), b.material_finish((0.3, 0.5, 0.65))
    radius = b.uniform(0.5, 1.1)
    b.add("cylinder", (radius, 0.2, radius), (at[0], 0.2, at[1]), stone, top=water)
    b.add("cylinder", (0.12, 0.5, 0.12), (at[0], 0.7, at[1]), stone)
    b.add("cylinder", (0.5 * radius, 0.06, 0.5 * radius), (at[0], 1.2, at[1]), stone, top=water)
    b.add("ellipsoid", (0.18, 0.18, 0.18), (at[0], 1.4, at[1]), stone)
