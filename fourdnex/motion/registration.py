"""Registration of points: robust rigid motion from correspondences, and translation by color and depth."""

import numpy as np

from fourdnex.geometry.alignment import umeyama
from fourdnex.geometry.cameras import project
from fourdnex.motion.sampling import bilinear
from fourdnex.motion.visibility import nearest_pixels
from fourdnex.scene import Scene4D

_ITERATIONS = 8
_MIN_ROTATION_POINTS = 8
"""Minimum number of points to fit a rotation."""
_MAX_COLOR_ERROR = 40.0  # of 255, truncation of the color cost
_MAX_DEPTH_ERROR = 0.05  # relative, truncation of the depth cost
_TRANSLATION_COST = 0.01  # per pixel; the data cost is 0 to 2
_MIN_STEP = 0.25  # pixels
_MOVES_PER_STEP = 4  # maximum moves per step size
_DEPTH_STEP_FACTOR = 3  # step along the line of sight relative to that across it


def fit_rigid_motion(before: np.ndarray, after: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Robust rotation [3, 3] and translation [3] between corresponding points [N, 3]; N >= 1.

    Iteratively reweighted least squares with Cauchy weights. Few points give a pure translation.

    Args:
        scale: scale of the Cauchy weights, in units of the points.
    """
    rotation, translation = np.eye(3), np.median(after - before, axis=0)
    for _ in range(_ITERATIONS):
        distance = np.linalg.norm(before @ rotation.T + translation - after, axis=-1)
        weight = 1 / (1 + np.square(distance / max(scale, 1e-12)))
        if len(before) < _MIN_ROTATION_POINTS:
            translation = weight @ (after - before) / weight.sum()
        else:
            _, rotation, translation = umeyama(before, after, with_scale=False, weights=weight)
    return rotation, translation


def refine_translation(scene: Scene4D, t: int, xyz: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Translation [3] in world units that aligns points [N, 3] with the color and depth of frame `t`.

    Pattern search from zero, across and along the line of sight, with steps halved down to a quarter of a pixel.

    Args:
        rgb: [N, 3], colors of the points.
    """
    pose = scene.camera_to_world[t].astype(np.float64)
    depth = float(np.median((xyz - pose[:3, 3]) @ pose[:3, 2]))
    unit = depth / float(scene.intrinsics[0, 0])  # size of a pixel at this depth, in world units
    image = scene.rgb[t].astype(np.float32)

    def cost(translation: tuple[float, float, float]) -> float:
        """Truncated color and depth error of a translation in pixels, with a penalty on its length."""
        moved = xyz + (pose[:3, :3] @ (unit * np.array(translation))).astype(np.float32)
        pixels, z = project(moved[None], scene.intrinsics, scene.camera_to_world[t][None])
        inside, rows, columns, safe = nearest_pixels(pixels[0], z[0], scene.height, scene.width)
        color = np.abs(bilinear(image, safe) - rgb).mean(axis=-1) / _MAX_COLOR_ERROR
        with np.errstate(invalid="ignore"):
            depth_error = np.abs(scene.depth[t, rows, columns] - z[0]) / (_MAX_DEPTH_ERROR * z[0])
        data = np.minimum(color, 1) + np.minimum(np.nan_to_num(depth_error, nan=1.0), 1)
        return float(np.where(inside, data, 1.0).mean() + _TRANSLATION_COST * np.hypot(*translation[:2]))

    best = (0.0, 0.0, 0.0)
    lowest = cost(best)
    step = max(2.0, scene.width / 48)
    while step >= _MIN_STEP:
        for _ in range(_MOVES_PER_STEP):
            x, y, z = best
            candidates = [(x + i * step, y + j * step, z) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
            candidates += [(x, y, z + i * _DEPTH_STEP_FACTOR * step) for i in (-1, 1)]
            costs = [cost(candidate) for candidate in candidates]
            if min(costs) >= lowest - 1e-6:
                break
            lowest = min(costs)
            best = candidates[costs.index(lowest)]
        step /= 2
    return np.asarray(pose[:3, :3] @ (unit * np.array(best)), np.float32)
