"""Renders a single frame of a scene without filling holes; see `novel_views` for filled views."""

import numpy as np

from fourdnex.rendering.splat import Splat
from fourdnex.rendering.surface import Surface
from fourdnex.scene import Scene4D

WHITE = (255, 255, 255)


def render_frame(
    scene: Scene4D,
    t: int,
    camera_to_world: np.ndarray,
    *,
    intrinsics: np.ndarray | None = None,
    zoom: float = 1.0,
    min_confidence: float = 0.0,
    background: tuple[int, int, int] = WHITE,
    device: str = "cpu",
) -> Splat:
    """Render the point cloud of frame `t` from a camera [4, 4].

    The view from the frame's own camera is the frame itself, except for flying pixels.

    Args:
        intrinsics: [3, 3] in pixels of the scene's frames (default: the scene's).
        zoom: image size relative to the scene's frames.
        min_confidence: minimum confidence of rendered pixels.
        background: color of pixels without a point.
        device: torch device.
    """
    surface = Surface(scene, t, zoom=zoom, min_confidence=min_confidence, device=device)
    image, depth = surface.render(camera_to_world, scene.intrinsics if intrinsics is None else intrinsics, background)
    return Splat(image.cpu().numpy(), depth.cpu().numpy())
