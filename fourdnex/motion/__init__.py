"""Motion in a scene: segmentation of moving pixels, and point tracking through all frames."""

from fourdnex.motion.region_growing import moving_region
from fourdnex.motion.segmentation import StaticPoints, moving_pixels, static_points
from fourdnex.motion.sparse import sparse_tracks, with_tracks
from fourdnex.motion.tracker import track_scene

__all__ = [
    "StaticPoints",
    "moving_pixels",
    "moving_region",
    "sparse_tracks",
    "static_points",
    "track_scene",
    "with_tracks",
]
