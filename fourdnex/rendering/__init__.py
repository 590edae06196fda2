"""Scenes as pictures: new views by point splatting, previews, camera paths."""

from fourdnex.rendering.preview import colourise_depth, contact_sheet, preview_image, xyz_to_rgb
from fourdnex.rendering.splat import Splat, render_frame, render_video, splat_points
from fourdnex.rendering.trajectories import look_at, orbit, scene_pivot, swing, turntable

__all__ = [
    "Splat",
    "colourise_depth",
    "contact_sheet",
    "look_at",
    "orbit",
    "preview_image",
    "render_frame",
    "render_video",
    "scene_pivot",
    "splat_points",
    "swing",
    "turntable",
    "xyz_to_rgb",
]
