"""Moves that bring points onto a frame: rigid ones that pairs of points share, and shifts found by color and depth."""

import numpy as np

from fourdnex.geometry.alignment import umeyama
from fourdnex.geometry.cameras import project
from fourdnex.motion.sampling import bilinear
from fourdnex.motion.visibility import nearest_pixels
from fourdnex.scene import Scene4D

_ITERATIONS = 8
_FEW = 8
"""Fewer points give no rotation."""
_COLOR = 40.0  # of 255: difference of color that is as bad as any larger one
_DEPTH = 0.05  # the same of depth, as a share of it
_LENGTH = 0.01  # cost of a pixel's shift, against costs from 0 to 2
_FINEST = 0.25  # pixels
_TRIES = 4  # moves at each length of step
_DEEPER = 3  # steps along the line of sight are so many times longer


def fit_rigid_motion(before: np.ndarray, after: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The rotation [3, 3] and translation [3] that most of the pairs of points [N, 3] follow; N >= 1.

    Least squares, iteratively reweighted (Cauchy); a few points give a translation alone.

    Args:
        scale: distance from which on a pair counts for less.
    """
    rotation, shift = np.eye(3), np.median(after - before, axis=0)
    for _ in range(_ITERATIONS):
        distance = np.linalg.norm(before @ rotation.T + shift - after, axis=-1)
        weight = 1 / (1 + np.square(distance / max(scale, 1e-12)))
        if len(before) < _FEW:
            shift = weight @ (after - before) / weight.sum()
        else:
            _, rotation, shift = umeyama(before, after, with_scale=False, weights=weight)
    return rotation, shift


def refine_translation(scene: Scene4D, t: int, xyz: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """The shift [3] in the world after which points [N, 3] fit color and depth of frame `t` best.

    Found by a pattern search from none on: across the line of sight in steps that are halved down to a quarter of a
    pixel, and along it.

    Args:
        rgb: [N, 3], the points' own colors.
    """
    pose = scene.camera_to_world[t].astype(np.float64)
    depth = float(np.median((xyz - pose[:3, 3]) @ pose[:3, 2]))
    unit = depth / float(scene.intrinsics[0, 0])  # a pixel there, in world units
    image = scene.rgb[t].astype(np.float32)

    def cost(shift: tuple[float, float, float]) -> float:
        moved = xyz + (pose[:3, :3] @ (unit * np.array(shift))).astype(np.float32)
        places, z = project(moved[None], scene.intrinsics, scene.camera_to_world[t][None])
        inside, rows, columns, safe = nearest_pixels(places[0], z[0], scene.height, scene.width)
        color = np.abs(bilinear(image, safe) - rgb).mean(axis=-1) / _COLOR
        with np.errstate(invalid="ignore"):
            off = np.abs(scene.depth[t, rows, columns] - z[0]) / (_DEPTH * z[0])
        each = np.minimum(color, 1) + np.minimum(np.nan_to_num(off, nan=1.0), 1)
        return float(np.where(inside, each, 1.0).mean() + _LENGTH * np.hypot(*shift[:2]))

    best = (0.0, 0.0, 0.0)
    least = cost(best)
    step = max(2.0, scene.width / 48)
    while step >= _FINEST:
        for _ in range(_TRIES):
            x, y, z = best
            tried = [(x + i * step, y + j * step, z) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
            tried += [(x, y, z + i * _DEEPER * step) for i in (-1, 1)]
            costs = [cost(shift) for shift in tried]
            if min(costs) >= least - 1e-6:
                break
            least = min(costs)
            best = tried[costs.index(least)]
        step /= 2
    return np.asarray(pose[:3, :3] @ (unit * np.array(best)), np.float32)
