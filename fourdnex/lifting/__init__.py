"""Scenes at the resolution of their photograph: its detail, warped to every frame that shows it."""

from fourdnex.lifting.depth import upsample_depth
from fourdnex.lifting.resolution import Resolution, affordable_size, lifted_size, parse_resolution, resolution_identity
from fourdnex.lifting.scene import lift_scene

__all__ = [
    "Resolution",
    "affordable_size",
    "lift_scene",
    "lifted_size",
    "parse_resolution",
    "resolution_identity",
    "upsample_depth",
]
