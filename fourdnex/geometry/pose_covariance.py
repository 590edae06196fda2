"""Uncertainty of recovered cameras: Fisher information of the fit, and standard deviations derived from it."""

from dataclasses import dataclass

import numpy as np

from fourdnex.geometry.pnp_refinement import PRIOR_SIGMA, PnPProblem, PnPSolution, linearize, robust_weights

PATCH_GRID = (6, 8)
"""Rows and columns of the image patches over which the correlation of errors is measured."""


@dataclass(frozen=True, eq=False)
class FisherInformation:
    """Fisher information at a solution, assuming independent errors between frames.

    Spatially correlated errors count as their effective number of independent errors.
    """

    matrix: np.ndarray  # [T, 7, 7], of rotation, translation and log focal: inverse covariance
    spurious: float
    """Part of the focal length's information that noise alone causes, because it gives a flat wall some depth."""


@dataclass(frozen=True, eq=False)
class CameraDeviations:
    """Standard deviations of recovered cameras, in whitened units."""

    log_focal: float
    rotation: np.ndarray  # [T], radians
    position: np.ndarray  # [T]
    is_focal_determined: bool
    """Whether the points determine the focal length better than the prior does."""


def fisher_information(problem: PnPProblem, solution: PnPSolution) -> FisherInformation:
    """Fisher information of the poses and the focal length at a solution."""
    num_frames = len(problem.points)
    log_focal = float(np.log(solution.focal))
    residual, jacobian = linearize(problem, log_focal, solution.rotation, solution.translation)
    weight, sigma = robust_weights(residual, problem.weights)
    num_independent = effective_sample_size(problem, residual)
    columns = jacobian.reshape(num_frames, 7, -1)
    weighted = (jacobian * weight[:, None, None, :]).reshape(num_frames, 7, -1)
    matrix = weighted @ np.swapaxes(columns, 1, 2) * (num_independent / sigma**2)
    return FisherInformation(matrix, num_independent * float((weight * _focal_sensitivity(problem, log_focal)).sum()))


def standard_deviations(problem: PnPProblem, information: FisherInformation) -> CameraDeviations:
    """Standard deviations of the shared focal length and of the pose of each frame.

    Temporal smoothing, which reduces the errors of the poses, is not considered.
    """
    pose, coupling = information.matrix[:, :6, :6], information.matrix[:, :6, 6]
    covariance = np.linalg.pinv(pose, hermitian=True)  # [T, 6, 6], for a known focal length
    gain = (covariance @ coupling[..., None])[..., 0]  # change of the pose per change of the log focal length
    from_points = max(float(information.matrix[:, 6, 6].sum() - (coupling * gain).sum()), 0.0)
    focal_variance = 0.0 if problem.has_known_focal else 1 / (from_points + PRIOR_SIGMA**-2)
    variance = np.diagonal(covariance, axis1=1, axis2=2) + gain**2 * focal_variance
    rotation, position = np.sqrt(variance[:, :3].sum(axis=1)), np.sqrt(variance[:, 3:].sum(axis=1))
    is_determined = from_points - information.spurious > max(information.spurious, PRIOR_SIGMA**-2)
    return CameraDeviations(float(np.sqrt(focal_variance)), rotation, position, is_determined)


def effective_sample_size(problem: PnPProblem, residual: np.ndarray) -> float:
    """Effective number of independent errors per frame among residuals [T, 2, N]: N if uncorrelated within patches."""
    rows, columns = PATCH_GRID
    span = np.abs(problem.offsets).max(axis=(0, 1)).clip(1e-9)
    cell = np.minimum(((problem.offsets / span + 1) / 2 * (columns, rows)).astype(int), np.array([columns, rows]) - 1)
    index = cell[..., 1] * columns + cell[..., 0] + np.arange(len(cell))[:, None] * (rows * columns)
    used = problem.weights > 0
    count = np.bincount(index[used], minlength=len(cell) * rows * columns)
    limit = 3 * np.median(np.abs(residual), axis=-1, keepdims=True)
    clipped = np.clip(residual, -limit, limit)
    variance, patch_variance = 0.0, 0.0
    for component in (clipped[:, 0], clipped[:, 1]):
        sums = np.bincount(index[used], component[used], minlength=len(count))
        variance += float((component[used] ** 2).mean())
        patch_variance += float((sums[count > 0] ** 2 / count[count > 0]).mean())
    inflation = max(patch_variance / max(variance, 1e-30), 1.0)
    return max(float(used.sum(axis=1).mean()) / inflation, 1.0)


def _focal_sensitivity(problem: PnPProblem, log_focal: float) -> np.ndarray:
    """Squared derivative [T, N] of the residual by the log focal length, for a point at distance 1 along its ray."""
    a, b = np.moveaxis(problem.offsets, -1, 0) * np.exp(-log_focal)
    u_square, square = 1 + a * a, 1 + a * a + b * b
    return a * a / (u_square * square) + b * b / (u_square * square**2)
