"""Procedural worlds: seeded 4D scenes with exact color, depth, cameras, dynamic mask and caption."""

from fourdnex.datasets.worlds.render import (
    HEIGHT,
    HELD_OUT_SEEDS,
    NUM_FRAMES,
    WIDTH,
    is_held_out,
    render_world,
    training_seeds,
    world_family,
    world_name,
    world_seed,
)

__all__ = [
    "HEIGHT",
    "HELD_OUT_SEEDS",
    "NUM_FRAMES",
    "WIDTH",
    "is_held_out",
    "render_world",
    "training_seeds",
    "world_family",
    "world_name",
    "world_seed",
]
