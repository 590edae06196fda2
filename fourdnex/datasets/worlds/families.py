"""Families of procedural worlds, and which of them are used for training.

The family `primitives` is sampled by `scenes.sample_world`. Every other family has a sampler that draws a `Scene`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fourdnex.datasets.worlds.held_out_families import sample_courtyard, sample_warehouse
from fourdnex.datasets.worlds.indoor_families import sample_clutter, sample_corridor, sample_room
from fourdnex.datasets.worlds.outdoor_families import sample_jumble, sample_street, sample_terrain
from fourdnex.datasets.worlds.raycast_solids import cast_scene
from fourdnex.datasets.worlds.solids import Scene

PRIMITIVES = "primitives"
SAMPLERS: dict[str, Callable[[np.random.Generator], Scene]] = {
    "rooms": sample_room,
    "clutter": sample_clutter,
    "corridor": sample_corridor,
    "terrain": sample_terrain,
    "street": sample_street,
    "jumble": sample_jumble,
    "courtyard": sample_courtyard,
    "warehouse": sample_warehouse,
}
FAMILIES = (PRIMITIVES, *SAMPLERS)
HELD_OUT_FAMILIES = ("courtyard", "warehouse")
"""Used for evaluation only."""
TRAINING_FAMILIES = tuple(family for family in FAMILIES if family not in HELD_OUT_FAMILIES)
_ATTEMPTS = 30


def sample_scene(family: str, seed: int) -> Scene:
    """Draw the scene of `seed`; the same seed always gives the same scene.

    Scenes without any motion are rejected and drawn again, and so are scenes in which a surface is close to the lens or
    fills the image.

    Raises:
        ValueError: unknown family.
    """
    if family not in SAMPLERS:
        raise ValueError(f"family: expected one of {', '.join(SAMPLERS)}, got {family!r}")
    salt = int.from_bytes(family.encode()[:6], "big")
    scene = None
    for attempt in range(_ATTEMPTS):
        scene = SAMPLERS[family](np.random.default_rng([salt, seed, attempt]))
        moves = scene.camera.motion != "still" or any(solid.motion.motion != "rest" for solid in scene.solids)
        if moves and _is_clear(scene):
            break
    assert scene is not None
    return scene


def _is_clear(scene: Scene) -> bool:
    """Whether the view is unobstructed and has enough depth range over the whole clip, at any aspect ratio."""
    frames = cast_scene(scene, num_frames=5, height=20, width=20, focal=16 * scene.camera.focal, with_rgb=False)
    depth = frames.depth.reshape(len(frames.depth), -1)
    middle = np.median(depth, axis=1)
    if not (depth.max() < 1e3 and (depth.min(axis=1) > 0.12 * middle).all() and depth.min() > 0.1):
        return False
    low, high = np.percentile(depth, [5, 95], axis=1)
    return bool((high > 1.35 * low).all() and (np.percentile(depth, 2, axis=1) > 0.2 * middle).all())
