"""Rendering of scenes: novel views by point splatting, camera paths, inpainting, previews."""

from fourdnex.rendering.animation import check_animation_name, write_animation
from fourdnex.rendering.camera_files import load_path
from fourdnex.rendering.camera_path import CameraPath
from fourdnex.rendering.colormaps import colorize_depth, colorize_points
from fourdnex.rendering.contact_sheet import contact_sheet
from fourdnex.rendering.inpainting import DiffusersInpainter, Inpainter, OpenCVInpainter, inpainter
from fourdnex.rendering.named_paths import PATH_NAMES, named_path
from fourdnex.rendering.novel_views import NovelView, mask_name, novel_views, write_novel_views
from fourdnex.rendering.preview import preview_image
from fourdnex.rendering.splat import Splat
from fourdnex.rendering.surface import Surface, flying_pixels
from fourdnex.rendering.timing import views_and_rate
from fourdnex.rendering.trajectories import look_at, orbit, scene_pivot, swing, turntable
from fourdnex.rendering.views import render_frame

__all__ = [
    "PATH_NAMES",
    "CameraPath",
    "DiffusersInpainter",
    "Inpainter",
    "NovelView",
    "OpenCVInpainter",
    "Splat",
    "Surface",
    "check_animation_name",
    "colorize_depth",
    "colorize_points",
    "contact_sheet",
    "flying_pixels",
    "inpainter",
    "load_path",
    "look_at",
    "mask_name",
    "named_path",
    "novel_views",
    "orbit",
    "preview_image",
    "render_frame",
    "scene_pivot",
    "swing",
    "turntable",
    "views_and_rate",
    "write_animation",
    "write_novel_views",
]
