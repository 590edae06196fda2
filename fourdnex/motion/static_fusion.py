"""Fusion of static points over the frames that observe them."""

import numpy as np

from fourdnex.geometry.cameras import grid_points, project
from fourdnex.motion.sampling import depth_at, points_at
from fourdnex.motion.segmentation import SAME_COLOR
from fourdnex.motion.visibility import nearest_pixels
from fourdnex.scene import Scene4D


def fuse_static_points(scene: Scene4D, pixels: np.ndarray, start: int, tolerance: float) -> np.ndarray:
    """World positions [N, 3] float32 of static pixels [N] (y * width + x) of frame `start`.

    The mean over this frame and those later frames whose depth and color agree.

    Args:
        tolerance: relative depth tolerance, see `depth_tolerance`.
    """
    first = grid_points(scene.depth[start], scene.intrinsics, scene.camera_to_world[start], pixels)
    rgb = scene.rgb[start].reshape(-1, 3)[pixels].astype(np.int16)
    total, count = first.astype(np.float64), np.ones(len(first))
    for t in range(start + 1, scene.num_frames):
        coordinates, z = project(first[None], scene.intrinsics, scene.camera_to_world[t][None])
        inside, rows, columns, safe = nearest_pixels(coordinates[0], z[0], scene.height, scene.width)
        depth = depth_at(scene.depth[t], safe, z[0], tolerance)
        is_same_color = np.abs(rgb - scene.rgb[t, rows, columns]).mean(axis=-1) < SAME_COLOR
        observed = np.flatnonzero(inside & is_same_color & np.isfinite(depth))
        total[observed] += points_at(scene, t, safe[observed], depth[observed])
        count[observed] += 1
    return (total / count[:, None]).astype(np.float32)
