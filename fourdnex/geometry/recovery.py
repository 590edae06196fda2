"""Camera recovery: the pinhole cameras and depth maps that explain point maps best.

Minimises, over one focal length, one pose a frame and one depth a pixel, the squared distance between the given points
and the unprojected depths. The depths are eliminated (the best one is the foot of the perpendicular on the pixel's
ray), so what is minimized is the distance of points to rays. Linear start, then Levenberg-Marquardt with a Huber loss
on a spread subset of the pixels, then depth for all of them in closed form.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from fourdnex.cores import available_cores
from fourdnex.geometry.cameras import invert_pose, pixel_rays
from fourdnex.geometry.pnp import start
from fourdnex.geometry.pnp_refinement import PnPProblem, PnPSolution, evaluate, refine, reject_outliers
from fourdnex.geometry.pose_covariance import information, standard_deviations
from fourdnex.geometry.pose_smoothing import smooth_poses

MIN_PIXELS = 12
"""A frame with fewer valid pixels cannot be solved."""
BLOCK = 1 << 15
DRAWS = 4
"""Pixels of a stretch that are looked at before it counts as missing."""
MIN_IN_FRONT = 0.1
"""Least share of a frame's points in front of its camera."""
MAX_TRIMS = 6
"""Outliers are looked for again after every fit without them, at most so often."""


@dataclass(frozen=True, eq=False)
class CameraRecovery:
    """Cameras and depth maps recovered from point maps, in the frame and the units of the point maps."""

    intrinsics: np.ndarray  # [3, 3] float32, pixels, one for all frames
    camera_to_world: np.ndarray  # [T, 4, 4] float32, OpenCV axes
    depth: np.ndarray  # [T, H, W] float32, z in the camera's frame; NaN: no valid point, or a point behind its camera
    rmse: float
    """Root mean square over coordinates of recovered minus given points, over all valid pixels."""
    frame_rmse: np.ndarray  # [T] float32, the same of each frame
    focal_deviation: float
    """Standard deviation of the focal length, pixels; 0 when the intrinsics are given."""
    rotation_deviation: np.ndarray  # [T] float32, standard deviation of each camera's turn, degrees
    position_deviation: np.ndarray  # [T] float32, and of its place, in the units of the point maps
    is_focal_determined: bool
    """False where the points leave the focal length open (a flat wall seen head-on): then a prior chose it."""


def recover_cameras(
    pointmaps: np.ndarray,
    confidence: np.ndarray | None = None,
    *,
    intrinsics: np.ndarray | None = None,
    principal_point: tuple[float, float] | None = None,
    pixel_aspect: float = 1.0,
    focal_range: tuple[float, float] = (0.3, 4.0),
    smooth: bool = True,
    num_pixels: int = 2048,
    seed: int = 0,
) -> CameraRecovery:
    """Recover one pinhole camera of pixels of known aspect and one pose a frame from point maps.

    Args:
        pointmaps: [T, H, W, 3], every frame in one common frame of reference; non-finite pixels are left out.
        confidence: [T, H, W] weights, not negative; pixels with weight 0 do not count for the cameras.
        intrinsics: [3, 3] known intrinsics in pixels; recovered when None.
        principal_point: (x, y) in pixels where it is known and the focal length is not; the middle of the image when
            None.
        pixel_aspect: fx / fy of the recovered camera: 1 for square pixels, else what an image was stretched by.
        focal_range: limits of the recovered focal length, in lengths of the image's longer side. A weak prior (one
            length, a factor of 2 as standard deviation) decides where the points themselves say nothing, as for a flat
            wall seen head-on.
        smooth: let poses that correlated errors leave open follow a steady motion (see `ray_smooth`); exact points, or
            independent errors, leave nothing open.
        num_pixels: pixels a frame that the cameras are fitted to.
        seed: of the choice of these pixels.

    Returns:
        `CameraRecovery`; the poses map camera coordinates to the frame of the point maps.

    Raises:
        ValueError: wrong shapes, or a degenerate frame (fewer than 12 valid pixels, all points in one place or on one
            line, or nearly all behind the best camera).
    """
    pointmaps = np.asarray(pointmaps)
    _check_arguments(pointmaps, confidence, intrinsics, principal_point, focal_range)
    if not (np.isfinite(pixel_aspect) and pixel_aspect > 0) or (intrinsics is not None and pixel_aspect != 1):
        raise ValueError(f"pixel_aspect: expected a positive number, 1 beside known intrinsics, got {pixel_aspect}")
    num_frames, height, width = pointmaps.shape[:3]
    middle = principal_point or ((width - 1) / 2, (height - 1) / 2)
    points, pixels, weights = _subset(pointmaps, confidence, num_pixels, np.random.default_rng(seed))
    # Whitened coordinates: the fit is then independent of the units and of the origin.
    center = (points * weights[..., None]).sum(axis=(0, 1)) / weights.sum()
    scale = float(np.sqrt((((points - center) ** 2).sum(axis=-1) * weights).sum() / weights.sum()))
    if intrinsics is None:
        offsets, limits = (pixels - np.array(middle)) * [1, pixel_aspect] / max(height, width), focal_range
    else:
        inverse = np.linalg.inv(np.asarray(intrinsics, np.float64))
        offsets, limits = (
            (np.concatenate([pixels, np.ones_like(pixels[..., :1])], axis=-1) @ inverse.T)[..., :2],
            (1, 1),
        )
    problem = PnPProblem((points - center) / scale, offsets, weights, focal_limits=limits)

    thin = problem.thinned(8)
    best = _trimmed_fit(thin, _agree(thin, start(thin)))
    problem = reject_outliers(problem, best)
    solution = refine(problem, best.focal, best.rotation, best.translation, iterations=30)
    known = information(problem, solution)
    if smooth:
        solution = smooth_poses(problem, solution, known)
    _check_front(problem, solution)
    doubt = standard_deviations(problem, known)

    focal = solution.focal * max(height, width)
    lens = np.array(
        [[focal, 0, middle[0]], [0, focal / pixel_aspect, middle[1]], [0, 0, 1]] if intrinsics is None else intrinsics,
        np.float64,
    )
    world_to_camera = np.tile(np.eye(4), (num_frames, 1, 1))
    world_to_camera[:, :3, :3] = solution.rotation
    world_to_camera[:, :3, 3] = solution.translation * scale - solution.rotation @ center
    poses = invert_pose(world_to_camera)
    depth, squares, counts = _best_depth(pointmaps, world_to_camera, pixel_rays(height, width, lens))
    return CameraRecovery(
        intrinsics=lens.astype(np.float32),
        camera_to_world=poses.astype(np.float32),
        depth=depth,
        rmse=float(np.sqrt(squares.sum() / (3 * counts.sum()))),
        frame_rmse=np.sqrt(squares / (3 * counts)).astype(np.float32),
        focal_deviation=float(doubt.log_focal * lens[0, 0]) if intrinsics is None else 0.0,
        rotation_deviation=np.degrees(doubt.turn).astype(np.float32),
        position_deviation=(doubt.shift * scale).astype(np.float32),
        is_focal_determined=intrinsics is not None or doubt.is_focal_determined,
    )


