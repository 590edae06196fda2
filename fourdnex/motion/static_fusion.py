"""Points that stand still: where they are, from all frames that see them."""

import numpy as np

from fourdnex.geometry.cameras import grid_points, project
from fourdnex.motion.sampling import depth_at, points_at
from fourdnex.motion.segmentation import SAME_COLOR
from fourdnex.motion.visibility import nearest_pixels
from fourdnex.scene import Scene4D


def fuse_static_points(scene: Scene4D, pixels: np.ndarray, start: int, tolerance: float) -> np.ndarray:
    """Positions [N, 3] float32, world, of pixels [N] (y * width + x) of frame `start` that stand still.

    The mean of the points that this and later frames have there, where depth and color agree with this one.

    Args:
        tolerance: difference of depth, as a share of it, up to which two frames see the same surface.
    """
    first = grid_points(scene.depth[start], scene.intrinsics, scene.camera_to_world[start], pixels)
    rgb = scene.rgb[start].reshape(-1, 3)[pixels].astype(np.int16)
    total, count = first.astype(np.float64), np.ones(len(first))
    for t in range(start + 1, scene.num_frames):
        places, z = project(first[None], scene.intrinsics, scene.camera_to_world[t][None])
        inside, rows, columns, safe = nearest_pixels(places[0], z[0], scene.height, scene.width)
        found = depth_at(scene.depth[t], safe, z[0], tolerance)
        alike = np.abs(rgb - scene.rgb[t, rows, columns]).mean(axis=-1) < SAME_COLOR
        seen = np.flatnonzero(inside & alike & np.isfinite(found))
        total[seen] += points_at(scene, t, safe[seen], found[seen])
        count[seen] += 1
    return (total / count[:, None]).astype(np.float32)
