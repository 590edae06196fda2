"""Poses and one focal length that bring points close to the rays of their pixels: Levenberg-Marquardt, Huber loss."""

from dataclasses import dataclass, replace

import numpy as np

from fourdnex.geometry.rotations import rotation_from_vector

PRIOR_FOCAL = 1.0
PRIOR_SIGMA = 0.7
"""Prior of log(focal / image width)."""
EFFECTIVE_PIXELS = 10.0
"""Errors of generated point maps are correlated over large parts of the image: one frame is worth about this many
independent pixels when data and prior are weighed against each other."""
HUBER = 1.345
"""Residuals beyond this many standard deviations count linearly (95 % efficient on Gaussian errors)."""
OUTLIER = 4.0
"""Residuals beyond this many standard deviations are taken for wrong."""


@dataclass(frozen=True, eq=False)
class PnPProblem:
    """Points, and the pixels that see them. Fixed `focal_limits` (equal) mean a known focal length."""

    points: np.ndarray  # [T, N, 3], whitened
    offsets: np.ndarray  # [T, N, 2], pixel minus principal point in image widths: ray = (offset / focal, 1)
    weights: np.ndarray  # [T, N], each frame's sum is 1
    focal_limits: tuple[float, float]

    @property
    def focal_is_known(self) -> bool:
        return self.focal_limits[0] == self.focal_limits[1]

    def thinned(self, step: int) -> "PnPProblem":
        """Every `step`-th pixel, but not fewer than about 256 a frame."""
        step = max(1, min(step, self.points.shape[1] // 256))
        weights = self.weights[:, ::step]
        total = weights.sum(axis=1, keepdims=True)
        if (total == 0).any():
            return self
        return replace(self, points=self.points[:, ::step], offsets=self.offsets[:, ::step], weights=weights / total)

    def some_frames(self, count: int) -> "PnPProblem":
        """At most `count` of the frames, evenly spread."""
        num_frames = len(self.points)
        chosen = np.unique(np.linspace(0, num_frames - 1, min(count, num_frames)).round().astype(int))
        return replace(self, points=self.points[chosen], offsets=self.offsets[chosen], weights=self.weights[chosen])


@dataclass(frozen=True, eq=False)
class PnPSolution:
    focal: float
    rotation: np.ndarray  # [T, 3, 3] world to camera
    translation: np.ndarray  # [T, 3] world to camera
    frame_costs: np.ndarray
    """[T] mean distance of points to rays, with points behind the camera charged in full; for choosing."""

    @property
    def cost(self) -> float:
        """Mean over the frames; where the points say nothing, the prior of the focal length chooses."""
        deviation = (np.log(self.focal) - np.log(PRIOR_FOCAL)) / PRIOR_SIGMA
        prior = 0.5 * float(deviation) ** 2 / (EFFECTIVE_PIXELS * len(self.frame_costs))
        return float(self.frame_costs.mean()) * (1 + prior)


def refine(
    problem: PnPProblem, focal: float, rotation: np.ndarray, translation: np.ndarray, *, iterations: int
) -> PnPSolution:
    """Levenberg-Marquardt from a start; poses are eliminated by the Schur complement, so a step is linear in T."""
    low, high = np.log(problem.focal_limits)
    log_focal = float(np.clip(np.log(focal), low, high))
    residual, jacobian = linearize(problem, log_focal, rotation, translation)
    damping = 1e-4
    for _ in range(iterations):
        weight, sigma = robust_weights(residual, problem.weights)
        cost = _robust_cost(residual, problem.weights, sigma, log_focal)
        step_pose, step_focal = _step(problem, residual, jacobian, weight, sigma, log_focal, damping)
        new_log_focal = float(np.clip(log_focal + step_focal, low, high))
        turn = rotation_from_vector(step_pose[:, :3])
        new_rotation = turn @ rotation
        new_translation = (turn @ translation[..., None])[..., 0] + step_pose[:, 3:]
        new_residual, new_jacobian = linearize(problem, new_log_focal, new_rotation, new_translation)
        new_cost = _robust_cost(new_residual, problem.weights, sigma, new_log_focal)
        if not new_cost <= cost:
            damping *= 10
            if damping > 1e6:
                break
            continue
        damping = max(damping / 10, 1e-9)
        log_focal, rotation, translation = new_log_focal, new_rotation, new_translation
        residual, jacobian = new_residual, new_jacobian
        if cost - new_cost <= 1e-7 * cost:
            break
    return evaluate(problem, float(np.exp(log_focal)), rotation, translation)


def reject_outliers(problem: PnPProblem, solution: PnPSolution) -> PnPProblem:
    """The problem without the pixels that lie further from their rays than any good one does, given a solution.

    The Huber loss bounds the pull of an outlier but does not end it; with a fifth of the pixels wrong their common
    pull still turns the cameras. A frame that would lose most of its weight keeps all of it.
    """
    residual, _ = linearize(problem, float(np.log(solution.focal)), solution.rotation, solution.translation)
    length = _length(residual)
    _, sigma = robust_weights(residual, problem.weights)
    weights = np.where(length <= OUTLIER * sigma, problem.weights, 0.0)
    kept = weights.sum(axis=1, keepdims=True)
    return replace(problem, weights=np.where(kept >= 0.5, weights / np.maximum(kept, 1e-12), problem.weights))


def evaluate(problem: PnPProblem, focal: float, rotation: np.ndarray, translation: np.ndarray) -> PnPSolution:
    """A solution with its costs."""
    ray = unit_rays(problem, float(np.log(focal)))
    local = problem.points @ np.swapaxes(rotation, 1, 2) + translation[:, None]
    along = np.maximum(np.einsum("tni,tni->tn", local, ray), 0)
    distance = np.linalg.norm(local - along[..., None] * ray, axis=-1)
    return PnPSolution(focal, rotation, translation, (problem.weights * distance).sum(axis=1))


def unit_rays(problem: PnPProblem, log_focal: float) -> np.ndarray:
    """Unit rays [T, N, 3] in the camera's frame."""
    rays = np.concatenate([problem.offsets * np.exp(-log_focal), np.ones_like(problem.offsets[..., :1])], axis=-1)
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def linearize(
    problem: PnPProblem, log_focal: float, rotation: np.ndarray, translation: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Residual [T, 2, N], the point across its ray, and its derivatives [T, 7, 2, N] by turn, shift and log focal.

    The two components lie along unit vectors u and v perpendicular to the ray. These turn with the focal length; how
    they turn about the ray changes no distance and is left out.
    """
    a, b = np.moveaxis(problem.offsets, -1, 0) * np.exp(-log_focal)  # ray = (a, b, 1), [T, N] each
    u_length = np.sqrt(1 + a * a)
    length = np.sqrt(1 + a * a + b * b)
    zero = np.zeros_like(a)
    u = (1 / u_length, zero, -a / u_length)
    v = (-a * b / (u_length * length), u_length / length, -b / (u_length * length))
    x, y, z = np.moveaxis(rotation @ np.swapaxes(problem.points, 1, 2) + translation[..., None], 1, 0)
    along = (x * a + y * b + z) / length

    num_frames, num_points = a.shape
    residual = np.empty((num_frames, 2, num_points))
    jacobian = np.empty((num_frames, 7, 2, num_points))
    for row, (e0, e1, e2) in enumerate((u, v)):
        residual[:, row] = e0 * x + e1 * y + e2 * z
        jacobian[:, 0, row] = y * e2 - z * e1  # e . (turn x point) = turn . (point x e)
        jacobian[:, 1, row] = z * e0 - x * e2
        jacobian[:, 2, row] = x * e1 - y * e0
        jacobian[:, 3, row], jacobian[:, 4, row], jacobian[:, 5, row] = e0, e1, e2
        # As the ray bends by (-a, -b, 0) / length, e bends the other way along the ray.
        jacobian[:, 6, row] = along * (a * e0 + b * e1) / length
    return residual, jacobian


def robust_weights(residual: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights [T, N] reduced by the Huber loss, and the robust standard deviation of one residual component."""
    length = _length(residual)
    # The median of a Rayleigh variable is 1.1774 sigma.
    sigma = max(float(np.median(length[weights > 0])) / 1.1774, 1e-9)
    return weights * np.minimum(1.0, HUBER * sigma / np.maximum(length, 1e-12)), sigma


def _step(
    problem: PnPProblem,
    residual: np.ndarray,
    jacobian: np.ndarray,
    weight: np.ndarray,
    sigma: float,
    log_focal: float,
    damping: float,
) -> tuple[np.ndarray, float]:
    """One damped Gauss-Newton step: poses [T, 6] and log focal."""
    num_frames = len(residual)
    columns = jacobian.reshape(num_frames, 7, -1)
    weighted = (jacobian * weight[:, None, None, :]).reshape(num_frames, 7, -1)
    normal = weighted @ np.swapaxes(columns, 1, 2)  # [T, 7, 7]
    gradient = (weighted @ residual.reshape(num_frames, -1, 1))[..., 0]  # [T, 7]
    diagonal = np.arange(7)
    damped = normal.copy()
    damped[:, diagonal, diagonal] += damping * normal[:, diagonal, diagonal] + 1e-12
    pose_block, coupling = damped[:, :6, :6], damped[:, :6, 6]
    solved = np.linalg.solve(pose_block, np.stack([gradient[:, :6], coupling], axis=-1))  # [T, 6, 2]
    if problem.focal_is_known:
        return -solved[..., 0], 0.0
    precision = _prior_precision(sigma)
    curvature = damped[:, 6, 6].sum() + precision - (coupling * solved[..., 1]).sum()
    slope = gradient[:, 6].sum() + precision * (log_focal - np.log(PRIOR_FOCAL)) - (coupling * solved[..., 0]).sum()
    step_focal = -float(slope / curvature)
    return -solved[..., 0] - solved[..., 1] * step_focal, step_focal


def _prior_precision(sigma: float) -> float:
    # Weights sum to 1 a frame, so a frame's squared residuals stand for EFFECTIVE_PIXELS of variance sigma^2.
    return sigma * sigma / (EFFECTIVE_PIXELS * PRIOR_SIGMA**2)


def _robust_cost(residual: np.ndarray, weights: np.ndarray, sigma: float, log_focal: float) -> float:
    distance = _length(residual)
    limit = HUBER * sigma
    loss = np.where(distance <= limit, 0.5 * distance**2, limit * (distance - 0.5 * limit))
    return float((weights * loss).sum() + 0.5 * _prior_precision(sigma) * (log_focal - np.log(PRIOR_FOCAL)) ** 2)


def _length(residual: np.ndarray) -> np.ndarray:
    """[T, N] of [T, 2, N]; several times faster than `hypot`, whose care for huge numbers nothing here needs."""
    square = residual[:, 0] * residual[:, 0]
    square += residual[:, 1] * residual[:, 1]
    return np.sqrt(square, out=square)
