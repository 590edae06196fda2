"""Assembles scenes from solids. Positions are (x, height, z) with heights above the ground, in meters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fourdnex.datasets.worlds.finishes import PATTERNS, Finish, sample_finish
from fourdnex.datasets.worlds.scenes import COLORS
from fourdnex.datasets.worlds.solids import REST, Motion, Solid, Vector, yaw_matrix

MATERIAL_PATTERNS = ("plain", "plain", "plain", "gradient", "noise", "planks")
"""Patterns of surfaces made of a single material."""
Color = tuple[float, float, float]


class Builder:
    """Collects the solids of a scene and the objects that its caption describes."""

    def __init__(self, rng: np.random.Generator) -> None:
        """An empty scene; draws the saturation of its colors."""
        self.rng = rng
        self.solids: list[Solid] = []
        self.captioned_objects: list[tuple[str, Motion]] = []
        self.saturation = float(rng.choice([1.0, rng.uniform(0.15, 1.0)]))

    def uniform(self, low: float, high: float) -> float:
        """A uniform random number between `low` and `high`."""
        return float(self.rng.uniform(low, high))

    def color(self) -> tuple[str, Color]:
        """Draw a color; returns its name and its RGB values at the saturation of the scene."""
        name = str(self.rng.choice(list(COLORS)))
        red, green, blue = COLORS[name]
        gray = (red + green + blue) / 3
        return name, (self._desaturate(red, gray), self._desaturate(green, gray), self._desaturate(blue, gray))

    def _desaturate(self, value: float, gray: float) -> float:
        """One channel blended with `gray` by the saturation of the scene."""
        return gray + self.saturation * (value - gray)

    def finish(self, color: Color | None = None, *, patterns: Sequence[str] = PATTERNS, cell: float = 0.3) -> Finish:
        """Draw a finish of `color` (None: a random color); `cell` is the typical pattern size in meters."""
        return sample_finish(self.rng, color or self.color()[1], patterns=tuple(patterns), cell=cell)

    def material_finish(self, color: Color | None = None, *, cell: float = 0.3) -> Finish:
        """Draw a finish of a single material, see `MATERIAL_PATTERNS`."""
        return self.finish(color, patterns=MATERIAL_PATTERNS, cell=cell)

    def add(
        self,
        shape: str,
        half: Vector,
        at: Vector,
        finish: Finish,
        *,
        yaw: float = 0.0,
        rotation: np.ndarray | None = None,
        top: Finish | None = None,
        bottom: Finish | None = None,
        motion: Motion = REST,
        open_top: bool = False,
        emissive: bool = False,
    ) -> None:
        """Add one solid with its center at (x, height, z); `half` are its half extents. See `Solid` for the rest."""
        x, height, z = at
        self.solids.append(
            Solid(
                shape=shape,
                half=np.array(half, float),
                center=np.array([x, -height, z]),
                rotation=yaw_matrix(yaw) if rotation is None else rotation,
                finish=finish,
                top=top,
                bottom=bottom,
                motion=motion,
                open_top=open_top,
                emissive=emissive,
            )
        )

    def group(self, at: Vector, *, yaw: float = 0.0, scale: float = 1.0, motion: Motion = REST) -> Group:
        """An object of several solids, placed at (x, height, z), whose solids share one motion."""
        return Group(self, at, yaw, scale, motion)

    def sample_motion(
        self, at: Vector, half: Vector, *, travel: float, rest_probability: float = 0.5, slide_only: bool = False
    ) -> Motion:
        """Draw the motion of an object at (x, height, z) with half extents `half`.

        Args:
            travel: typical displacement over the clip, meters.
            rest_probability: probability that the object does not move.
            slide_only: an object that moves slides along the ground.
        """
        rng = self.rng
        if rng.random() < rest_probability:
            return Motion(half=np.array(half, float))
        kind = (
            "slide" if slide_only else str(rng.choice(["slide", "bounce", "spin", "orbit"], p=[0.45, 0.2, 0.15, 0.2]))
        )
        center = np.array([at[0], -at[1], at[2]])
        heading, pivot_direction = rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)
        length = travel * rng.uniform(0.4, 1.2) * (0.5 if kind == "bounce" else 1.0)
        pivot = center.copy()
        if kind == "orbit":
            pivot += 0.5 * travel * np.array([np.cos(pivot_direction), 0.0, np.sin(pivot_direction)])
        return Motion(
            motion=kind,
            travel=length * np.array([np.cos(heading), 0.0, np.sin(heading)]),
            turns=float(rng.choice([-1, 1]) * rng.uniform(0.15, 0.4)),
            hops=rng.uniform(1.0, 2.5),
            hop_height=rng.uniform(0.3, 1.0) * float(min(half[1] * 2, travel)),
            pivot=pivot,
            half=np.array(half, float),
        )

    def add_to_caption(self, name: str, motion: Motion) -> None:
        """Describe an object and its motion in the caption, which describes at most the first four."""
        if len(self.captioned_objects) < 4:
            self.captioned_objects.append((name, motion))

    def add_random_solid(self, at: Vector, size: float, *, travel: float = 0.0, rest_probability: float = 0.5) -> None:
        """Add a random solid of about `size` (half extent) at (x, height, z), and describe it in the caption.

        It is static without `travel`; see `sample_motion`.
        """
        rng = self.rng
        shape = str(rng.choice(["box", "box", "ellipsoid", "cylinder", "cone", "prism", "pyramid"]))
        half = size * rng.uniform(0.5, 1.3, size=3)
        if shape in ("ellipsoid", "cylinder", "cone") and rng.random() < 0.7:
            half[2] = half[0]
        if shape == "ellipsoid" and rng.random() < 0.6:
            half[:] = half[0]
        name, color = self.color()
        center = (at[0], at[1] + half[1], at[2])
        motion = (
            self.sample_motion(center, half, travel=travel, rest_probability=rest_probability)
            if travel
            else Motion(half=half)
        )
        noun = {"ellipsoid": "sphere", "prism": "box", "pyramid": "cone"}.get(shape, shape)
        self.add(shape, half, center, self.finish(color, cell=0.8 * size), yaw=self.uniform(0, np.pi), motion=motion)
        self.add_to_caption(f"{name} {noun}", motion)


class Group:
    """An object of several solids in its own frame, with one scale and one motion."""

    def __init__(self, builder: Builder, at: Vector, yaw: float, scale: float, motion: Motion) -> None:
        """A group at (x, height, z) in a scene, rotated by `yaw` and scaled by `scale`."""
        self.builder, self.at, self.yaw, self.scale, self.motion = builder, at, yaw, scale, motion

    def add(
        self,
        shape: str,
        half: Vector,
        at: Vector,
        finish: Finish,
        *,
        yaw: float = 0.0,
        rotation: np.ndarray | None = None,
        top: Finish | None = None,
        emissive: bool = False,
    ) -> None:
        """Add a solid at (x, height, z) in the frame of the group, before scaling."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        x, height, z = (self.scale * value for value in at)
        local = yaw_matrix(yaw) if rotation is None else rotation
        self.builder.add(
            shape,
            [self.scale * value for value in half],
            (self.at[0] + cos * x + sin * z, self.at[1] + height, self.at[2] - sin * x + cos * z),
            finish,
            rotation=yaw_matrix(self.yaw) @ local,
            top=top,
            motion=self.motion,
            emissive=emissive,
        )
