"""How much the points say of recovered cameras: the curvature of the fit, and standard deviations out of it."""

from dataclasses import dataclass

import numpy as np

from fourdnex.geometry.pnp_refinement import PRIOR_SIGMA, PnPProblem, PnPSolution, linearize, robust_weights

GRID = (6, 8)
"""Rows and columns of the patches that tell correlated from independent errors."""


@dataclass(frozen=True, eq=False)
class FisherInformation:
    """Curvature of the fit at a solution, as if frames erred independently. Errors that move in patches count as the
    few independent ones that they are worth."""

    matrix: np.ndarray  # [T, 7, 7], of turn, shift and log focal: the inverse of their covariance
    spurious: float
    """The part of the focal length's that noise alone makes: it gives a flat wall a thickness."""


@dataclass(frozen=True, eq=False)
class PoseDeviation:
    """Standard deviations in whitened units."""

    log_focal: float
    turn: np.ndarray  # [T], radians
    shift: np.ndarray  # [T], of the camera's place
    is_focal_determined: bool
    """The points say more of the focal length than the prior does."""


def information(problem: PnPProblem, solution: PnPSolution) -> FisherInformation:
    num_frames = len(problem.points)
    log_focal = float(np.log(solution.focal))
    residual, jacobian = linearize(problem, log_focal, solution.rotation, solution.translation)
    weight, sigma = robust_weights(residual, problem.weights)
    independent = effective_sample_size(problem, residual)
    columns = jacobian.reshape(num_frames, 7, -1)
    weighted = (jacobian * weight[:, None, None, :]).reshape(num_frames, 7, -1)
    matrix = weighted @ np.swapaxes(columns, 1, 2) * (independent / sigma**2)
    return FisherInformation(matrix, independent * float((weight * _focal_pull(problem, log_focal)).sum()))


def standard_deviations(problem: PnPProblem, known: FisherInformation) -> PoseDeviation:
    """Deviations of the shared focal length and of each frame's pose.

    Smoothing over time, which makes poses better than this, is not taken into account.
    """
    pose, coupling = known.matrix[:, :6, :6], known.matrix[:, :6, 6]
    covariance = np.linalg.pinv(pose, hermitian=True)  # [T, 6, 6], for a known focal length
    gain = (covariance @ coupling[..., None])[..., 0]  # how a pose follows the focal length
    from_points = max(float(known.matrix[:, 6, 6].sum() - (coupling * gain).sum()), 0.0)
    focal_variance = 0.0 if problem.focal_is_known else 1 / (from_points + PRIOR_SIGMA**-2)
    variance = np.diagonal(covariance, axis1=1, axis2=2) + gain**2 * focal_variance
    turn, shift = np.sqrt(variance[:, :3].sum(axis=1)), np.sqrt(variance[:, 3:].sum(axis=1))
    is_determined = from_points - known.spurious > max(known.spurious, PRIOR_SIGMA**-2)
    return PoseDeviation(float(np.sqrt(focal_variance)), turn, shift, is_determined)


def effective_sample_size(problem: PnPProblem, residual: np.ndarray) -> float:
    """How many independent errors a frame's residuals [T, 2, N] are worth: at most N, fewer where patches err alike."""
    span = np.abs(problem.offsets).max(axis=(0, 1)).clip(1e-9)
    cell = np.minimum(((problem.offsets / span + 1) / 2 * GRID[::-1]).astype(int), np.array(GRID[::-1]) - 1)
    index = cell[..., 1] * GRID[1] + cell[..., 0] + np.arange(len(cell))[:, None] * (GRID[0] * GRID[1])
    used = problem.weights > 0
    count = np.bincount(index[used], minlength=len(cell) * GRID[0] * GRID[1])
    limit = 3 * np.median(np.abs(residual), axis=-1, keepdims=True)
    clipped = np.clip(residual, -limit, limit)
    variance, patch_variance = 0.0, 0.0
    for component in (clipped[:, 0], clipped[:, 1]):
        sums = np.bincount(index[used], component[used], minlength=len(count))
        variance += float((component[used] ** 2).mean())
        patch_variance += float((sums[count > 0] ** 2 / count[count > 0]).mean())
    inflation = max(patch_variance / max(variance, 1e-30), 1.0)
    return max(float(used.sum(axis=1).mean()) / inflation, 1.0)


def _focal_pull(problem: PnPProblem, log_focal: float) -> np.ndarray:
    """[T, N]: squared derivative of the residual by log focal, of a point at distance 1 along its ray."""
    a, b = np.moveaxis(problem.offsets, -1, 0) * np.exp(-log_focal)
    u_square, square = 1 + a * a, 1 + a * a + b * b
    return a * a / (u_square * square) + b * b / (u_square * square**2)
