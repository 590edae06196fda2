"""Camera recovery: the pinhole cameras and depth maps that best explain point maps.

Minimizes the squared distance between the given points and the unprojected depths over one focal length, one pose per
frame and one depth per pixel. The optimal depth is the projection of the point onto the ray of its pixel, so the depths
are eliminated and the distances of points to rays are minimized: linear initialization, then Levenberg-Marquardt with a
Huber loss on a subset of the pixels, then the depth of all pixels in closed form.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from fourdnex.cores import available_cores
from fourdnex.geometry.cameras import invert_pose, pixel_rays
from fourdnex.geometry.pnp_initialization import initialize
from fourdnex.geometry.pnp_refinement import PnPProblem, PnPSolution, evaluate, refine, reject_outliers
from fourdnex.geometry.pose_covariance import fisher_information, standard_deviations
from fourdnex.geometry.pose_smoothing import smooth_poses

MIN_PIXELS = 12
"""Min number of valid pixels per frame."""
BLOCK = 1 << 15
"""Pixels that are processed at once when depth is computed."""
MAX_DRAWS = 4
"""Pixels drawn from an interval before it counts as invalid."""
MIN_IN_FRONT = 0.1
"""Min fraction of a frame's points in front of its camera."""
MAX_OUTLIER_ROUNDS = 6
"""Max number of rounds of outlier rejection and refinement."""