def _check_arguments(
    pointmaps: np.ndarray,
    confidence: np.ndarray | None,
    intrinsics: np.ndarray | None,
    principal_point: tuple[float, float] | None,
    focal_range: tuple[float, float],
) -> None:
    if pointmaps.ndim != 4 or pointmaps.shape[-1] != 3 or 0 in pointmaps.shape:
        raise ValueError(f"pointmaps: expected [T, H, W, 3], got {pointmaps.shape}")
    if pointmaps.dtype.kind not in "fiu":
        raise ValueError(f"pointmaps: expected real numbers, got {pointmaps.dtype}")
    if confidence is not None:
        if np.shape(confidence) != pointmaps.shape[:3]:
            raise ValueError(f"confidence: expected {pointmaps.shape[:3]}, got {np.shape(confidence)}")
        if np.nanmin(confidence, initial=0.0) < 0:
            raise ValueError("confidence: expected weights that are not negative")
    if intrinsics is not None:
        pixel_rays(1, 1, np.asarray(intrinsics, np.float64))  # refuses wrong shapes and focal lengths
        if principal_point is not None:
            raise ValueError("principal_point: expected None beside known intrinsics, which hold it")
    if principal_point is not None and not (np.shape(principal_point) == (2,) and np.isfinite(principal_point).all()):
        raise ValueError(f"principal_point: expected two finite numbers, got {principal_point}")
    if not 0 < focal_range[0] < focal_range[1]:
        raise ValueError(f"focal_range: expected 0 < low < high, got {focal_range}")


def _trimmed_fit(problem: PnPProblem, solution: PnPSolution) -> PnPSolution:
    """Fit again without outliers until it is clear which they are."""
    solution = refine(problem, solution.focal, solution.rotation, solution.translation, iterations=20)
    clean = problem
    for _ in range(MAX_TRIMS):
        trimmed = reject_outliers(problem, solution)
        if ((trimmed.weights > 0) == (clean.weights > 0)).mean() > 0.999:
            break
        clean = trimmed
        solution = refine(clean, solution.focal, solution.rotation, solution.translation, iterations=15)
    return solution


