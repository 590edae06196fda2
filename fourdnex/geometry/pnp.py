"""Starting values for camera recovery: linear (DLT) and, where that is degenerate, orthogonal iteration."""

from collections.abc import Iterator

import numpy as np

from fourdnex.geometry.pnp_refinement import PnPProblem, PnPSolution, evaluate, refine, unit_rays

GRID = (0.45, 0.7, 1.0, 1.5, 2.5)
"""Focal lengths, in image widths, that orthogonal iteration tries."""
START_FRAMES = 8
"""Frames that the focal length is first sought with: all share it."""
STEPS = 8
"""Of the fit, from each start."""


def start(problem: PnPProblem) -> PnPSolution:
    """A focal length, tried out on a few of the frames, and a pose for every frame, by few steps of the fit.

    Where the linear start and the weak perspective lead to different poses, each frame keeps the better one.

    Raises:
        ValueError: only cameras that have the points behind them explain the points.
    """
    linear, is_determined = _direct_linear_transform(problem)
    # With all points in front, a projection of negative determinant is that of a camera that mirrors.
    mirrored = np.linalg.det(linear[:, :, :3]) < 0
    if is_determined and mirrored.mean() > 0.5:
        raise ValueError(
            f"pointmaps: degenerate, in {mirrored.sum()} of {len(mirrored)} frames the points lie behind the camera "
            "that would see them; is an axis mirrored?"
        )
    if problem.focal_is_known:
        focal = problem.focal_limits[0]
    else:
        few = problem.some_frames(START_FRAMES)
        focal = min((refine(few, *one, iterations=STEPS) for one in _starts(few)), key=lambda found: found.cost).focal
    one = evaluate(problem, focal, *_from_projection(problem, focal, linear))
    other = evaluate(problem, focal, *_orthogonal_iteration(problem, focal, _weak_perspective(problem, focal)))
    takes = one.frame_costs <= other.frame_costs
    rotation = np.where(takes[:, None, None], one.rotation, other.rotation)
    translation = np.where(takes[:, None], one.translation, other.translation)
    return refine(problem, focal, rotation, translation, iterations=STEPS)


def _starts(problem: PnPProblem) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Candidates (focal, rotations [T, 3, 3], translations [T, 3]), world to camera, best-informed first.

    The linear start needs no guess, but is undefined for points in one plane and brittle under heavy noise; the others
    assume a focal length and need neither.
    """
    projection, is_determined = _direct_linear_transform(problem)
    focal = _shared_focal(problem, projection)
    yield focal, *_from_projection(problem, focal, projection)
    if not is_determined:
        for focal in GRID:
            focal = float(np.clip(focal, *problem.focal_limits))
            yield focal, *_orthogonal_iteration(problem, focal, _weak_perspective(problem, focal))


def _from_projection(problem: PnPProblem, focal: float, projection: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses of projections [T, 3, 4] under a given focal length."""
    rotation = _nearest_rotation(projection[:, :, :3] / np.array([focal, focal, 1.0])[:, None])
    return _orthogonal_iteration(problem, focal, rotation, iterations=3)


def _direct_linear_transform(problem: PnPProblem) -> tuple[np.ndarray, bool]:
    """Projections [T, 3, 4], offset ~ P (X, 1), each up to scale, with points in front of the camera.

    The flag says whether they are to be trusted: residuals are small, and most frames have one solution, not several
    as for points in one plane.
    """
    homogeneous = np.concatenate([problem.points, np.ones_like(problem.points[..., :1])], axis=-1)
    root = np.sqrt(problem.weights)[..., None]
    x, y = problem.offsets[..., :1], problem.offsets[..., 1:]
    zero = np.zeros_like(homogeneous)
    rows = np.concatenate(
        [
            np.concatenate([homogeneous, zero, -x * homogeneous], axis=-1) * root,
            np.concatenate([zero, homogeneous, -y * homogeneous], axis=-1) * root,
        ],
        axis=1,
    )
    values, vectors = np.linalg.eigh(np.swapaxes(rows, 1, 2) @ rows)
    values = np.maximum(values, 1e-15 * values[:, -1:])
    is_determined = bool(
        np.median(values[:, 0] / values[:, 1]) < 0.1 and np.median(values[:, 0] / values[:, -1]) < 1e-4
    )
    projection = vectors[:, :, 0].reshape(-1, 3, 4)
    depth = (homogeneous @ projection[:, 2, :, None])[..., 0]
    sign = np.where((problem.weights * np.sign(depth)).sum(axis=1) < 0, -1.0, 1.0)
    return projection * sign[:, None, None], is_determined


