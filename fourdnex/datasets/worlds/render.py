"""Procedural worlds: seeded 4D scenes with exact color, depth, cameras, dynamic mask and caption.

`render_world(seed)` samples a scene and renders it by analytic ray casting: of the family `primitives` by
`worlds_scenes.sample_world` and `worlds_raycast.cast`, of all others (`worlds_families`) by `sample_scene` and
`worlds_solidcast.cast_scene`. The same seed gives the same world everywhere, and the same bytes with the same numpy
on the same kind of processor (its vector instructions decide the last digit of a sine).

Seeds in `HELD_OUT_SEEDS` are for evaluation only, of every family: `training_seeds` never yields them. So are the
families in `HELD_OUT_FAMILIES`, with all their seeds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fourdnex.clip import Clip
from fourdnex.datasets.worlds.families import PRIMITIVES, SAMPLERS, sample_scene
from fourdnex.datasets.worlds.raycast import cast
from fourdnex.datasets.worlds.raycast_solids import cast_scene
from fourdnex.datasets.worlds.scenes import sample_world

HELD_OUT_SEEDS = range(900_000_000, 900_000_256)
NUM_FRAMES, HEIGHT, WIDTH = 17, 64, 96


def render_world(
    seed: int,
    *,
    family: str = PRIMITIVES,
    num_frames: int = NUM_FRAMES,
    height: int = HEIGHT,
    width: int = WIDTH,
) -> Clip:
    """Render world `seed` of a family as an exactly annotated clip.

    Depth is z in the camera's frame, in meters of the world; every ray ends (sky is painted on a far dome), so all
    pixels are valid and `confidence` is 1. The world frame is that of the first camera. Motion spans the clip: with
    more frames the same motion is sampled more finely. Sizes of another ratio show the same world.

    Raises:
        ValueError: if a size is not positive, the seed is negative, or there is no such family.
    """
    if seed < 0:
        raise ValueError(f"seed: expected a non-negative integer, got {seed}")
    for name, value in (("num_frames", num_frames), ("height", height), ("width", width)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    if family == PRIMITIVES:
        world = sample_world(seed)
        caption, tags = world.caption, world.tags
        frames = cast(world, num_frames=num_frames, height=height, width=width)
    else:
        scene = sample_scene(family, seed)
        moves = any(motion.motion != "rest" for _, motion in scene.moving)
        caption, tags = scene.caption, (*scene.tags, "dynamic" if moves else "static")
        tags += (f"camera-{scene.camera.motion}", family)
        frames = cast_scene(scene, num_frames=num_frames, height=height, width=width)
    return Clip(
        name=world_name(seed, family),
        rgb=frames.rgb,
        caption=caption,
        subset="worlds",
        tags=tags,
        source=f"fourdnex procedural world, seed {seed}" + (f" of {family}" if family != PRIMITIVES else ""),
        license="Apache-2.0",
        annotator="exact",
        depth=frames.depth,
        intrinsics=frames.intrinsics,
        camera_to_world=frames.camera_to_world,
        confidence=frames.confidence,
        dynamic_mask=frames.dynamic_mask,
    )


def world_name(seed: int, family: str = PRIMITIVES) -> str:
    """Clip name of a world: `world-`, the family unless it is `primitives`, and the seed in nine digits."""
    return f"world-{seed:09d}" if family == PRIMITIVES else f"world-{family}-{seed:09d}"


def world_seed(name: str) -> int:
    """Seed of a world's clip name.

    Raises:
        ValueError: if the name is not one that `world_name` writes.
    """
    return _parsed(name)[1]


def world_family(name: str) -> str:
    """Family of a world's clip name.

    Raises:
        ValueError: if the name is not one that `world_name` writes.
    """
    return _parsed(name)[0]


def _parsed(name: str) -> tuple[str, int]:
    match = re.fullmatch(r"world-(?:([a-z]+)-)?([0-9]+)", name)
    if match is None or match[1] not in (None, *SAMPLERS):
        raise ValueError(f"name: expected 'world-<nine digits>' or 'world-<family>-<nine digits>', got {name!r}")
    return match[1] or PRIMITIVES, int(match[2])


def is_held_out(seed: int) -> bool:
    """Whether `seed` belongs to the evaluation worlds, which no training may see."""
    return seed in HELD_OUT_SEEDS


def training_seeds(start: int, count: int) -> Iterator[int]:
    """`count` consecutive seeds from `start` on, stepping over the held-out ones."""
    seed = start
    while count > 0:
        if not is_held_out(seed):
            yield seed
            count -= 1
        seed += 1
