"""PnP refinement: poses and a shared focal length that minimize the distances of points to the rays of their pixels.

Levenberg-Marquardt with a Huber loss (iteratively reweighted least squares).
"""

from dataclasses import dataclass, replace

import numpy as np

from fourdnex.geometry.rotations import rotation_from_vector

PRIOR_FOCAL = 1.0
PRIOR_SIGMA = 0.7
"""Mean and standard deviation of the prior of log(focal / image width); the mean is log(`PRIOR_FOCAL`)."""
EFFECTIVE_PIXELS = 10.0
"""Effective number of independent pixels per frame, for weighting the data against the prior. Errors of generated point
maps are correlated over large parts of the image."""
HUBER_THRESHOLD = 1.345
"""Standard deviations beyond which the loss is linear (95 % efficiency for Gaussian errors)."""
OUTLIER_THRESHOLD = 4.0
"""Standard deviations beyond which a residual is an outlier."""


@dataclass(frozen=True, eq=False)
class PnPProblem:
    """Points and the pixels that observe them. Equal `focal_limits` mean a known focal length."""

    points: np.ndarray  # [T, N, 3], whitened
    offsets: np.ndarray  # [T, N, 2], pixel minus principal point in image widths: ray = (offset / focal, 1)
    weights: np.ndarray  # [T, N], sum to 1 in each frame
    focal_limits: tuple[float, float]

    @property
    def has_known_focal(self) -> bool:
        """Whether the focal length is fixed."""
        return self.focal_limits[0] == self.focal_limits[1]

    def subsample_pixels(self, step: int) -> "PnPProblem":
        """Every `step`-th pixel, but at least about 256 per frame."""
        step = max(1, min(step, self.points.shape[1] // 256))
        weights = self.weights[:, ::step]
        total = weights.sum(axis=1, keepdims=True)
        if (total == 0).any():
            return self
        return replace(self, points=self.points[:, ::step], offsets=self.offsets[:, ::step], weights=weights / total)

    def subsample_frames(self, count: int) -> "PnPProblem":
        """At most `count` frames, evenly spaced."""
        num_frames = len(self.points)
        chosen = np.unique(np.linspace(0, num_frames - 1, min(count, num_frames)).round().astype(int))
        return replace(self, points=self.points[chosen], offsets=self.offsets[chosen], weights=self.weights[chosen])


@dataclass(frozen=True, eq=False)
class PnPSolution:
    """Focal length and poses, with their costs."""

    focal: float  # in image widths
    rotation: np.ndarray  # [T, 3, 3] world to camera
    translation: np.ndarray  # [T, 3] world to camera
    frame_costs: np.ndarray
    """[T], weighted mean distance of the points to their rays, for comparing solutions. Points behind the camera count
    with their distance to the camera."""

    @property
    def cost(self) -> float:
        """Mean over the frames, with the prior of the focal length as a tie-breaker."""
        deviation = (np.log(self.focal) - np.log(PRIOR_FOCAL)) / PRIOR_SIGMA
        prior = 0.5 * float(deviation) ** 2 / (EFFECTIVE_PIXELS * len(self.frame_costs))
        return float(self.frame_costs.mean()) * (1 + prior)


def refine(
    problem: PnPProblem, focal: float, rotation: np.ndarray, translation: np.ndarray, *, iterations: int
) -> PnPSolution:
    """Refine a solution by Levenberg-Marquardt.

    The poses are eliminated by the Schur complement, so the cost of a step is linear in T.
    """
    low, high = np.log(problem.focal_limits)
    log_focal = float(np.clip(np.log(focal), low, high))
    residual, jacobian = linearize(problem, log_focal, rotation, translation)
    damping = 1e-4
    for _ in range(iterations):
        weight, sigma = robust_weights(residual, problem.weights)
        cost = _robust_cost(residual, problem.weights, sigma, log_focal)
        step_pose, step_focal = _step(problem, residual, jacobian, weight, sigma, log_focal, damping)
        new_log_focal = float(np.clip(log_focal + step_focal, low, high))
        delta = rotation_from_vector(step_pose[:, :3])
        new_rotation = delta @ rotation
        new_translation = (delta @ translation[..., None])[..., 0] + step_pose[:, 3:]
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
    """Set the weights of outliers, given a solution, to 0.

    The Huber loss bounds the influence of an outlier but does not remove it: with 20 % outliers, their total influence
    still rotates the cameras. A frame that would lose more than half of its weight keeps all of it.
    """
    residual, _ = linearize(problem, float(np.log(solution.focal)), solution.rotation, solution.translation)
    length = _length(residual)
    _, sigma = robust_weights(residual, problem.weights)
    weights = np.where(length <= OUTLIER_THRESHOLD * sigma, problem.weights, 0.0)
    inlier_weight = weights.sum(axis=1, keepdims=True)
    normalized = weights / np.maximum(inlier_weight, 1e-12)
    return replace(problem, weights=np.where(inlier_weight >= 0.5, normalized, problem.weights))


def evaluate(problem: PnPProblem, focal: float, rotation: np.ndarray, translation: np.ndarray) -> PnPSolution:
    """Compute the costs of a focal length and poses."""
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
    """Residuals [T, 2, N] and their Jacobian [T, 7, 2, N] by rotation (3), translation (3) and log focal length (1).

    A residual is the offset of a point from its ray, in the basis of two unit vectors u and v perpendicular to the ray.
    These rotate with the focal length; their rotation about the ray does not change the distance and is ignored.
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
        jacobian[:, 0, row] = y * e2 - z * e1  # e . (w x point) = w . (point x e), rotation vector w
        jacobian[:, 1, row] = z * e0 - x * e2
        jacobian[:, 2, row] = x * e1 - y * e0
        jacobian[:, 3, row], jacobian[:, 4, row], jacobian[:, 5, row] = e0, e1, e2
        # The ray changes by (-a, -b, 0) / length, and e by the opposite amount along the ray.
        jacobian[:, 6, row] = along * (a * e0 + b * e1) / length
    return residual, jacobian


def robust_weights(residual: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """IRLS weights [T, N] of the Huber loss, and the robust standard deviation of one residual component."""
    length = _length(residual)
    # The median of a Rayleigh variable is 1.1774 sigma.
    sigma = max(float(np.median(length[weights > 0])) / 1.1774, 1e-9)
    return weights * np.minimum(1.0, HUBER_THRESHOLD * sigma / np.maximum(length, 1e-12)), sigma


def _step(
    problem: PnPProblem,
    residual: np.ndarray,
    jacobian: np.ndarray,
    weight: np.ndarray,
    sigma: float,
    log_focal: float,
    damping: float,
) -> tuple[np.ndarray, float]:
    """One damped Gauss-Newton step of the poses [T, 6] and the log focal length."""
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
    if problem.has_known_focal:
        return -solved[..., 0], 0.0
    precision = _prior_precision(sigma)
    curvature = damped[:, 6, 6].sum() + precision - (coupling * solved[..., 1]).sum()
    slope = gradient[:, 6].sum() + precision * (log_focal - np.log(PRIOR_FOCAL)) - (coupling * solved[..., 0]).sum()
    step_focal = -float(slope / curvature)
    return -solved[..., 0] - solved[..., 1] * step_focal, step_focal


def _prior_precision(sigma: float) -> float:
    """Precision of the focal prior relative to the data term."""
    # Weights sum to 1 per frame: the squared residuals of a frame represent EFFECTIVE_PIXELS with variance sigma^2.
    return sigma * sigma / (EFFECTIVE_PIXELS * PRIOR_SIGMA**2)


def _robust_cost(residual: np.ndarray, weights: np.ndarray, sigma: float, log_focal: float) -> float:
    """Huber loss of the residuals plus the prior of the focal length."""
    distance = _length(residual)
    limit = HUBER_THRESHOLD * sigma
    loss = np.where(distance <= limit, 0.5 * distance**2, limit * (distance - 0.5 * limit))
    return float((weights * loss).sum() + 0.5 * _prior_precision(sigma) * (log_focal - np.log(PRIOR_FOCAL)) ** 2)


def _length(residual: np.ndarray) -> np.ndarray:
    """Lengths [T, N] of residuals [T, 2, N]; several times faster than `hypot`, which guards against overflow."""
    square = residual[:, 0] * residual[:, 0]
    square += residual[:, 1] * residual[:, 1]
    return np.sqrt(square, out=square)
