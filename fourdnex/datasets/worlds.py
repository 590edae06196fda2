"""Procedural worlds: seeded 4D scenes with exact colour, depth, cameras, dynamic mask and caption.

`render_world(seed)` samples a scene (`worlds_scenes.sample_world`) and renders it by analytic ray casting
(`worlds_raycast.cast`). The same seed gives the same world everywhere, and the same bytes with the same numpy
on the same kind of processor (its vector instructions decide the last digit of a sine).

Seeds in `HELD_OUT_SEEDS` are for evaluation only: `training_seeds` never yields them.
"""

from __future__ import annotations

from collections.abc import Iterator

from fourdnex.clip import Clip
from fourdnex.datasets.worlds_raycast import cast
from fourdnex.datasets.worlds_scenes import sample_world

HELD_OUT_SEEDS = range(900_000_000, 900_000_256)
NUM_FRAMES, HEIGHT, WIDTH = 17, 64, 96


def render_world(seed: int, *, num_frames: int = NUM_FRAMES, height: int = HEIGHT, width: int = WIDTH) -> Clip:
    """Render world `seed` as an exactly annotated clip.

    Depth is z in the camera's frame, in metres of the world; every ray ends (sky is painted on a far dome), so all
    pixels are valid and `confidence` is 1. The world frame is that of the first camera. Motion spans the clip: with
    more frames the same motion is sampled more finely.

    Raises:
        ValueError: if a size is not positive or the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"seed: expected a non-negative integer, got {seed}")
    for name, value in (("num_frames", num_frames), ("height", height), ("width", width)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    world = sample_world(seed)
    frames = cast(world, num_frames=num_frames, height=height, width=width)
    return Clip(
        name=world_name(seed),
        rgb=frames.rgb,
        caption=world.caption,
        subset="worlds",
        tags=world.tags,
        source=f"fourdnex procedural world, seed {seed}",
        licence="Apache-2.0",
        annotator="exact",
        depth=frames.depth,
        intrinsics=frames.intrinsics,
        camera_to_world=frames.camera_to_world,
        confidence=frames.confidence,
        dynamic_mask=frames.dynamic_mask,
    )


def world_name(seed: int) -> str:
    """Clip name of a world: `world-` and the seed in nine digits."""
    return f"world-{seed:09d}"


def world_seed(name: str) -> int:
    """Seed of a world's clip name.

    Raises:
        ValueError: if the name is not one that `world_name` writes.
    """
    prefix, _, digits = name.partition("-")
    if prefix != "world" or not digits.isdigit():
        raise ValueError(f"name: expected 'world-<nine digits>', got {name!r}")
    return int(digits)


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
