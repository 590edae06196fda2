"""Scores of a camera path: length, rotation, discontinuities and curvature.

The 4DNeX paper names velocity, acceleration and curvature |v x a| / |v|^3; the test of constant acceleration is that of
SpatialVID. Lengths are in units of the clip's median depth, because the scale of annotated clips is arbitrary.
"""

from __future__ import annotations

import numpy as np

from fourdnex.geometry.rotations import rotation_angle_from_trace


def camera_scores(camera_to_world: np.ndarray, *, unit: float) -> dict[str, float]:
    """Scores of a camera path [T, 4, 4]; `unit` is the unit of length (the median depth)."""
    centers = camera_to_world[:, :3, 3].astype(np.float64) / unit
    rotations = camera_to_world[:, :3, :3].astype(np.float64)
    steps = np.rad2deg(rotation_angle_from_trace(np.swapaxes(rotations[:-1], 1, 2) @ rotations[1:]))
    velocity = np.diff(centers, axis=0)
    acceleration = np.diff(velocity, axis=0)
    speed = np.linalg.norm(velocity[1:], axis=1)
    bend = np.linalg.norm(np.cross(velocity[1:], acceleration), axis=1)
    moves = speed > 1e-3  # below that, the direction is noise
    # Constant acceleration: p(t) = 3 p(t-1) - 3 p(t-2) + p(t-3), so the third difference is the error.
    errors = np.linalg.norm(np.diff(centers, n=3, axis=0), axis=1)
    # A small rotation by an angle w changes the rotation matrix by sqrt(2) |w| in the Frobenius norm.
    turn_errors = np.rad2deg(np.linalg.norm(np.diff(rotations, n=3, axis=0), axis=(1, 2)) / np.sqrt(2))
    return {
        "path_length": float(np.linalg.norm(velocity, axis=1).sum()),
        "turn": float(steps.sum()),
        "camera_break": _max_of_consecutive(errors),
        "turn_break": _max_of_consecutive(turn_errors),
        "curvature": float(np.median(bend[moves] / speed[moves] ** 3)) if moves.any() else 0.0,
    }


def _max_of_consecutive(errors: np.ndarray) -> float:
    """The largest error that two consecutive frames reach."""
    return float(np.minimum(errors[:-1], errors[1:]).max()) if len(errors) > 1 else 0.0