def _shared_focal(problem: PnPProblem, projection: np.ndarray) -> float:
    """Median over frames of the focal length in each projection, within the limits."""
    third = projection[:, 2, :3]
    third = third / np.linalg.norm(projection[:, 2, :3], axis=-1, keepdims=True).clip(1e-12)
    length = np.linalg.norm(projection[:, 2, :3], axis=-1).clip(1e-12)
    # The rows are focal * r1 and focal * r2 once the part along r3 (an off-center principal point) is taken away.
    focal = [
        np.linalg.norm(row - (row * third).sum(axis=-1, keepdims=True) * third, axis=-1) / length
        for row in (projection[:, 0, :3], projection[:, 1, :3])
    ]
    return float(np.clip(np.median(np.concatenate(focal)), *problem.focal_limits))


def _weak_perspective(problem: PnPProblem, focal: float) -> np.ndarray:
    """Rotations [T, 3, 3] that align the points with their pixels as if all had the same depth."""
    offsets = np.concatenate([problem.offsets / focal, np.zeros_like(problem.offsets[..., :1])], axis=-1)
    weight = problem.weights[..., None]
    points = problem.points - _mean(problem.points, problem.weights)
    offsets = offsets - _mean(offsets, problem.weights)
    # The affine map from points to offsets; its two rows span the image axes, their cross product looks forward.
    normal = np.swapaxes(points * weight, 1, 2) @ points + 1e-9 * np.eye(3)
    rows = np.swapaxes(np.linalg.solve(normal, np.swapaxes(points * weight, 1, 2) @ offsets), 1, 2)[:, :2]
    rotation = np.empty((len(rows), 3, 3))
    u, _, vt = np.linalg.svd(rows, full_matrices=False)
    rotation[:, :2] = u @ vt
    rotation[:, 2] = np.cross(rotation[:, 0], rotation[:, 1])
    return rotation


def _orthogonal_iteration(
    problem: PnPProblem, focal: float, rotation: np.ndarray, *, iterations: int = 12
) -> tuple[np.ndarray, np.ndarray]:
    """Poses for a known focal length (Lu, Hager, Mjolsness, PAMI 2000): points onto rays and back, in turn."""
    ray = unit_rays(problem, float(np.log(focal)))
    weight = problem.weights[..., None]
    outer = np.swapaxes(ray * weight, 1, 2) @ ray  # [T, 3, 3], weighted mean of ray ray^T
    solve = np.linalg.inv(np.eye(3) * (1 + 1e-9) - outer)
    translation = np.zeros((len(rotation), 3))
    for step in range(iterations + 1):
        turned = problem.points @ np.swapaxes(rotation, 1, 2)
        foot = ray * _dot(turned, ray)
        translation = (solve @ np.swapaxes(_mean(foot - turned, problem.weights), 1, 2))[..., 0]
        if step == iterations:
            break
        local = turned + translation[:, None]
        foot = ray * np.maximum(_dot(local, ray), 0)
        foot = foot - _mean(foot, problem.weights)
        points = problem.points - _mean(problem.points, problem.weights)
        rotation = _nearest_rotation(np.swapaxes(foot * weight, 1, 2) @ points)
    return rotation, translation


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[T, N, 1] of two [T, N, 3]."""
    return np.einsum("tni,tni->tn", a, b)[..., None]


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[T, 1, C] of [T, N, C]; each frame's weights sum to 1."""
    return weights[:, None] @ values


def _nearest_rotation(matrices: np.ndarray) -> np.ndarray:
    """Proper rotations [T, 3, 3] nearest to matrices [T, 3, 3]."""
    u, _, vt = np.linalg.svd(matrices)
    sign = np.ones((len(matrices), 3))
    sign[:, 2] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    return (u * sign[:, None, :]) @ vt
