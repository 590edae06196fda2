"""A frame of a scene seen from any camera, as it is: holes stay holes. See `novel_views` for filled ones."""

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
    """View of the point cloud at frame `t` from a camera [4, 4].

    From the frame's own camera this is the frame itself, but for pixels that float at depth edges.

    Args:
        intrinsics: [3, 3] in pixels of the scene's frames; the scene's own lens by default.
        zoom: size of the image, in sizes of the scene's frames.
    """
    surface = Surface(scene, t, zoom=zoom, min_confidence=min_confidence, device=device)
    lens = scene.intrinsics if intrinsics is None else intrinsics
    image, depth = surface.look(camera_to_world, lens, background)
    return Splat(image.cpu().numpy(), depth.cpu().numpy())
