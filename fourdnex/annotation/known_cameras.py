"""Sparse points of a clip with known cameras, triangulated from optical flow, as a start for dense depth."""

from __future__ import annotations

import numpy as np

from fourdnex.annotation.base import AnnotationError
from fourdnex.annotation.structure_from_motion import MIN_PARALLAX, Structure
from fourdnex.geometry.cameras import invert_pose
from fourdnex.optical_flow import luminance, optical_flow

STEPS = (-8, -4, -2, -1, 1, 2, 4, 8)
"""Distances in frames of the frames that each frame is compared with."""
GRID = 6
"""Distance in pixels of the points of a frame."""
MAX_RETURN = 1.0
"""Max distance in pixels at which a pixel returns by the flow back."""
MAX_EPIPOLAR_ERROR = 1.5
"""Max distance in pixels of a flow vector from what the cameras explain with any depth."""
MIN_EXPLAINED = 0.5
"""Min share of flow vectors that the cameras explain. Cameras of another video, or of other frames, explain fewer."""
_MIN_GRADIENT = 5.0  # levels per pixel: without texture, flow is a guess


def triangulate(rgb: np.ndarray, intrinsics: np.ndarray, camera_to_world: np.ndarray) -> Structure:
    """Points of a regular grid in every frame, in the unit of the poses.

    Args:
        rgb: [T, H, W, 3] uint8, without distortion.
        intrinsics: [3, 3] in pixels of `rgb`.
        camera_to_world: [T, 4, 4], the first is the identity.

    Raises:
        AnnotationError: the cameras do not explain the optical flow, or they have too little parallax.
    """
    gray = luminance(rgb)
    count, height, width = gray.shape
    poses = camera_to_world.astype(np.float64)
    y, x = (grid.ravel() for grid in np.mgrid[GRID // 2 : height : GRID, GRID // 2 : width : GRID])
    pixels = np.stack([x, y], axis=1)
    points, owners, errors = [], [], []
    explained = compared = 0
    for frame in range(count):
        textured = _gradient(gray[frame])[y, x] > _MIN_GRADIENT
        best, found = np.zeros(len(pixels)), np.full((len(pixels), 3), np.nan)
        for other in (frame + step for step in STEPS if 0 <= frame + step < count):
            targets, returns = _flow(gray[frame], gray[other], pixels)
            depth, error = _depth_along_rays(pixels, targets, intrinsics, invert_pose(poses[other]) @ poses[frame])
            good = textured & returns & (error < MAX_EPIPOLAR_ERROR)
            compared, explained = compared + int((textured & returns).sum()), explained + int(good.sum())
            world = _unproject(pixels, depth, intrinsics, poses[frame])
            angle = _angles(world, poses[frame][:3, 3], poses[other][:3, 3])
            better = good & (depth > 0) & (angle > best)
            best[better], found[better] = angle[better], world[better]
            errors.append(error[good])
        sure = best > MIN_PARALLAX
        points.append(found[sure])
        owners.append(np.full(int(sure.sum()), frame))
    share = explained / max(compared, 1)
    if share < MIN_EXPLAINED:
        raise AnnotationError(
            f"the cameras contradict the video: they explain {share:.0%} of the optical flow, expected at least "
            f"{MIN_EXPLAINED:.0%}"
        )
    owner = np.concatenate(owners)
    if missing := [frame for frame in range(count) if not (owner == frame).any()]:
        raise AnnotationError(
            f"frame {missing[0]}: expected points with a parallax of at least {MIN_PARALLAX} degrees, got none"
        )
    observed = np.arange(count)[:, None] == owner
    return Structure(
        intrinsics.astype(np.float64), poses, np.concatenate(points), observed, float(np.concatenate(errors).mean())
    )


def _flow(first: np.ndarray, second: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where pixels [N, 2] (x, y) of the first image are in the second, and whether they return by the flow back."""
    import cv2

    forward = optical_flow(first, second)[pixels[:, 1], pixels[:, 0]]
    targets = pixels + forward
    x, y = targets.astype(np.float32).T
    back = np.asarray(cv2.remap(optical_flow(second, first), x[:, None], y[:, None], cv2.INTER_LINEAR))[:, 0]
    inside = (x >= 0) & (y >= 0) & (x <= second.shape[1] - 1) & (y <= second.shape[0] - 1)
    return targets, inside & (np.linalg.norm(forward + back, axis=1) < MAX_RETURN)


def _depth_along_rays(
    pixels: np.ndarray, targets: np.ndarray, intrinsics: np.ndarray, motion: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Depth [N] of pixels whose projections are nearest to their targets, and the distances in pixels.

    `motion` [4, 4] maps points of the pixels' camera to that of the targets. The distance is infinite behind a camera.
    """
    homogeneous = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1)
    slope = homogeneous @ (intrinsics @ motion[:3, :3] @ np.linalg.inv(intrinsics)).T
    offset = intrinsics @ motion[:3, 3]
    # (slope * depth + offset) is the target in homogeneous coordinates: two linear equations for the depth.
    left = slope[:, :2] - targets * slope[:, 2:]
    right = targets * offset[2] - offset[:2]
    depth = (left * right).sum(axis=1) / np.maximum((left * left).sum(axis=1), 1e-12)
    # Without parallax any depth fits, and far points are as good as any.
    depth = np.where(depth > 0, depth, 1e6)
    projected = slope * depth[:, None] + offset
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.linalg.norm(projected[:, :2] / projected[:, 2:] - targets, axis=1)
    return depth, np.where(projected[:, 2] > 0, error, np.inf)


def _unproject(pixels: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """World points [N, 3] of pixels [N, 2] at depth [N]."""
    homogeneous = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1)
    local = homogeneous @ np.linalg.inv(intrinsics).T * depth[:, None]
    return local @ pose[:3, :3].T + pose[:3, 3]


def _angles(points: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angle in degrees at which two centers are seen from points [N, 3]."""
    a, b = points - first, points - second
    cross = np.linalg.norm(np.cross(a, b), axis=1)
    return np.rad2deg(np.arctan2(cross, (a * b).sum(axis=1)))


def _gradient(gray: np.ndarray) -> np.ndarray:
    """Gradient magnitude [H, W] in levels per pixel."""
    dy, dx = np.gradient(gray.astype(np.float32))
    return np.hypot(dx, dy)
