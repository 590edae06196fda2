"""Initialization of the PnP problem of camera recovery: direct linear transform (DLT) and orthogonal iteration."""

from collections.abc import Iterator

import numpy as np

from fourdnex.geometry.pnp_refinement import PnPProblem, PnPSolution, evaluate, refine, unit_rays

CANDIDATE_FOCALS = (0.45, 0.7, 1.0, 1.5, 2.5)
"""Focal lengths, in image widths, that orthogonal iteration starts from."""
MAX_FOCAL_FRAMES = 8
"""Max number of frames used to choose the focal length, which all frames share."""
REFINEMENT_STEPS = 8
"""Levenberg-Marquardt steps from each candidate."""


def initialize(problem: PnPProblem) -> PnPSolution:
    """Initial focal length and poses for the refinement.

    The focal length is the best of several candidates, each refined by a few steps on a few frames. Poses come from
    the linear and from the weak-perspective initialization; each frame keeps the one with the lower cost.

    Raises:
        ValueError: the points can only be explained by cameras that have them behind.
    """
    projection, is_determined = _direct_linear_transform(problem)
    # With all points in front, a projection with a negative determinant belongs to a mirroring camera.
    mirrored = np.linalg.det(projection[:, :, :3]) < 0
    if is_determined and mirrored.mean() > 0.5:
        raise ValueError(
            f"pointmaps: degenerate, in {mirrored.sum()} of {len(mirrored)} frames the points are behind the camera; "
            "is an axis mirrored?"
        )
    if problem.has_known_focal:
        focal = problem.focal_limits[0]
    else:
        subset = problem.subsample_frames(MAX_FOCAL_FRAMES)
        refined = (refine(subset, *candidate, iterations=REFINEMENT_STEPS) for candidate in _candidates(subset))
        focal = min(refined, key=lambda solution: solution.cost).focal
    linear = evaluate(problem, focal, *_from_projection(problem, focal, projection))
    weak = evaluate(problem, focal, *_orthogonal_iteration(problem, focal, _weak_perspective(problem, focal)))
    use_linear = linear.frame_costs <= weak.frame_costs
    rotation = np.where(use_linear[:, None, None], linear.rotation, weak.rotation)
    translation = np.where(use_linear[:, None], linear.translation, weak.translation)
    return refine(problem, focal, rotation, translation, iterations=REFINEMENT_STEPS)


def _candidates(problem: PnPProblem) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Candidate focal length, rotations [T, 3, 3] and translations [T, 3] (world to camera).

    The first is linear: it needs no initial focal length, but is undefined for coplanar points and sensitive to noise.
    Where it is not reliable, orthogonal iteration from assumed focal lengths follows.
    """
    projection, is_determined = _direct_linear_transform(problem)
    focal = _shared_focal(problem, projection)
    yield focal, *_from_projection(problem, focal, projection)
    if not is_determined:
        for focal in CANDIDATE_FOCALS:
            focal = float(np.clip(focal, *problem.focal_limits))
            yield focal, *_orthogonal_iteration(problem, focal, _weak_perspective(problem, focal))


def _from_projection(problem: PnPProblem, focal: float, projection: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses from projection matrices [T, 3, 4] and a known focal length."""
    rotation = _nearest_rotation(projection[:, :, :3] / np.array([focal, focal, 1.0])[:, None])
    return _orthogonal_iteration(problem, focal, rotation, iterations=3)


def _direct_linear_transform(problem: PnPProblem) -> tuple[np.ndarray, bool]:
    """Projection matrices [T, 3, 4] with offset ~ P (X, 1), each up to scale, with the points in front of the camera.

    The flag tells whether they are reliable: residuals are small, and most frames have a unique solution, which
    coplanar points do not have.
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
    """Median of the focal lengths of the projection matrices, clipped to the limits."""
    third = projection[:, 2, :3]
    third = third / np.linalg.norm(projection[:, 2, :3], axis=-1, keepdims=True).clip(1e-12)
    length = np.linalg.norm(projection[:, 2, :3], axis=-1).clip(1e-12)
    # Without their component along r3 (an off-center principal point), the rows are focal * r1 and focal * r2.
    focal = [
        np.linalg.norm(row - (row * third).sum(axis=-1, keepdims=True) * third, axis=-1) / length
        for row in (projection[:, 0, :3], projection[:, 1, :3])
    ]
    return float(np.clip(np.median(np.concatenate(focal)), *problem.focal_limits))


def _weak_perspective(problem: PnPProblem, focal: float) -> np.ndarray:
    """Rotations [T, 3, 3] from the affine camera that fits the points, as if all had the same depth."""
    offsets = np.concatenate([problem.offsets / focal, np.zeros_like(problem.offsets[..., :1])], axis=-1)
    weight = problem.weights[..., None]
    points = problem.points - _mean(problem.points, problem.weights)
    offsets = offsets - _mean(offsets, problem.weights)
    # Affine map from points to offsets: its two rows span the image axes, their cross product is the viewing direction.
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
    """Poses for a known focal length by orthogonal iteration (Lu, Hager, Mjolsness, PAMI 2000).

    Alternates between projecting the points onto the rays and aligning them with these projections.
    """
    ray = unit_rays(problem, float(np.log(focal)))
    weight = problem.weights[..., None]
    outer = np.swapaxes(ray * weight, 1, 2) @ ray  # [T, 3, 3], weighted mean of ray ray^T
    solve = np.linalg.inv(np.eye(3) * (1 + 1e-9) - outer)
    translation = np.zeros((len(rotation), 3))
    for step in range(iterations + 1):
        rotated = problem.points @ np.swapaxes(rotation, 1, 2)
        foot = ray * _dot(rotated, ray)
        translation = (solve @ np.swapaxes(_mean(foot - rotated, problem.weights), 1, 2))[..., 0]
        if step == iterations:
            break
        local = rotated + translation[:, None]
        foot = ray * np.maximum(_dot(local, ray), 0)
        foot = foot - _mean(foot, problem.weights)
        points = problem.points - _mean(problem.points, problem.weights)
        rotation = _nearest_rotation(np.swapaxes(foot * weight, 1, 2) @ points)
    return rotation, translation


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dot products [T, N, 1] of vectors [T, N, 3]."""
    return np.einsum("tni,tni->tn", a, b)[..., None]


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means [T, 1, C] of values [T, N, C]; the weights of a frame sum to 1."""
    return weights[:, None] @ values


def _nearest_rotation(matrices: np.ndarray) -> np.ndarray:
    """Proper rotations [T, 3, 3] that are nearest to matrices [T, 3, 3] (Frobenius norm)."""
    u, _, vt = np.linalg.svd(matrices)
    sign = np.ones((len(matrices), 3))
    sign[:, 2] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    return (u * sign[:, None, :]) @ vt