def _agree(problem: PnPProblem, solution: PnPSolution) -> PnPSolution:
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
    return evaluate(
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
        trust = None if confidence is None else confidence[frame].reshape(-1)
        index = _spread_pixels(flat, trust, count, rng)
        if len(index) < MIN_PIXELS:
            raise ValueError(f"pointmaps: frame {frame} has {len(index)} valid pixels, expected at least {MIN_PIXELS}")
        used = slice(0, len(index))
        points[frame, used] = flat[index]
        pixels[frame, used] = np.stack([index % width, index // width], axis=-1)
        weights[frame, used] = 1 if trust is None else trust[index]
        _check_extent(points[frame, used], frame)
        # Every frame counts the same, however many valid pixels and whatever confidence it has.
        weights[frame] *= 1.0 / weights[frame].sum()
    return points, pixels, weights


def _spread_pixels(points: np.ndarray, trust: np.ndarray | None, count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of at most `count` valid pixels of [N, 3] points, spread over the raster without a grid's beat."""

    def is_valid(index: np.ndarray | slice) -> np.ndarray:
        finite = np.isfinite(points[index]).all(axis=-1)
        return finite if trust is None else finite & (np.nan_to_num(trust[index]) > 0)

    def one_of_each(stretches: int, length: int) -> np.ndarray:
        edges = np.linspace(0, length, stretches + 1)
        drawn = edges[:-1] + rng.random(stretches) * np.diff(edges)
        return np.minimum(drawn.astype(int), length - 1)

    if len(points) > 4 * count:
        # A look at a few pixels of each stretch is enough, unless most of the frame is missing.
        chosen = one_of_each(count, len(points))
        found = is_valid(chosen)
        for _ in range(DRAWS - 1):
            if found.all():
                break
            chosen = np.where(found, chosen, one_of_each(count, len(points)))
            found = is_valid(chosen)
        if found.mean() > 0.9:
            return chosen[found]
    index = np.flatnonzero(is_valid(slice(None)))
    return index[one_of_each(count, len(index))] if len(index) > count else index


def _check_extent(points: np.ndarray, frame: int) -> None:
    centered = points - points.mean(axis=0)
    extent = np.sqrt(np.maximum(np.linalg.eigvalsh(centered.T @ centered / len(points)), 0))[::-1]
    rounding = 1e-5 * float(np.abs(points).max())
    if extent[1] <= max(1e-4 * extent[0], rounding):
        shape = "in one place" if extent[0] <= rounding else "on one line"
        raise ValueError(f"pointmaps: frame {frame} is degenerate, all its points lie {shape}")


def _check_front(problem: PnPProblem, solution: PnPSolution) -> None:
    local = problem.points @ np.swapaxes(solution.rotation, 1, 2) + solution.translation[:, None]
    in_front = (problem.weights * (local[..., 2] > 0)).sum(axis=1)
    if (in_front < MIN_IN_FRONT).any():
        frame = int(np.argmin(in_front))
        raise ValueError(
            f"pointmaps: frame {frame} is degenerate, {1 - in_front[frame]:.0%} of its points lie behind its camera"
        )


def _best_depth(
    pointmaps: np.ndarray, world_to_camera: np.ndarray, rays: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth [T, H, W] of the foot of each point on its pixel's ray; sums of squared distances [T] and counts [T].

    A point behind its camera counts with depth 0, the nearest depth there is, and is then invalid.
    """
    num_frames, height, width = pointmaps.shape[:3]
    a, b = (np.ascontiguousarray(rays[..., axis], np.float32).reshape(-1) for axis in (0, 1))
    inverse_square = 1 / (a * a + b * b + 1)
    depth = np.empty((num_frames, height * width), np.float32)

    def solve(frame: int) -> tuple[float, int]:
        points = pointmaps[frame].reshape(-1, 3).astype(np.float32, copy=False)
        pose = world_to_camera[frame].astype(np.float32)
        return _frame_depth(points, pose, a, b, inverse_square, depth[frame])

    # numpy lets other threads work while it computes.
    with ThreadPoolExecutor(available_cores()) as threads:
        squares, counts = zip(*threads.map(solve, range(num_frames)), strict=True)
    return depth.reshape(num_frames, height, width), np.array(squares), np.array(counts)


def _frame_depth(
    points: np.ndarray, pose: np.ndarray, a: np.ndarray, b: np.ndarray, inverse_square: np.ndarray, depth: np.ndarray
) -> tuple[float, int]:
    """Depth [N] of one frame's points [N, 3], written into `depth`; sum of squared distances and count."""
    # Blocks small enough that what is between the steps stays in the processor's cache.
    local, scratch = np.empty((3, BLOCK), np.float32), np.empty(BLOCK, np.float32)
    squares, count = 0.0, 0
    for start_pixel in range(0, len(points), BLOCK):
        block = slice(start_pixel, start_pixel + BLOCK)
        given = points[block]
        size = len(given)
        product, (x, y, z) = scratch[:size], local[:, :size]
        np.matmul(pose[:3, :3], given.T, out=local[:, :size])
        for coordinate, shift in zip((x, y, z), pose[:3, 3], strict=True):
            coordinate += shift
        best = depth[block]
        np.multiply(x, a[block], out=best)
        best += np.multiply(y, b[block], out=product)
        best += z
        best *= inverse_square[block]
        np.maximum(best, 0, out=best)
        x -= np.multiply(a[block], best, out=product)
        y -= np.multiply(b[block], best, out=product)
        z -= best
        error = np.square(x, out=x)
        error += np.square(y, out=y)
        error += np.square(z, out=z)
        valid = np.isfinite(error)
        squares += float(error.sum(dtype=np.float64, where=valid))
        count += int(np.count_nonzero(valid))
        best[~valid | (best <= 0)] = np.nan
    return squares, count
