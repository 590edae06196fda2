"""Rendering of procedural worlds: seeded 4D scenes with exact color, depth, cameras, dynamic mask and caption.

`render_world(seed)` samples a scene and renders it by analytic ray casting. Worlds of the family `primitives` use
`scenes.sample_world` and `raycast.cast`; all other families use `families.sample_scene` and
`raycast_solids.cast_scene`. A seed gives the same world on every machine. Its bytes are identical with the same NumPy
version on the same processor type (vectorized sines differ in the last digit).

Seeds in `HELD_OUT_SEEDS`, of every family, are for evaluation only: `training_seeds` never yields them. The families in
`families.HELD_OUT_FAMILIES` are for evaluation only, with all their seeds.
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

    Depth is z in the camera frame, in meters. Every ray hits a surface (the sky is a distant dome), so all pixels are
    valid and `confidence` is 1. The world frame is that of the first camera. Motion spans the clip: more frames sample
    the same motion more finely. All aspect ratios show the same world.

    Raises:
        ValueError: a size that is not positive, a negative seed, or an unknown family.
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
        moves = any(motion.motion != "rest" for _, motion in scene.captioned_objects)
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
    """Clip name of a world: "world-{family}-{seed:09d}", without the family for `primitives`."""
    return f"world-{seed:09d}" if family == PRIMITIVES else f"world-{family}-{seed:09d}"


def world_seed(name: str) -> int:
    """Seed of a world from its clip name.

    Raises:
        ValueError: not a name of the form that `world_name` returns.
    """
    return _parse_name(name)[1]


def world_family(name: str) -> str:
    """Family of a world from its clip name.

    Raises:
        ValueError: not a name of the form that `world_name` returns.
    """
    return _parse_name(name)[0]


def _parse_name(name: str) -> tuple[str, int]:
    """Family and seed of a clip name."""
    match = re.fullmatch(r"world-(?:([a-z]+)-)?([0-9]+)", name)
    if match is None or match[1] not in (None, *SAMPLERS):
        raise ValueError(f"name: expected 'world-<nine digits>' or 'world-<family>-<nine digits>', got {name!r}")
    return match[1] or PRIMITIVES, int(match[2])


def is_held_out(seed: int) -> bool:
    """Whether `seed` is reserved for evaluation."""
    return seed in HELD_OUT_SEEDS


def training_seeds(start: int, count: int) -> Iterator[int]:
    """`count` consecutive seeds from `start` on, skipping the held-out ones."""
    seed = start
    while count > 0:
        if not is_held_out(seed):
            yield seed
            count -= 1
        seed += 1
