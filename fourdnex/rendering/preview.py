"""Preview image of a scene."""

import numpy as np

from fourdnex.rendering.colormaps import colorize_depth
from fourdnex.rendering.contact_sheet import contact_sheet, enlarge
from fourdnex.rendering.trajectories import orbit, scene_pivot
from fourdnex.rendering.views import render_frame
from fourdnex.scene import Scene4D
from fourdnex.subsampling import subsample_scene


def preview_image(scene: Scene4D, *, panel_width: int = 320) -> np.ndarray:
    """Preview of a scene: first, middle and last frame above; depth and the point cloud from a novel view below.

    Returns:
        [H, W, 3] uint8; panels are about `panel_width` wide: small frames are enlarged by an integer factor, large ones
        are subsampled.
    """
    zoom = max(1, round(panel_width / scene.width))
    scene = subsample_scene(scene, max(1, round(scene.width / panel_width)))
    last, middle = scene.num_frames - 1, scene.num_frames // 2
    depth = colorize_depth(scene.depth)
    panels = [(scene.rgb[0], "frame 0"), (scene.rgb[middle], f"frame {middle}"), (scene.rgb[last], f"frame {last}")]
    panels += [(depth[0], "depth, frame 0"), (depth[last], f"depth, frame {last}")]
    images = [enlarge(image, zoom) for image, _ in panels]
    labels = [label for _, label in panels]
    if np.isfinite(scene.depth[last]).any():
        camera = orbit(scene.camera_to_world[last], scene_pivot(scene), np.array([-20.0]), 8.0)[0]
        images.append(render_frame(scene, last, camera, zoom=zoom).image)
    else:
        images.append(np.full_like(images[0], 255))
    labels.append(f"points, frame {last}, 20° to the right")
    return contact_sheet(images, 3, labels=labels)
