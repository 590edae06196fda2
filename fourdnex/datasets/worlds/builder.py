"""Puts solids together to things. Heights count upwards from the ground."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fourdnex.datasets.worlds.finishes import PATTERNS, Finish, sample_finish
from fourdnex.datasets.worlds.scenes import COLORS
from fourdnex.datasets.worlds.solids import REST, Motion, Solid, Vector, yaw_matrix

QUIET = ("plain", "plain", "plain", "gradient", "noise", "planks")
"""Patterns of things that are made of one material."""
Color = tuple[float, float, float]


class Builder:
    """Collects the solids of a scene, and what its caption tells of."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.solids: list[Solid] = []
        self.moving: list[tuple[str, Motion]] = []
        self.saturation = float(rng.choice([1.0, rng.uniform(0.15, 1.0)]))

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def color(self) -> tuple[str, Color]:
        """A color, as saturated as the scene is, and its name."""
        name = str(self.rng.choice(list(COLORS)))
        red, green, blue = COLORS[name]
        grey = (red + green + blue) / 3
        return name, (self._mixed(red, grey), self._mixed(green, grey), self._mixed(blue, grey))

    def _mixed(self, value: float, grey: float) -> float:
        return grey + self.saturation * (value - grey)

    def finish(self, color: Color | None = None, *, patterns: Sequence[str] = PATTERNS, cell: float = 0.3) -> Finish:
        return sample_finish(self.rng, color or self.color()[1], patterns=tuple(patterns), cell=cell)

    def quiet(self, color: Color | None = None, *, cell: float = 0.3) -> Finish:
        """A finish of one material."""
        return self.finish(color, patterns=QUIET, cell=cell)

    def add(
        self,
        shape: str,
        half: Vector,
        at: Vector,
        finish: Finish,
        *,
        yaw: float = 0.0,
        turn: np.ndarray | None = None,
        top: Finish | None = None,
        bottom: Finish | None = None,
        motion: Motion = REST,
        open_top: bool = False,
        glows: bool = False,
    ) -> None:
        """One solid; `at` is its center as (x, height, z)."""
        x, height, z = at
        self.solids.append(
            Solid(
                shape=shape,
                half=np.array(half, float),
                center=np.array([x, -height, z]),
                turn=yaw_matrix(yaw) if turn is None else turn,
                finish=finish,
                top=top,
                bottom=bottom,
                motion=motion,
                open_top=open_top,
                glows=glows,
            )
        )

    def group(self, at: Vector, *, yaw: float = 0.0, scale: float = 1.0, motion: Motion = REST) -> Group:
        """A thing of several solids that stands at (x, height, z) and moves as one."""
        return Group(self, at, yaw, scale, motion)

    def sample_motion(
        self, at: Vector, half: Vector, *, run: float, still: float = 0.5, slides: bool = False
    ) -> Motion:
        """How a thing at (x, height, z) moves, about `run` meters far; `slides`: along the ground, if at all."""
        rng = self.rng
        if rng.random() < still:
            return Motion(half=np.array(half, float))
        kind = "slide" if slides else str(rng.choice(["slide", "bounce", "spin", "orbit"], p=[0.45, 0.2, 0.15, 0.2]))
        center = np.array([at[0], -at[1], at[2]])
        heading, way = rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)
        length = run * rng.uniform(0.4, 1.2) * (0.5 if kind == "bounce" else 1.0)
        pivot = center.copy()
        if kind == "orbit":
            pivot += 0.5 * run * np.array([np.cos(way), 0.0, np.sin(way)])
        return Motion(
            motion=kind,
            travel=length * np.array([np.cos(heading), 0.0, np.sin(heading)]),
            turns=float(rng.choice([-1, 1]) * rng.uniform(0.15, 0.4)),
            hops=rng.uniform(1.0, 2.5),
            hop_height=rng.uniform(0.3, 1.0) * float(min(half[1] * 2, run)),
            pivot=pivot,
            half=np.array(half, float),
        )

    def tell(self, name: str, motion: Motion) -> None:
        """Let the caption tell of a thing; it tells of four at most."""
        if len(self.moving) < 4:
            self.moving.append((name, motion))

    def put_simple(self, at: Vector, size: float, *, run: float = 0.0, still: float = 0.5) -> None:
        """A single solid of about `size` (half extent) standing at (x, height, z)."""
        rng = self.rng
        shape = str(rng.choice(["box", "box", "ellipsoid", "cylinder", "cone", "prism", "pyramid"]))
        half = size * rng.uniform(0.5, 1.3, size=3)
        if shape in ("ellipsoid", "cylinder", "cone") and rng.random() < 0.7:
            half[2] = half[0]
        if shape == "ellipsoid" and rng.random() < 0.6:
            half[:] = half[0]
        name, color = self.color()
        center = (at[0], at[1] + half[1], at[2])
        motion = self.sample_motion(center, half, run=run, still=still) if run else Motion(half=half)
        noun = {"ellipsoid": "sphere", "prism": "box", "pyramid": "cone"}.get(shape, shape)
        self.add(shape, half, center, self.finish(color, cell=0.8 * size), yaw=self.uniform(0, np.pi), motion=motion)
        self.tell(f"{name} {noun}", motion)


class Group:
    """A thing of several solids with axes of its own, scaled as a whole."""

    def __init__(self, builder: Builder, at: Vector, yaw: float, scale: float, motion: Motion) -> None:
        self.builder, self.at, self.yaw, self.scale, self.motion = builder, at, yaw, scale, motion

    def add(
        self,
        shape: str,
        half: Vector,
        at: Vector,
        finish: Finish,
        *,
        yaw: float = 0.0,
        turn: np.ndarray | None = None,
        top: Finish | None = None,
        glows: bool = False,
    ) -> None:
        """A solid at (x, height, z) on the group's axes, before scaling."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        x, height, z = (self.scale * value for value in at)
        own = yaw_matrix(yaw) if turn is None else turn
        self.builder.add(
            shape,
            [self.scale * value for value in half],
            (self.at[0] + cos * x + sin * z, self.at[1] + height, self.at[2] - sin * x + cos * z),
            finish,
            turn=yaw_matrix(self.yaw) @ own,
            top=top,
            motion=self.motion,
            glows=glows,
        )
