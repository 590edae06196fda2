"""Camera recovery: the pinhole cameras and depth maps that explain point maps best.

Minimises, over one focal length, one pose a frame and one depth a pixel, the squared distance between the given points
and the unprojected depths. The depths are eliminated (the best one is the foot of the perpendicular on the pixel's
ray), so what is minimised is the distance of points to rays. Linear start, then Levenberg-Marquardt with a Huber loss
on a spread subset of the pixels, then depth for all of them in closed form.
"""

from dataclasses import dataclass

import numpy as np

from fourdnex.geometry.cameras import invert_pose, pixel_rays
from fourdnex.geometry.ray_fit import Problem, Solution, refine, solution_of
from fourdnex.geometry.ray_smooth import smooth_poses
from fourdnex.geometry.ray_start import starts

MIN_PIXELS = 12
"""A frame with fewer valid pixels cannot be solved."""


@dataclass(frozen=True, eq=False)
class CameraRecovery:
    """Cameras and depth maps recovered from point maps, in the frame and the units of the point maps."""

    intrinsics: np.ndarray  # [3, 3] float32, pixels, one for all frames
    camera_to_world: np.ndarray  # [T, 4, 4] float32, OpenCV axes
    depth: np.ndarray  # [T, H, W] float32, z in the camera's frame; NaN: no valid point, or a point behind its camera
    rmse: float
    """Root mean square over coordinates of recovered minus given points, over all valid pixels."""


def recover_cameras(
    pointmaps: np.ndarray,
    confidence: np.ndarray | None = None,
    *,
    intrinsics: np.ndarray | None = None,
    focal_range: tuple[float, float] = (0.3, 4.0),
    smooth: bool = True,
    num_pixels: int = 2048,
    seed: int = 0,
) -> CameraRecovery:
    """Recover one pinhole camera (square pixels, centred principal point) and one pose a frame from point maps.

    Args:
        pointmaps: [T, H, W, 3], every frame in one common frame of reference; non-finite pixels are left out.
        confidence: [T, H, W] weights, not negative; pixels with weight 0 do not count for the cameras.
        intrinsics: [3, 3] known intrinsics in pixels; recovered when None.
        focal_range: limits of the recovered focal length, in image widths. A weak prior (one width, a factor of 2
            as standard deviation) decides where the points themselves say nothing, as for a flat wall seen head-on.
        smooth: let poses that correlated errors leave open follow a steady motion (see `ray_smooth`); exact points, or
            independent errors, leave nothing open.
        num_pixels: pixels a frame that the cameras are fitted to.
        seed: of the choice of these pixels.

    Returns:
        `CameraRecovery`; the poses map camera coordinates to the frame of the point maps.

    Raises:
        ValueError: wrong shapes, or a degenerate frame (fewer than 12 valid pixels, or all points in one place or on
            one line).
    """
    if pointmaps.ndim != 4 or pointmaps.shape[-1] != 3 or 0 in pointmaps.shape:
        raise ValueError(f"pointmaps: expected [T, H, W, 3], got {pointmaps.shape}")
    num_frames, height, width = pointmaps.shape[:3]
    if confidence is not None and confidence.shape != pointmaps.shape[:3]:
        raise ValueError(f"confidence: expected {pointmaps.shape[:3]}, got {confidence.shape}")
    if intrinsics is not None and np.shape(intrinsics) != (3, 3):
        raise ValueError(f"intrinsics: expected shape (3, 3), got {np.shape(intrinsics)}")
    low, high = focal_range
    if not 0 < low < high:
        raise ValueError(f"focal_range: expected 0 < low < high, got {focal_range}")

    points, pixels, weights = _subset(pointmaps, confidence, num_pixels, np.random.default_rng(seed))
    # Whitened coordinates: the fit is then independent of the units and of the origin.
    center = (points * weights[..., None]).sum(axis=(0, 1)) / weights.sum()
    scale = float(np.sqrt((((points - center) ** 2).sum(axis=-1) * weights).sum() / weights.sum()))
    if intrinsics is None:
        offsets = pixels - np.array([(width - 1) / 2, (height - 1) / 2])
        problem = Problem(
            points=(points - center) / scale,
            offsets=offsets / width,
            weights=weights,
            focal_limits=(low, high),
        )
    else:
        known = np.asarray(intrinsics, np.float64)
        rays = np.concatenate([pixels, np.ones_like(pixels[..., :1])], axis=-1) @ np.linalg.inv(known).T
        problem = Problem(
            points=(points - center) / scale, offsets=rays[..., :2], weights=weights, focal_limits=(1.0, 1.0)
        )

    thin = problem.thinned(8)
    best = min((refine(thin, *start, iterations=8) for start in starts(thin)), key=lambda solution: solution.cost)
    best = _agree(thin, best)
    solution = refine(problem, best.focal, best.rotation, best.translation, iterations=30)
    if smooth:
        solution = smooth_poses(problem, solution)

    if intrinsics is None:
        focal = solution.focal * width
        known = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    world_to_camera = np.tile(np.eye(4), (num_frames, 1, 1))
    world_to_camera[:, :3, :3] = solution.rotation
    world_to_camera[:, :3, 3] = solution.translation * scale - solution.rotation @ center
    poses = invert_pose(world_to_camera)
    depth, rmse = _best_depth(pointmaps, world_to_camera, pixel_rays(height, width, known))
    return CameraRecovery(known.astype(np.float32), poses.astype(np.float32), depth, rmse)


