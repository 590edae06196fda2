"""Motion segmentation from depth and color by multi-view consistency, and the static points of all frames.

A point of frame s is projected to frame k. If k has the same depth and color there, k is consistent with the point: it
was there at both times. If k has a larger depth, it sees through the point's position, a free-space violation: the
point has moved. If k has a smaller depth, or the projection is outside of the image, k gives no evidence. The depth
tolerance is estimated from the scene itself, as most of a scene is static.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from fourdnex.geometry.cameras import pixel_rays, project, transform_points
from fourdnex.scene import Scene4D

MAX_COMPARISON_FRAMES = 8
"""Number of frames that points are compared with, evenly spaced: few suffice, and the cost grows with their square."""
_OCCLUSION_TOLERANCE = 0.05  # relative depth
_MIN_TOLERANCE, _MAX_TOLERANCE = 0.01, 0.1  # limits of the relative depth tolerance
_MAX_SLOPE = 0.1  # relative depth range in a 3 x 3 neighborhood above which a pixel is not used to estimate noise
SAME_COLOR = 40
"""Mean absolute difference over the channels, of 255, below which colors are equal."""


@dataclass(frozen=True, eq=False)
class StaticPoints:
    """Static points of several frames, each surface once."""

    xyz: np.ndarray  # [N, 3] float32, world
    rgb: np.ndarray  # [N, 3] uint8
    size: np.ndarray  # [N] float32, width of a pixel of the source frame at the point's depth, in world units

    def unobserved_by(self, scene: Scene4D, t: int) -> np.ndarray:
        """Points [N] that frame `t` gives no evidence for: outside of its image, or occluded."""
        pixels, depth = project(self.xyz[None], scene.intrinsics, scene.camera_to_world[t][None])
        inside, rows, columns = pixel_indices(pixels[0], depth[0], scene.height, scene.width)
        surface = np.full(len(inside), np.inf, np.float32)
        surface[inside] = min_depth_3x3(scene.depth[t])[rows, columns]
        with np.errstate(invalid="ignore"):
            is_occluded = depth[0] > surface * (1 + _OCCLUSION_TOLERANCE)
        return ~inside | is_occluded


def moving_pixels(scene: Scene4D, *, tolerance: float | None = None) -> np.ndarray:
    """Segment moving pixels [T, H, W].

    Seeds are pixels with a free-space violation in at least two other frames (one in a scene of two), and at most twice
    as many consistent frames, since slow objects overlap with themselves. The segmentation consists of the connected
    components of pixels with any violation that contain a seed.

    Args:
        tolerance: relative depth tolerance; None uses `depth_tolerance`.
    """
    from scipy.ndimage import label

    frames = comparison_frames(scene)
    if tolerance is None:
        tolerance = _estimate_tolerance(scene, frames)
    min_violations = max(min(2, len(frames) - 1), 1)
    moving = np.zeros(scene.depth.shape, bool)
    for s in range(scene.num_frames):
        consistent, violated = consistency_counts(scene, s, frames, tolerance)
        seeds = (violated >= min_violations) & (2 * violated >= consistent)
        components, count = label(violated > 0)
        has_seed = np.zeros(count + 1, bool)
        has_seed[components[seeds]] = True
        moving[s] = has_seed[components]
    return moving


def static_points(scene: Scene4D) -> StaticPoints:
    """The static points of a scene: consistent with another frame, without free-space violation."""
    frames = comparison_frames(scene)
    tolerance = _estimate_tolerance(scene, frames)
    xyz, rgb, size = [np.empty((0, 3), np.float32)], [np.empty((0, 3), np.uint8)], [np.empty(0, np.float32)]
    rays = pixel_rays(scene.height, scene.width, scene.intrinsics).astype(np.float32)
    previous: list[int] = []
    for s in frames:
        consistent, violated = consistency_counts(scene, s, frames, tolerance)
        static = (consistent > 0) & (violated == 0)
        if previous:  # exclude surfaces of previous frames
            static &= consistency_counts(scene, s, previous, tolerance)[0] == 0
        previous.append(s)
        z = scene.depth[s][static]
        xyz.append(transform_points(rays[static] * z[:, None], scene.camera_to_world[s]))
        rgb.append(scene.rgb[s][static])
        size.append((z / scene.intrinsics[0, 0]).astype(np.float32))
    return StaticPoints(np.concatenate(xyz), np.concatenate(rgb), np.concatenate(size))


def depth_tolerance(scene: Scene4D) -> float:
    """The relative depth difference up to which two frames observe the same surface, 0.01 to 0.1."""
    return _estimate_tolerance(scene, comparison_frames(scene))


def consistency_counts(scene: Scene4D, s: int, frames: list[int], tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Number of `frames` that are consistent with each pixel [H, W] of frame `s`, and that see through it.

    Args:
        tolerance: relative depth tolerance, see `depth_tolerance`.
    """
    rays = pixel_rays(scene.height, scene.width, scene.intrinsics).astype(np.float32)
    points = transform_points(rays * scene.depth[s][..., None], scene.camera_to_world[s]).reshape(-1, 3)
    colors = scene.rgb[s].reshape(-1, 3).astype(np.int16)
    consistent, violated = np.zeros((2, len(points)), np.int16)
    for k in frames:
        if k == s:
            continue
        pixels, depth = project(points[None], scene.intrinsics, scene.camera_to_world[k][None])
        inside, rows, columns = pixel_indices(pixels[0], depth[0], scene.height, scene.width)
        # Tolerates edges that are off by a pixel: all neighbors must be farther than the point.
        nearest = min_depth_3x3(scene.depth[k])[rows, columns]
        farthest = -min_depth_3x3(-scene.depth[k])[rows, columns]
        z = depth[0][inside]
        with np.errstate(invalid="ignore"):
            is_violated = z < nearest * (1 - tolerance)
            is_same_depth = ~is_violated & (z < farthest * (1 + tolerance))
        difference = np.abs(colors[inside] - scene.rgb[k][rows, columns]).mean(axis=-1)
        indices = np.flatnonzero(inside)
        consistent[indices[is_same_depth & (difference < SAME_COLOR)]] += 1
        violated[indices[is_violated]] += 1
    return consistent.reshape(scene.height, scene.width), violated.reshape(scene.height, scene.width)


