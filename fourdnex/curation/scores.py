"""Scores of an annotated clip: image quality, motion, geometry and camera path.

All clips are scored at 64x96, so that scores in pixels are comparable. Lengths are in units of the clip's median depth,
because the scale of annotated clips is arbitrary.
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
"""Min confidence of a pixel that counts for HCPR."""
NUM_PAIRS = 4
"""Number of evenly spaced frame pairs for the expensive scores (flow and warp error)."""
VERSION = "1"
"""Incremented when the definition of a score changes; clips scored by another version are scored again."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Quality scores of one clip."""

    finite_share: float
    """Share of pixels with a finite depth above 0."""
    mean_confidence: float
    """MCV of 4DNeX: mean confidence of all pixels."""
    confident_share: float
    """HCPR of 4DNeX: share of pixels whose confidence is at least 0.5."""
    depth_spread: float
    """95th over 5th percentile of valid depth; 1 for a flat scene."""
    brightness: float
    """Mean luminance, 0..255."""
    contrast: float
    """Standard deviation of luminance, 0..255."""
    motion: float
    """Mean change of blurred luminance between consecutive frames, 0..255 (the "motion" feature of VMAF)."""
    flow: float
    """Mean optical flow between consecutive frames, pixels at a width of 96, over `NUM_PAIRS` pairs."""
    warp_error: float
    """Mean luminance difference, 0..255, between a frame and the next one warped by depth and cameras, over confident
    static pixels and `NUM_PAIRS` pairs: consistency of the annotation with the video. NaN without any overlap."""
    dynamic_share: float
    """Share of dynamic pixels."""
    path_length: float
    """Length of the camera path, in median depths."""
    turn: float
    """Sum of the camera rotations between consecutive frames, degrees."""
    camera_break: float
    """Deviation of the camera position from constant acceleration, in median depths: the smaller error of two
    consecutive frames, max over the clip."""
    turn_break: float
    """The same for the camera rotation, degrees."""
    curvature: float
    """Median of |v x a| / |v|^3 along the camera path, times the median depth; 0 for a static camera."""


def score_clip(clip: Clip) -> Scores:
    """Compute the scores of an annotated clip.

    Raises:
        ValueError: the clip is not annotated, or has no valid depth.
    """
    if clip.depth is None or clip.intrinsics is None or clip.camera_to_world is None:
        raise ValueError(f"{clip.name}: expected an annotated clip, got one without depth or cameras")
    clip = clip.resized(HEIGHT, WIDTH)
    assert clip.depth is not None and clip.intrinsics is not None and clip.camera_to_world is not None
    valid = np.isfinite(clip.depth) & (clip.depth > 0)
    if not valid.any():
        raise ValueError(f"{clip.name}: depth: expected finite positive values, found none")
    depth = np.where(valid, clip.depth, np.nan)
    low, unit, high = np.percentile(clip.depth[valid][::7], (5, 50, 95))
    confidence = valid.astype(np.float32) if clip.confidence is None else clip.confidence
    dynamic = np.zeros_like(valid) if clip.dynamic_mask is None else clip.dynamic_mask
    gray = luminance(clip.rgb)
    reliable = valid & (confidence >= CONFIDENT) & ~dynamic
    pairs = np.unique(np.linspace(0, clip.num_frames - 2, NUM_PAIRS).astype(int)) if clip.num_frames > 1 else ()
    flows = [np.linalg.norm(optical_flow(gray[t], gray[t + 1]), axis=-1).mean() for t in pairs]
    errors = [
        _warp_errors(gray[t : t + 2], depth[t], clip.intrinsics, clip.camera_to_world[t : t + 2])[reliable[t]]
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


def _motion(gray: np.ndarray) -> float:
    """The "motion" feature of VMAF for luminance [T, H, W]."""
    import cv2

    blurred = [cv2.GaussianBlur(frame, (5, 5), 1.08) for frame in gray]
    changes = [float(cv2.absdiff(*pair).mean()) for pair in pairwise(blurred)]
    return float(np.mean(changes)) if changes else 0.0


def _warp_errors(
    gray: np.ndarray,  # [2, H, W]
    depth: np.ndarray,  # [H, W] of the first frame
    intrinsics: np.ndarray,
    camera_to_world: np.ndarray,  # [2, 4, 4]
) -> np.ndarray:
    """|first frame - second frame warped into the first| [H, W]; NaN outside the second frame."""
    import cv2

    points = unproject(depth[None], intrinsics, camera_to_world[:1])
    pixels, _ = project(points, intrinsics, camera_to_world[1:])
    x, y = np.nan_to_num(pixels[0], nan=-1e4).astype(np.float32).transpose(2, 0, 1)
    warped = cv2.remap(
        gray[1].astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=np.nan
    )
    return np.abs(warped - gray[0])