def _agree(problem: Problem, solution: Solution) -> Solution:
    """Let frames with several equally good poses (a plane under a long lens has two) take the one their best has."""
    model = int(np.argmin(solution.frame_costs))
    num_frames = len(solution.rotation)
    other = refine(
        problem,
        solution.focal,
        np.tile(solution.rotation[model], (num_frames, 1, 1)),
        np.tile(solution.translation[model], (num_frames, 1)),
        iterations=8,
    )
    takes = other.frame_costs <= 1.02 * solution.frame_costs
    return solution_of(
        problem,
        solution.focal,
        np.where(takes[:, None, None], other.rotation, solution.rotation),
        np.where(takes[:, None], other.translation, solution.translation),
    )


def _subset(
    pointmaps: np.ndarray, confidence: np.ndarray | None, num_pixels: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points [T, N, 3], pixels [T, N, 2] as (x, y) and weights [T, N], spread evenly over each frame's valid pixels."""
    num_frames, height, width = pointmaps.shape[:3]
    count = min(num_pixels, height * width)
    points = np.zeros((num_frames, count, 3))
    pixels = np.zeros((num_frames, count, 2))
    weights = np.zeros((num_frames, count))
    for frame in range(num_frames):
        flat = pointmaps[frame].reshape(-1, 3)
        valid = np.isfinite(flat).all(axis=-1)
        if confidence is not None:
            valid &= np.nan_to_num(confidence[frame].reshape(-1)) > 0
        index = np.flatnonzero(valid)
        if len(index) < MIN_PIXELS:
            raise ValueError(f"pointmaps: frame {frame} has {len(index)} valid pixels, expected at least {MIN_PIXELS}")
        if len(index) > count:
            # One random pixel of each of `count` equal stretches of the raster: spread, without a grid's beat.
            edges = np.linspace(0, len(index), count + 1)
            index = index[np.minimum((edges[:-1] + rng.random(count) * np.diff(edges)).astype(int), len(index) - 1)]
        used = slice(0, len(index))
        points[frame, used] = flat[index]
        pixels[frame, used] = np.stack([index % width, index // width], axis=-1)
        weights[frame, used] = 1 if confidence is None else confidence[frame].reshape(-1)[index]
        _check_extent(points[frame, used], frame)
        # Every frame counts the same, however many valid pixels and whatever confidence it has.
        weights[frame] *= 1.0 / weights[frame].sum()
    return points, pixels, weights


def _check_extent(points: np.ndarray, frame: int) -> None:
    centred = points - points.mean(axis=0)
    extent = np.sqrt(np.maximum(np.linalg.eigvalsh(centred.T @ centred / len(points)), 0))[::-1]
    rounding = 1e-5 * float(np.abs(points).max())
    if extent[1] <= max(1e-4 * extent[0], rounding):
        shape = "in one place" if extent[0] <= rounding else "on one line"
        raise ValueError(f"pointmaps: frame {frame} is degenerate, all its points lie {shape}")


def _best_depth(pointmaps: np.ndarray, world_to_camera: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, float]:
    """Depth [T, H, W] of the foot of each point on its pixel's ray, and the RMSE of the feet."""
    rays = rays.astype(np.float32)
    ray_square = np.einsum("hwi,hwi->hw", rays, rays)
    depth = np.empty(pointmaps.shape[:3], np.float32)
    square_sum, count = 0.0, 0
    for frame, pose in enumerate(world_to_camera.astype(np.float32)):
        given = pointmaps[frame].astype(np.float32, copy=False)
        local = np.where(np.isfinite(given), given, np.float32(np.nan)) @ pose[:3, :3].T + pose[:3, 3]
        # A point behind its camera counts in the RMSE with depth 0, the nearest depth there is, and is then invalid.
        z = np.maximum(np.einsum("hwi,hwi->hw", local, rays) / ray_square, 0)
        local -= rays * z[..., None]
        error = np.einsum("hwi,hwi->hw", local, local)
        valid = np.isfinite(error)
        square_sum += float(error.sum(dtype=np.float64, where=valid))
        count += int(valid.sum())
        depth[frame] = np.where(valid & (z > 0), z, np.nan)
    return depth, float(np.sqrt(square_sum / (3 * count)))
