"""Temporal smoothing of recovered poses, weighted by their uncertainty.

Errors of generated point maps are correlated within patches. The pose of each frame follows them, and the camera seems
to shake. The residuals show how uncertain the poses are: independent errors average out over thousands of pixels, and
smoothing changes nothing; correlated errors do not, and a camera with nearly constant velocity is more likely.
"""

import numpy as np

from fourdnex.geometry.pnp_refinement import PnPProblem, PnPSolution, evaluate
from fourdnex.geometry.pose_covariance import FisherInformation
from fourdnex.geometry.rotations import rotation_from_vector, rotation_vector

ROTATION_SIGMA, TRANSLATION_SIGMA = 0.005, 0.005
"""Standard deviation of the change of velocity between frames, in radians and in units of the scene's RMS radius, for a
hand-held camera at 24 frames per second. Smoother paths would allow smaller values."""
MAX_COST = 1.1
"""Max relative increase of the cost (distance of points to rays) by smoothing."""


def smooth_poses(problem: PnPProblem, solution: PnPSolution, information: FisherInformation) -> PnPSolution:
    """Smooth the poses toward constant velocity; the focal length, and clips of fewer than 3 frames, are unchanged."""
    num_frames = len(problem.points)
    if num_frames < 3:
        return solution
    rotation, translation = solution.rotation, solution.translation
    pose_information = information.matrix[:, :6, :6]
    differences = np.diff(np.eye(num_frames), 2, axis=0)  # [T - 2, T], second differences
    precision = np.diag([ROTATION_SIGMA**-2] * 3 + [TRANSLATION_SIGMA**-2] * 3)
    system = np.kron(differences.T @ differences, precision)
    for frame in range(num_frames):
        block = slice(6 * frame, 6 * frame + 6)
        system[block, block] += pose_information[frame]
    total = np.zeros((num_frames, 6))  # sum of the steps; to first order, the data term pulls back by it
    for _ in range(3):
        acceleration = np.diff(_velocities(rotation, translation), axis=0)  # [T - 2, 6]
        gradient = differences.T @ (acceleration @ precision) + np.einsum("tij,tj->ti", pose_information, total)
        step = -np.linalg.solve(system, gradient.reshape(-1)).reshape(num_frames, 6)
        delta = rotation_from_vector(step[:, :3])
        rotation = delta @ rotation
        translation = (delta @ translation[..., None])[..., 0] + step[:, 3:]
        total += step
    smoothed = evaluate(problem, solution.focal, rotation, translation)
    # The points contradict smooth motion, for example because of a cut: keep the original poses.
    return smoothed if smoothed.cost <= MAX_COST * solution.cost else solution


def _velocities(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Motion [T - 1, 6] (rotation vector, translation) from each camera to the next."""
    relative = rotation[1:] @ np.swapaxes(rotation[:-1], 1, 2)
    step = translation[1:] - (relative @ translation[:-1, :, None])[..., 0]
    return np.concatenate([rotation_vector(relative), step], axis=-1)
