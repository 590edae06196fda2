"""Phrases of world captions: how the camera and the objects move, in which direction and how fast.

The phrases are training data: changing a word changes what the models are conditioned on.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from fourdnex.datasets.worlds.camera_motion import CameraMotion


class DescribableMotion(Protocol):
    """The properties of an object's motion that a caption describes, see `scenes.WorldObject`."""

    @property
    def motion(self) -> str:
        """One of `scenes.OBJECT_MOTIONS`."""

    @property
    def half(self) -> np.ndarray:
        """Half extents [3] of the object, meters."""

    @property
    def travel(self) -> np.ndarray:
        """Displacement [3] over the clip, meters, for "slide" and "bounce"."""

    @property
    def turns(self) -> float:
        """Signed revolutions over the clip, for "spin" and "orbit"."""

    @property
    def hops(self) -> float:
        """Arcs over the clip, for "bounce"."""


def article(word: str) -> str:
    """The word after its indefinite article."""
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def describe_camera_motion(camera: CameraMotion) -> str:
    """Verb, direction and speed of a camera motion; lengths are relative to the distance to the scene's middle."""
    if camera.motion == "still":
        return "stays still"
    verb, positive, negative = {
        "dolly": ("dollies", "in", "out"),
        "truck": ("trucks", "right", "left"),
        "pan": ("pans", "right", "left"),
        "orbit": ("orbits", "left", "right"),
    }[camera.motion]
    rotates = camera.motion in ("pan", "orbit")
    amount = abs(camera.amount) / (1.0 if rotates else camera.distance)
    slow, fast = {"pan": (0.19, 0.25), "orbit": (0.23, 0.32)}.get(camera.motion, (0.15, 0.20))
    return f"{verb} {positive if camera.amount > 0 else negative} {_speed_adverb(amount, slow, fast)}"


def describe_object_motion(item: DescribableMotion) -> str:
    """Verb, direction and speed of an object's motion.

    The speed is measured by the displacement in object widths, or by the revolutions or arcs, over the clip.
    """
    if item.motion == "rest":
        return "rests"
    if item.motion in ("spin", "orbit"):
        # The direction in which the near side moves ("spin"), or in which the object starts to move ("orbit").
        verb, positive, negative = ("spins", "left", "right") if item.motion == "spin" else ("circles", "right", "left")
        return f"{verb} {positive if item.turns > 0 else negative} {_speed_adverb(abs(item.turns), 0.23, 0.32)}"
    if item.motion == "bounce":
        return f"bounces {'right' if item.travel[0] > 0 else 'left'} {_speed_adverb(item.hops, 1.5, 2.0)}"
    right, forward = item.travel[0], item.travel[2]
    directions = ["right" if right > 0 else "left"] if abs(right) > 0.4 * abs(forward) else []
    directions += ["away" if forward > 0 else "closer"] if abs(forward) > 0.4 * abs(right) else []
    distance = float(np.hypot(right, forward) / (2 * item.half.max()))
    return f"slides {' and '.join(directions)} {_speed_adverb(distance, 0.65, 0.95)}"


def _speed_adverb(amount: float, slow: float, fast: float) -> str:
    """Adverb of a speed: slowly below `slow`, quickly above `fast`."""
    return "slowly" if amount < slow else "quickly" if amount > fast else "steadily"
