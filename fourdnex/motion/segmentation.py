"""What stands still in a scene and what moves, told from depth and color alone; the standing points of all frames.

A point of frame s is looked up in frame k. When k sees the same depth and color there, it is confirmed: it was there
at both times. When k sees farther, through the place where the point would be, it has moved. When k sees something
nearer, or looks elsewhere, k says nothing. How different depths must be to count follows from the scene: most of it
stands still, and shows how well frames agree.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from fourdnex.geometry.cameras import pixel_rays, project, transform_points
from fourdnex.scene import Scene4D

MAX_COMPARISON_FRAMES = 8
"""Frames that are looked up, evenly spread over the scene: few suffice, and cost grows with their square."""
_SAME_DEPTH = 0.05  # of the depth
_LEAST, _MOST = 0.01, 0.1  # limits of the difference of depth that counts, as a share of it
_STEEP = 0.1  # a pixel and its neighbors differ by more than this share of depth: says nothing about noise
SAME_COLOR = 40
"""Of 255: a mean difference over the channels below it is the same color."""


@dataclass(frozen=True, eq=False)
class StaticPoints:
    """Points that stand still, gathered from several frames, each surface once."""

    xyz: np.ndarray  # [N, 3] float32, world
    rgb: np.ndarray  # [N, 3] uint8
    size: np.ndarray  # [N] float32, width of a pixel of the frame it comes from, at its depth, in world units

    def unobserved_by(self, scene: Scene4D, t: int) -> np.ndarray:
        """Which points [N] frame `t` can neither see nor contradict: out of its image, or hidden behind something."""
        pixels, depth = project(self.xyz[None], scene.intrinsics, scene.camera_to_world[t][None])
        inside, rows, columns = pixel_indices(pixels[0], depth[0], scene.height, scene.width)
        seen = np.full(len(inside), np.inf, np.float32)
        seen[inside] = min_depth_3x3(scene.depth[t])[rows, columns]
        with np.errstate(invalid="ignore"):
            hidden = depth[0] > seen * (1 + _SAME_DEPTH)
        return ~inside | hidden


def moving_pixels(scene: Scene4D, *, tolerance: float | None = None) -> np.ndarray:
    """Pixels [T, H, W] that move by themselves.

    Sure are those that two other frames (one, in a scene of two) see through, and at most twice as many confirm: what
    is slow covers itself for a while, with points of the same depth and color. With them goes what hangs together with
    them in the image and is seen through at all.

    Args:
        tolerance: the difference of depth that counts, as a share of it; None: `depth_tolerance`.
    """
    from scipy.ndimage import label

    frames = comparison_frames(scene)
    if tolerance is None:
        tolerance = _tolerance(scene, frames)
    enough = min(2, len(frames) - 1)
    moving = np.zeros(scene.depth.shape, bool)
    for s in range(scene.num_frames):
        confirmed, contradicted = consistency_counts(scene, s, frames, tolerance)
        sure = (contradicted >= max(enough, 1)) & (2 * contradicted >= confirmed)
        parts, count = label(contradicted > 0)
        is_sure = np.zeros(count + 1, bool)
        is_sure[parts[sure]] = True
        moving[s] = is_sure[parts]
    return moving


def static_points(scene: Scene4D) -> StaticPoints:
    """The points of a scene that stand still: confirmed by another frame, contradicted by none."""
    frames = comparison_frames(scene)
    tolerance = _tolerance(scene, frames)
    xyz, rgb, size = [np.empty((0, 3), np.float32)], [np.empty((0, 3), np.uint8)], [np.empty(0, np.float32)]
    rays = pixel_rays(scene.height, scene.width, scene.intrinsics).astype(np.float32)
    taken: list[int] = []
    for s in frames:
        confirmed, contradicted = consistency_counts(scene, s, frames, tolerance)
        still = (confirmed > 0) & (contradicted == 0)
        if taken:  # what an earlier frame has given already
            still &= consistency_counts(scene, s, taken, tolerance)[0] == 0
        taken.append(s)
        z = scene.depth[s][still]
        xyz.append(transform_points(rays[still] * z[:, None], scene.camera_to_world[s]))
        rgb.append(scene.rgb[s][still])
        size.append((z / scene.intrinsics[0, 0]).astype(np.float32))
    return StaticPoints(np.concatenate(xyz), np.concatenate(rgb), np.concatenate(size))


def depth_tolerance(scene: Scene4D) -> float:
    """The difference of depth, as a share of it, up to which two frames see the same surface: 0.01 to 0.1."""
    return _tolerance(scene, comparison_frames(scene))


def consistency_counts(scene: Scene4D, s: int, frames: list[int], tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """How many of `frames` confirm and how many contradict each pixel [H, W] of frame `s`.

    Args:
        tolerance: the difference of depth that counts, as a share of it; see `depth_tolerance`.
    """
    rays = pixel_rays(scene.height, scene.width, scene.intrinsics).astype(np.float32)
    points = transform_points(rays * scene.depth[s][..., None], scene.camera_to_world[s]).reshape(-1, 3)
    colors = scene.rgb[s].reshape(-1, 3).astype(np.int16)
    confirmed, contradicted = np.zeros((2, len(points)), np.int16)
    for k in frames:
        if k == s:
            continue
        pixels, depth = project(points[None], scene.intrinsics, scene.camera_to_world[k][None])
        inside, rows, columns = pixel_indices(pixels[0], depth[0], scene.height, scene.width)
        # An edge half a pixel off is no contradiction: nothing around this pixel may be as near as the point.
        nearest = min_depth_3x3(scene.depth[k])[rows, columns]
        farthest = -min_depth_3x3(-scene.depth[k])[rows, columns]
        z = depth[0][inside]
        with np.errstate(invalid="ignore"):
            through = z < nearest * (1 - tolerance)
            same_place = ~through & (z < farthest * (1 + tolerance))
        difference = np.abs(colors[inside] - scene.rgb[k][rows, columns]).mean(axis=-1)
        numbers = np.flatnonzero(inside)
        confirmed[numbers[same_place & (difference < SAME_COLOR)]] += 1
        contradicted[numbers[through]] += 1
    return confirmed.reshape(scene.height, scene.width), contradicted.reshape(scene.height, scene.width)


def _tolerance(scene: Scene4D, frames: list[int]) -> float:
    """The difference of depth, as a share of it, that noise does not explain: 2.5 standard deviations of how far
    neighboring comparison_frames differ on surfaces that are not steep."""
    rays = pixel_rays(scene.height, scene.width, scene.intrinsics).astype(np.float32)
    differences = [np.empty(0, np.float32)]
    for s, k in itertools.pairwise(frames):
        points = transform_points(rays * scene.depth[s][..., None], scene.camera_to_world[s]).reshape(1, -1, 3)
        pixels, depth = project(points, scene.intrinsics, scene.camera_to_world[k][None])
        inside, rows, columns = pixel_indices(pixels[0], depth[0], scene.height, scene.width)
        seen, z = scene.depth[k], depth[0][inside]
        with np.errstate(invalid="ignore"):
            is_flat = (-min_depth_3x3(-seen) < min_depth_3x3(seen) * (1 + _STEEP))[rows, columns]
            difference = np.abs(seen[rows, columns] - z)[is_flat] / z[is_flat]
        differences.append(difference[np.isfinite(difference)])
    every = np.concatenate(differences)
    return float(np.clip(2.5 * 1.4826 * np.median(every), _LEAST, _MOST)) if len(every) else _MOST


def pixel_indices(
    pixels: np.ndarray, depth: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which points [N] fall into an image, and the rows and columns of those that do."""
    with np.errstate(invalid="ignore"):
        x, y = np.round(pixels[:, 0]), np.round(pixels[:, 1])
        inside = (depth > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return inside, y[inside].astype(int), x[inside].astype(int)


def min_depth_3x3(depth: np.ndarray) -> np.ndarray:
    """The least depth [H, W] among a pixel and its eight neighbors; NaN where none has any."""
    padded = np.pad(depth, 1, constant_values=np.nan)
    height, width = depth.shape
    least = depth
    for row in range(3):
        for column in range(3):
            least = np.fmin(least, padded[row : row + height, column : column + width])
    return least


def comparison_frames(scene: Scene4D) -> list[int]:
    """Frames that are looked up: at most `MAX_COMPARISON_FRAMES`, evenly spread."""
    count = min(scene.num_frames, MAX_COMPARISON_FRAMES)
    return np.unique(np.round(np.linspace(0, scene.num_frames - 1, count)).astype(int)).tolist()