@dataclass(frozen=True, eq=False)
class CameraRecovery:
    """Cameras and depth maps recovered from point maps, in the frame of reference and the units of the point maps."""

    intrinsics: np.ndarray  # [3, 3] float32, pixels, one for all frames
    camera_to_world: np.ndarray  # [T, 4, 4] float32, OpenCV axes
    depth: np.ndarray  # [T, H, W] float32, z in the camera's frame, NaN where the point is invalid or behind it
    rmse: float
    """Root mean square of recovered minus given coordinates, over all valid pixels."""
    frame_rmse: np.ndarray  # [T] float32, RMSE of each frame
    focal_std: float
    """Standard deviation of the focal length in pixels; 0 for given intrinsics."""
    rotation_std: np.ndarray  # [T] float32, standard deviation of the camera's orientation, degrees
    position_std: np.ndarray  # [T] float32, of its position, in the units of the point maps
    is_focal_determined: bool
    """False if the points do not determine the focal length (a fronto-parallel plane), and the prior chose it."""


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
    """Recover shared pinhole intrinsics and one camera pose per frame from point maps.

    Args:
        pointmaps: [T, H, W, 3], all frames in one frame of reference; non-finite pixels are ignored.
        confidence: [T, H, W] non-negative weights; pixels with weight 0 do not affect the cameras.
        intrinsics: [3, 3] known intrinsics in pixels; None to recover them.
        principal_point: (x, y) in pixels, if it is known and the focal length is not. Default: the image center.
        pixel_aspect: fx / fy of the recovered camera; 1 for square pixels.
        focal_range: limits of the recovered focal length, relative to the longer side of the image. A weak prior (one
            length of that side, standard deviation of a factor of 2) decides where the points do not determine the
            focal length, for example for a fronto-parallel plane.
        smooth: smooth poses toward constant velocity as far as correlated errors make them uncertain (see
            `smooth_poses`); exact points and independent errors are unaffected.
        num_pixels: number of pixels per frame that the cameras are fitted to.
        seed: random seed of the choice of these pixels.

    Returns:
        The recovery; its poses map camera coordinates to the frame of reference of the point maps.

    Raises:
        ValueError: an argument has a wrong shape or value, or a frame is degenerate: fewer than 12 valid pixels, all
            points coincident or collinear, or most points behind the camera.
    """
    pointmaps = np.asarray(pointmaps)
    _check_arguments(pointmaps, confidence, intrinsics, principal_point, focal_range)
    if not (np.isfinite(pixel_aspect) and pixel_aspect > 0) or (intrinsics is not None and pixel_aspect != 1):
        raise ValueError(f"pixel_aspect: expected a positive number, and 1 with known intrinsics, got {pixel_aspect}")
    num_frames, height, width = pointmaps.shape[:3]
    center_pixel = principal_point or ((width - 1) / 2, (height - 1) / 2)
    points, pixels, weights = _sample_pixels(pointmaps, confidence, num_pixels, np.random.default_rng(seed))
    # Whitened coordinates make the fit independent of units and origin.
    center = (points * weights[..., None]).sum(axis=(0, 1)) / weights.sum()
    scale = float(np.sqrt((((points - center) ** 2).sum(axis=-1) * weights).sum() / weights.sum()))
    if intrinsics is None:
        offsets, limits = (pixels - np.array(center_pixel)) * [1, pixel_aspect] / max(height, width), focal_range
    else:
        inverse = np.linalg.inv(np.asarray(intrinsics, np.float64))
        offsets, limits = (
            (np.concatenate([pixels, np.ones_like(pixels[..., :1])], axis=-1) @ inverse.T)[..., :2],
            (1, 1),
        )
    problem = PnPProblem((points - center) / scale, offsets, weights, focal_limits=limits)

    coarse = problem.subsample_pixels(8)
    initial = _fit_inliers(coarse, _unify_frames(coarse, initialize(coarse)))
    problem = reject_outliers(problem, initial)
    solution = refine(problem, initial.focal, initial.rotation, initial.translation, iterations=30)
    information = fisher_information(problem, solution)
    if smooth:
        solution = smooth_poses(problem, solution, information)
    _check_in_front(problem, solution)
    deviations = standard_deviations(problem, information)

    focal = solution.focal * max(height, width)
    if intrinsics is None:
        x, y = center_pixel
        intrinsics_matrix = np.array([[focal, 0, x], [0, focal / pixel_aspect, y], [0, 0, 1]], np.float64)
    else:
        intrinsics_matrix = np.array(intrinsics, np.float64)
    world_to_camera = np.tile(np.eye(4), (num_frames, 1, 1))
    world_to_camera[:, :3, :3] = solution.rotation
    world_to_camera[:, :3, 3] = solution.translation * scale - solution.rotation @ center
    poses = invert_pose(world_to_camera)
    depth, squares, counts = _project_depth(pointmaps, world_to_camera, pixel_rays(height, width, intrinsics_matrix))
    return CameraRecovery(
        intrinsics=intrinsics_matrix.astype(np.float32),
        camera_to_world=poses.astype(np.float32),
        depth=depth,
        rmse=float(np.sqrt(squares.sum() / (3 * counts.sum()))),
        frame_rmse=np.sqrt(squares / (3 * counts)).astype(np.float32),
        focal_std=float(deviations.log_focal * intrinsics_matrix[0, 0]) if intrinsics is None else 0.0,
        rotation_std=np.degrees(deviations.rotation).astype(np.float32),
        position_std=(deviations.position * scale).astype(np.float32),
        is_focal_determined=intrinsics is not None or deviations.is_focal_determined,
    )


def _check_arguments(
    pointmaps: np.ndarray,
    confidence: np.ndarray | None,
    intrinsics: np.ndarray | None,
    principal_point: tuple[float, float] | None,
    focal_range: tuple[float, float],
) -> None:
    """Raise ValueError for arguments with a wrong shape, type or range."""
    if pointmaps.ndim != 4 or pointmaps.shape[-1] != 3 or 0 in pointmaps.shape:
        raise ValueError(f"pointmaps: expected [T, H, W, 3], got {pointmaps.shape}")
    if pointmaps.dtype.kind not in "fiu":
        raise ValueError(f"pointmaps: expected real numbers, got {pointmaps.dtype}")
    if confidence is not None:
        if np.shape(confidence) != pointmaps.shape[:3]:
            raise ValueError(f"confidence: expected {pointmaps.shape[:3]}, got {np.shape(confidence)}")
        if np.nanmin(confidence, initial=0.0) < 0:
            raise ValueError("confidence: expected non-negative weights")
    if intrinsics is not None:
        pixel_rays(1, 1, np.asarray(intrinsics, np.float64))  # raises for wrong shapes and focal lengths
        if principal_point is not None:
            raise ValueError("principal_point: expected None with known intrinsics, which contain it")
    if principal_point is not None and not (np.shape(principal_point) == (2,) and np.isfinite(principal_point).all()):
        raise ValueError(f"principal_point: expected two finite numbers, got {principal_point}")
    if not 0 < focal_range[0] < focal_range[1]:
        raise ValueError(f"focal_range: expected 0 < low < high, got {focal_range}")


