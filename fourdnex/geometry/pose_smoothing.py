"""Smoothing of recovered poses over time, as far as the errors of the point maps leave the poses open.

The errors of generated point maps move in patches; each frame's pose follows them, and the camera seems to shake. How
much the poses may be trusted is read from the residuals: independent errors average out over thousands of pixels, and
nothing changes; correlated ones do not, and a camera that changes its speed little is the better explanation.
"""

import numpy as np

from fourdnex.geometry.pnp_refinement import PnPProblem, PnPSolution, evaluate
from fourdnex.geometry.pose_covariance import FisherInformation
from fourdnex.geometry.rotations import rotation_from_vector, rotation_vector

TURN_SIGMA, SHIFT_SIGMA = 0.005, 0.005
"""Expected change of the speed from frame to frame: in radians, and in units of the scene's RMS radius. Of a hand-held
camera at 24 frames a second; for smooth paths less would do better still."""
MAX_COST = 1.1
"""Greatest rise of the distance between points and rays that is paid for steadiness."""


def smooth_poses(problem: PnPProblem, solution: PnPSolution, known: FisherInformation) -> PnPSolution:
    """Poses that weigh what is known against steady motion; the focal length stays, and so do fewer than 3 frames."""
    num_frames = len(problem.points)
    if num_frames < 3:
        return solution
    rotation, translation = solution.rotation, solution.translation
    information = known.matrix[:, :6, :6]
    bend = np.diff(np.eye(num_frames), 2, axis=0)  # [T - 2, T], second differences
    precision = np.diag([TURN_SIGMA**-2] * 3 + [SHIFT_SIGMA**-2] * 3)
    system = np.kron(bend.T @ bend, precision)
    for frame in range(num_frames):
        block = slice(6 * frame, 6 * frame + 6)
        system[block, block] += information[frame]
    moved = np.zeros((num_frames, 6))  # sum of the steps, to first order: the data pull back by it
    for _ in range(3):
        acceleration = np.diff(_speeds(rotation, translation), axis=0)  # [T - 2, 6]
        pull = bend.T @ (acceleration @ precision) + np.einsum("tij,tj->ti", information, moved)
        step = -np.linalg.solve(system, pull.reshape(-1)).reshape(num_frames, 6)
        turn = rotation_from_vector(step[:, :3])
        rotation = turn @ rotation
        translation = (turn @ translation[..., None])[..., 0] + step[:, 3:]
        moved += step
    smoothed = evaluate(problem, solution.focal, rotation, translation)
    # Poses so far from steady that the points contradict: a cut, or several solutions a frame. Leave them.
    return smoothed if smoothed.cost <= MAX_COST * solution.cost else solution


def _speeds(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Motion [T - 1, 6] (turn, shift) from each camera to the next."""
    relative = rotation[1:] @ np.swapaxes(rotation[:-1], 1, 2)
    shift = translation[1:] - (relative @ translation[:-1, :, None])[..., 0]
    return np.concatenate([rotation_vector(relative), shift], axis=-1)