def _estimate_tolerance(scene: Scene4D, frames: list[int]) -> float:
    """Relative depth tolerance: 2.5 robust standard deviations of the differences between consecutive frames."""
    rays = pixel_rays(scene.height, scene.width, scene.intrinsics).astype(np.float32)
    differences = [np.empty(0, np.float32)]
    for s, k in itertools.pairwise(frames):
        points = transform_points(rays * scene.depth[s][..., None], scene.camera_to_world[s]).reshape(1, -1, 3)
        pixels, depth = project(points, scene.intrinsics, scene.camera_to_world[k][None])
        inside, rows, columns = pixel_indices(pixels[0], depth[0], scene.height, scene.width)
        surface, z = scene.depth[k], depth[0][inside]
        with np.errstate(invalid="ignore"):
            is_flat = (-min_depth_3x3(-surface) < min_depth_3x3(surface) * (1 + _MAX_SLOPE))[rows, columns]
            difference = np.abs(surface[rows, columns] - z)[is_flat] / z[is_flat]
        differences.append(difference[np.isfinite(difference)])
    pooled = np.concatenate(differences)
    if not len(pooled):
        return _MAX_TOLERANCE
    return float(np.clip(2.5 * 1.4826 * np.median(pooled), _MIN_TOLERANCE, _MAX_TOLERANCE))


def pixel_indices(
    pixels: np.ndarray, depth: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which pixel coordinates [N, 2] are inside an image and in front of the camera [N], and their rows and columns."""
    with np.errstate(invalid="ignore"):
        x, y = np.round(pixels[:, 0]), np.round(pixels[:, 1])
        inside = (depth > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return inside, y[inside].astype(int), x[inside].astype(int)


def min_depth_3x3(depth: np.ndarray) -> np.ndarray:
    """Minimum depth [H, W] in a 3 x 3 neighborhood, ignoring NaN; NaN where all are NaN."""
    padded = np.pad(depth, 1, constant_values=np.nan)
    height, width = depth.shape
    minimum = depth
    for row in range(3):
        for column in range(3):
            minimum = np.fmin(minimum, padded[row : row + height, column : column + width])
    return minimum


def comparison_frames(scene: Scene4D) -> list[int]:
    """Frames that points are compared with: at most `MAX_COMPARISON_FRAMES`, evenly spaced."""
    count = min(scene.num_frames, MAX_COMPARISON_FRAMES)
    return np.unique(np.round(np.linspace(0, scene.num_frames - 1, count)).astype(int)).tolist()