def _fit_inliers(problem: PnPProblem, solution: PnPSolution) -> PnPSolution:
    """Alternate outlier rejection and refinement until the set of inliers is stable."""
    solution = refine(problem, solution.focal, solution.rotation, solution.translation, iterations=20)
    inliers = problem
    for _ in range(MAX_OUTLIER_ROUNDS):
        candidate = reject_outliers(problem, solution)
        if ((candidate.weights > 0) == (inliers.weights > 0)).mean() > 0.999:
            break
        inliers = candidate
        solution = refine(inliers, solution.focal, solution.rotation, solution.translation, iterations=15)
    return solution


def _unify_frames(problem: PnPProblem, solution: PnPSolution) -> PnPSolution:
    """Resolve ambiguous poses: use the pose of the best frame wherever it fits about as well.

    A plane under a long lens, for example, has two poses with almost the same cost.
    """
    best = int(np.argmin(solution.frame_costs))
    num_frames = len(solution.rotation)
    other = refine(
        problem,
        solution.focal,
        np.tile(solution.rotation[best], (num_frames, 1, 1)),
        np.tile(solution.translation[best], (num_frames, 1)),
        iterations=8,
    )
    use_other = other.frame_costs <= 1.02 * solution.frame_costs
    return evaluate(
        problem,
        solution.focal,
        np.where(use_other[:, None, None], other.rotation, solution.rotation),
        np.where(use_other[:, None], other.translation, solution.translation),
    )


