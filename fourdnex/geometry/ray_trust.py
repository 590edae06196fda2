"""How far recovered cameras are to be trusted: standard deviations out of the curvature of the fit."""

from dataclasses import dataclass

import numpy as np

from fourdnex.geometry.ray_fit import PRIOR_SIGMA, Problem, Solution, linearise, robust_weights
from fourdnex.geometry.ray_smooth import independent_pixels


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Standard deviations in whitened units."""

    log_focal: float
    turn: np.ndarray  # [T], radians
    shift: np.ndarray  # [T], of the camera's place
    is_focal_determined: bool
    """The points say more of the focal length than the prior does."""


def uncertainty(problem: Problem, solution: Solution) -> Uncertainty:
    """Deviations of the shared focal length and of each frame's pose, as if frames erred independently.

    Errors that move in patches count as the few independent ones that they are worth. Smoothing over time, which makes
    poses better than this, is not taken into account.
    """
    num_frames = len(problem.points)
    log_focal = float(np.log(solution.focal))
    residual, jacobian = linearise(problem, log_focal, solution.rotation, solution.translation)
    weight, sigma = robust_weights(residual, problem.weights)
    columns = jacobian.reshape(num_frames, 7, -1)
    weighted = (jacobian * weight[:, None, None, :]).reshape(num_frames, 7, -1)
    information = weighted @ np.swapaxes(columns, 1, 2) * (independent_pixels(problem, residual) / sigma**2)
    pose, coupling = information[:, :6, :6], information[:, :6, 6]
    covariance = np.linalg.pinv(pose, hermitian=True)  # [T, 6, 6], for a known focal length
    gain = (covariance @ coupling[..., None])[..., 0]  # how a pose follows the focal length
    from_points = max(float(information[:, 6, 6].sum() - (coupling * gain).sum()), 0.0)
    focal_variance = 0.0 if problem.focal_is_known else 1 / (from_points + PRIOR_SIGMA**-2)
    variance = np.diagonal(covariance, axis1=1, axis2=2) + gain**2 * focal_variance
    turn, shift = np.sqrt(variance[:, :3].sum(axis=1)), np.sqrt(variance[:, 3:].sum(axis=1))
    # Noise gives a flat wall a thickness, and with it a focal length that is not there.
    spurious = independent_pixels(problem, residual) * float((weight * _focal_pull(problem, log_focal)).sum())
    is_determined = from_points - spurious > max(spurious, PRIOR_SIGMA**-2)
    return Uncertainty(float(np.sqrt(focal_variance)), turn, shift, is_determined)


def _focal_pull(problem: Problem, log_focal: float) -> np.ndarray:
    """[T, N]: squared derivative of the residual by log focal, of a point at distance 1 along its ray."""
    a, b = np.moveaxis(problem.offsets, -1, 0) * np.exp(-log_focal)
    u_square, square = 1 + a * a, 1 + a * a + b * b
    return a * a / (u_square * square) + b * b / (u_square * square**2)
