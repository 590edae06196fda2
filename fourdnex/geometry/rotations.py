"""Rotations: the exponential and the logarithm of SO(3), and rotation angles."""

import numpy as np


def rotation_from_vector(vectors: np.ndarray) -> np.ndarray:
    """Rotation matrices [T, 3, 3] of rotation vectors [T, 3] (Rodrigues' formula)."""
    angle = np.linalg.norm(vectors, axis=-1)[:, None, None]
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    safe = np.maximum(angle, 1e-12)
    return np.eye(3) + np.sin(angle) / safe * skew + (1 - np.cos(angle)) / safe**2 * (skew @ skew)


def rotation_vector(rotations: np.ndarray) -> np.ndarray:
    """Rotation vectors [T, 3] of rotations [T, 3, 3] by less than half a turn."""
    axis, sine, cosine = _doubled_axis(rotations)
    angle = np.arctan2(sine, cosine)[:, None]
    return axis * np.where(sine[:, None] > 1e-9, angle / np.maximum(sine[:, None], 1e-12), 0.5)


def rotation_angle(rotations: np.ndarray) -> np.ndarray:
    """Angles [T] in radians of rotations [T, 3, 3], from sine and cosine: accurate for small angles as well."""
    _, sine, cosine = _doubled_axis(rotations)
    return np.arctan2(sine, cosine)


def rotation_angle_from_trace(rotations: np.ndarray) -> np.ndarray:
    """Angles [T] in radians of rotations [T, 3, 3], from the trace alone: fast, but inexact for small angles.

    An angle below about 1e-8 in float64 (3e-4 in float32) is lost to rounding; see `rotation_angle`.
    """
    return np.arccos(np.clip((np.trace(rotations, axis1=1, axis2=2) - 1) / 2, -1, 1))


def _doubled_axis(rotations: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rotation axis [T, 3] times 2 sin(angle), and 2 sin(angle) and 2 cos(angle) [T]."""
    axis = np.stack(
        [
            rotations[:, 2, 1] - rotations[:, 1, 2],
            rotations[:, 0, 2] - rotations[:, 2, 0],
            rotations[:, 1, 0] - rotations[:, 0, 1],
        ],
        axis=-1,
    )
    return axis, np.linalg.norm(axis, axis=-1), np.trace(rotations, axis1=1, axis2=2) - 1