def _sample_pixels(
    pointmaps: np.ndarray, confidence: np.ndarray | None, num_pixels: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points [T, N, 3], pixels [T, N, 2] as (x, y) and weights [T, N] of evenly distributed valid pixels."""
    num_frames, height, width = pointmaps.shape[:3]
    count = min(num_pixels, height * width)
    points = np.zeros((num_frames, count, 3))
    pixels = np.zeros((num_frames, count, 2))
    weights = np.zeros((num_frames, count))
    for frame in range(num_frames):
        flat = pointmaps[frame].reshape(-1, 3)
        flat_confidence = None if confidence is None else confidence[frame].reshape(-1)
        index = _stratified_sample(flat, flat_confidence, count, rng)
        if len(index) < MIN_PIXELS:
            raise ValueError(f"pointmaps: frame {frame} has {len(index)} valid pixels, expected at least {MIN_PIXELS}")
        used = slice(0, len(index))
        points[frame, used] = flat[index]
        pixels[frame, used] = np.stack([index % width, index // width], axis=-1)
        weights[frame, used] = 1 if flat_confidence is None else flat_confidence[index]
        _check_extent(points[frame, used], frame)
        # All frames have the same total weight, whatever their number of valid pixels and their confidence.
        weights[frame] *= 1.0 / weights[frame].sum()
    return points, pixels, weights


def _stratified_sample(
    points: np.ndarray, confidence: np.ndarray | None, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Indices of at most `count` valid points [N, 3]: one random point from each of `count` equal intervals."""

    def is_valid(index: np.ndarray | slice) -> np.ndarray:
        """Whether points are finite and have a positive confidence."""
        finite = np.isfinite(points[index]).all(axis=-1)
        return finite if confidence is None else finite & (np.nan_to_num(confidence[index]) > 0)

    def draw(num_intervals: int, length: int) -> np.ndarray:
        """A random index from each of `num_intervals` equal intervals of range(length)."""
        edges = np.linspace(0, length, num_intervals + 1)
        drawn = edges[:-1] + rng.random(num_intervals) * np.diff(edges)
        return np.minimum(drawn.astype(int), length - 1)

    if len(points) > 4 * count:
        # Drawing a few times from each interval avoids checking all pixels, unless much of the frame is invalid.
        chosen = draw(count, len(points))
        valid = is_valid(chosen)
        for _ in range(MAX_DRAWS - 1):
            if valid.all():
                break
            chosen = np.where(valid, chosen, draw(count, len(points)))
            valid = is_valid(chosen)
        if valid.mean() > 0.9:
            return chosen[valid]
    index = np.flatnonzero(is_valid(slice(None)))
    return index[draw(count, len(index))] if len(index) > count else index


def _check_extent(points: np.ndarray, frame: int) -> None:
    """Raise ValueError if the points of a frame are coincident or collinear."""
    centered = points - points.mean(axis=0)
    extent = np.sqrt(np.maximum(np.linalg.eigvalsh(centered.T @ centered / len(points)), 0))[::-1]
    rounding = 1e-5 * float(np.abs(points).max())
    if extent[1] <= max(1e-4 * extent[0], rounding):
        shape = "coincident" if extent[0] <= rounding else "collinear"
        raise ValueError(f"pointmaps: frame {frame} is degenerate, its points are {shape}")


def _check_in_front(problem: PnPProblem, solution: PnPSolution) -> None:
    """Raise ValueError if most points of a frame are behind its camera."""
    local = problem.points @ np.swapaxes(solution.rotation, 1, 2) + solution.translation[:, None]
    in_front = (problem.weights * (local[..., 2] > 0)).sum(axis=1)
    if (in_front < MIN_IN_FRONT).any():
        frame = int(np.argmin(in_front))
        raise ValueError(
            f"pointmaps: frame {frame} is degenerate, {1 - in_front[frame]:.0%} of its points are behind its camera"
        )


def _project_depth(
    pointmaps: np.ndarray, world_to_camera: np.ndarray, rays: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth [T, H, W] of the points projected onto their rays; sums of squared distances [T] and valid counts [T].

    A point behind its camera has depth 0, the nearest possible one, in the squared distance, and is invalid.
    """
    num_frames, height, width = pointmaps.shape[:3]
    a, b = (np.ascontiguousarray(rays[..., axis], np.float32).reshape(-1) for axis in (0, 1))
    inverse_square = 1 / (a * a + b * b + 1)
    depth = np.empty((num_frames, height * width), np.float32)

    def solve(frame: int) -> tuple[float, int]:
        """Depth of one frame, in place; its sum of squared distances and valid count."""
        points = pointmaps[frame].reshape(-1, 3).astype(np.float32, copy=False)
        pose = world_to_camera[frame].astype(np.float32)
        return _frame_depth(points, pose, a, b, inverse_square, depth[frame])

    # numpy releases the GIL while it computes.
    with ThreadPoolExecutor(available_cores()) as threads:
        squares, counts = zip(*threads.map(solve, range(num_frames)), strict=True)
    return depth.reshape(num_frames, height, width), np.array(squares), np.array(counts)


def _frame_depth(
    points: np.ndarray, pose: np.ndarray, a: np.ndarray, b: np.ndarray, inverse_square: np.ndarray, depth: np.ndarray
) -> tuple[float, int]:
    """Write the depth [N] of one frame's points [N, 3] into `depth`; sum of squared distances and valid count."""
    # Blocks are small enough for intermediate results to stay in the processor's cache.
    local, scratch = np.empty((3, BLOCK), np.float32), np.empty(BLOCK, np.float32)
    squares, count = 0.0, 0
    for start_pixel in range(0, len(points), BLOCK):
        block = slice(start_pixel, start_pixel + BLOCK)
        block_points = points[block]
        size = len(block_points)
        product, (x, y, z) = scratch[:size], local[:, :size]
        np.matmul(pose[:3, :3], block_points.T, out=local[:, :size])
        for coordinate, offset in zip((x, y, z), pose[:3, 3], strict=True):
            coordinate += offset
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
