"""Scores of an annotated clip: image, motion, geometry, and the camera's path.

All clips are scored at one size (64x96), so that pixels mean the same in each; lengths are in units of the clip's
median depth, since the scale of annotated clips is arbitrary.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fourdnex.clip import Clip
from fourdnex.geometry.cameras import project, unproject
from fourdnex.geometry.rotations import rotation_angle_from_trace
from fourdnex.optical_flow import luminance, optical_flow

HEIGHT, WIDTH = 64, 96
CONFIDENT = 0.5
"""Confidence from which a pixel counts for HCPR."""
NUM_PAIRS = 4
"""Pairs of neighboring frames, spread over the clip, for what is costly."""
VERSION = "1"
"""Raised when the meaning of a score changes: clips scored by another version are scored again."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What is known about the quality of one clip."""

    finite_share: float
    """Share of pixels with a finite depth above 0."""
    mean_confidence: float
    """MCV of 4DNeX: mean confidence of all pixels."""
    confident_share: float
    """HCPR of 4DNeX: share of pixels whose confidence is at least 0.5."""
    depth_spread: float
    """95th over 5th percentile of valid depth: 1 is a flat image."""
    brightness: float
    """Mean luminance, 0..255."""
    contrast: float
    """Standard deviation of luminance, 0..255."""
    motion: float
    """Mean change of blurred luminance between neighboring frames, 0..255 (the "motion" of VMAF)."""
    flow: float
    """Mean optical flow between neighboring frames, pixels at 96 across (from NUM_PAIRS of them)."""
    warp_error: float
    """Mean difference of luminance, 0..255, between a frame and the next one seen through depth and cameras, over
    confident static pixels: whether they explain the video. NaN where no pixel is seen again."""
    dynamic_share: float
    """Share of pixels that move by themselves."""
    path_length: float
    """Length of the camera's path, in median depths."""
    turn: float
    """Sum of the camera's rotations between neighboring frames, degrees."""
    camera_break: float
    """How far the camera strays from constant acceleration on two frames in a row (the lesser of the two, greatest
    over the clip), in median depths."""
    turn_break: float
    """The same for the camera's rotation, degrees."""
    curvature: float
    """Median of |v x a| / |v|^3 along the camera's path, times the median depth; 0 where the camera stands."""


def score_clip(clip: Clip) -> Scores:
    """Scores of an annotated clip.

    Raises:
        ValueError: the clip is not annotated, or no pixel of it has a depth.
    """
    if clip.depth is None or clip.intrinsics is None or clip.camera_to_world is None:
        raise ValueError(f"{clip.name}: expected an annotated clip, got one without depth or cameras")
    clip = clip.resized(HEIGHT, WIDTH)
    assert clip.depth is not None and clip.intrinsics is not None and clip.camera_to_world is not None
    valid = np.isfinite(clip.depth) & (clip.depth > 0)
    if not valid.any():
        raise ValueError(f"{clip.name}: expected depth, found no valid pixel")
    depth = np.where(valid, clip.depth, np.nan)
    low, unit, high = np.percentile(clip.depth[valid][::7], (5, 50, 95))
    confidence = valid.astype(np.float32) if clip.confidence is None else clip.confidence
    dynamic = np.zeros_like(valid) if clip.dynamic_mask is None else clip.dynamic_mask
    gray = luminance(clip.rgb)
    trusted = valid & (confidence >= CONFIDENT) & ~dynamic
    pairs = np.unique(np.linspace(0, clip.num_frames - 2, NUM_PAIRS).astype(int)) if clip.num_frames > 1 else ()
    flows = [np.linalg.norm(optical_flow(gray[t], gray[t + 1]), axis=-1).mean() for t in pairs]
    errors = [
        _warp_errors(gray[t : t + 2], depth[t], clip.intrinsics, clip.camera_to_world[t : t + 2])[trusted[t]]
        for t in pairs
    ]
    error = np.concatenate([np.zeros(0, np.float32), *errors])
    error = error[np.isfinite(error)]
    return Scores(
        finite_share=float(valid.mean()),
        mean_confidence=float(confidence.mean()),
        confident_share=float((confidence >= CONFIDENT).mean()),
        depth_spread=float(high / low),
        brightness=float(gray.mean()),
        contrast=float(gray.std()),
        motion=_motion(gray),
        flow=float(np.mean(flows)) if len(flows) else 0.0,
        warp_error=float(error.mean()) if len(error) else float("nan"),
        dynamic_share=float(dynamic.mean()),
        **camera_scores(clip.camera_to_world, unit=float(unit)),
    )


def camera_scores(camera_to_world: np.ndarray, *, unit: float) -> dict[str, float]:
    """Scores of a camera's path [T, 4, 4]; `unit` is the length that counts as 1 (the median depth)."""
    centers = camera_to_world[:, :3, 3].astype(np.float64) / unit
    rotations = camera_to_world[:, :3, :3].astype(np.float64)
    steps = np.rad2deg(rotation_angle_from_trace(np.swapaxes(rotations[:-1], 1, 2) @ rotations[1:]))
    velocity = np.diff(centers, axis=0)
    acceleration = np.diff(velocity, axis=0)
    speed = np.linalg.norm(velocity[1:], axis=1)
    bend = np.linalg.norm(np.cross(velocity[1:], acceleration), axis=1)
    walks = speed > 1e-3  # slower, the direction is noise
    # Constant acceleration: p(t) = 3 p(t-1) - 3 p(t-2) + p(t-3), so that the third difference is the error.
    errors = np.linalg.norm(np.diff(centers, n=3, axis=0), axis=1)
    # The first two columns of a rotation determine it; a small rotation by w moves both by about |w| together.
    turn_errors = np.rad2deg(np.linalg.norm(np.diff(rotations, n=3, axis=0), axis=(1, 2)) / np.sqrt(2))
    return {
        "path_length": float(np.linalg.norm(velocity, axis=1).sum()),
        "turn": float(steps.sum()),
        "camera_break": _twice(errors),
        "turn_break": _twice(turn_errors),
        "curvature": float(np.median(bend[walks] / speed[walks] ** 3)) if walks.any() else 0.0,
    }


def _twice(errors: np.ndarray) -> float:
    """The greatest error that is reached on two frames in a row."""
    return float(np.minimum(errors[:-1], errors[1:]).max()) if len(errors) > 1 else 0.0


def _motion(gray: np.ndarray) -> float:
    import cv2

    blurred = [cv2.GaussianBlur(frame, (5, 5), 1.08) for frame in gray]
    changes = [float(cv2.absdiff(*pair).mean()) for pair in pairwise(blurred)]
    return float(np.mean(changes)) if changes else 0.0


def _warp_errors(
    gray: np.ndarray,  # [2, H, W]
    depth: np.ndarray,  # [H, W] of the first
    intrinsics: np.ndarray,
    camera_to_world: np.ndarray,  # [2, 4, 4]
) -> np.ndarray:
    """|first - second seen through the first's depth| [H, W], NaN where the second does not show it."""
    import cv2

    points = unproject(depth[None], intrinsics, camera_to_world[:1])
    pixels, _ = project(points, intrinsics, camera_to_world[1:])
    x, y = np.nan_to_num(pixels[0], nan=-1e4).astype(np.float32).transpose(2, 0, 1)
    there = cv2.remap(
        gray[1].astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=np.nan
    )
    return np.abs(there - gray[0])
