"""Scores of consecutive frames: flow, frozen frames, cuts, shake.

Flow is computed between all consecutive frames, scaled to the area of 64x96 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fourdnex.clip import Clip
from fourdnex.curation.image import scaled_frames
from fourdnex.io.resizing import resize_and_crop
from fourdnex.optical_flow import optical_flow

VERSION = "1"
"""Incremented when the definition of a score of this stage changes."""
PIXELS = 64 * 96
"""Max pixels of a frame in this stage."""
_FROZEN = 1.0  # max change of a block of 8x8 pixels, 0..255, of a repeated frame that is encoded again
_DIFFERENT = 12  # luminance difference, 0..255, of pixels that alignment does not explain
_NEIGHBORS = 3  # pairs of frames on each side that a cut is compared with


@dataclass(frozen=True, kw_only=True)
class MotionScores:
    """Scores of a clip from consecutive frames."""

    motion: float
    """Mean change of blurred luminance between consecutive frames, 0..255 (the "motion" feature of VMAF), of the center
    crop of 64x96 pixels."""
    flow: float
    """Mean optical flow between consecutive frames, pixels at a width of 96."""
    frozen_share: float
    """Share of consecutive pairs of frames without any change, although others change; 1 if nothing changes at all."""
    cut: float
    """Share of pixels that still differ between two consecutive frames after alignment by optical flow, beyond that of
    the pairs around them: max over the clip."""
    shake: float
    """Median change of the global motion from one pair of frames to the next, percent of the image width."""


def motion_scores(clip: Clip) -> MotionScores:
    """Scores of consecutive RGB frames of a clip; annotation is not needed."""
    import cv2

    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in scaled_frames(clip.rgb, PIXELS)]
    blurred = [cv2.GaussianBlur(frame, (5, 5), 1.08) for frame in gray]
    crops = [cv2.cvtColor(resize_and_crop(frame, 64, 96), cv2.COLOR_RGB2GRAY) for frame in clip.rgb]
    crops = [cv2.GaussianBlur(frame, (5, 5), 1.08) for frame in crops]
    if len(gray) < 2:
        return MotionScores(motion=0.0, flow=0.0, frozen_share=1.0, cut=0.0, shake=0.0)
    width = gray[0].shape[1]
    flows = [optical_flow(*pair) for pair in pairwise(gray)]
    residuals = np.array([_residual(*pair, flow) for pair, flow in zip(pairwise(blurred), flows, strict=True)])
    global_motion = np.array([np.median(flow.reshape(-1, 2), axis=0) for flow in flows]) / width * 100
    changes = np.linalg.norm(np.diff(global_motion, axis=0), axis=1)
    return MotionScores(
        motion=float(np.mean([cv2.absdiff(*pair).mean() for pair in pairwise(crops)])),
        flow=float(np.mean([np.linalg.norm(flow, axis=-1).mean() for flow in flows]) * 96 / width),
        frozen_share=_frozen_share(np.array([_largest_change(*pair) for pair in pairwise(gray)])),
        cut=_largest_excess(residuals),
        shake=float(np.median(changes)) if len(changes) else 0.0,
    )


def _residual(first: np.ndarray, second: np.ndarray, flow: np.ndarray) -> float:
    """Share of pixels that differ between a frame and the next one, aligned by flow."""
    import cv2

    height, width = first.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    aligned = cv2.remap(second, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return float((cv2.absdiff(first, aligned) > _DIFFERENT).mean())


def _frozen_share(changes: np.ndarray) -> float:
    """Share of pairs of frames whose largest change [P] is small, absolutely and against the changes of the others."""
    limit = min(_FROZEN, 0.1 * float(np.percentile(changes, 90)))
    return float((changes <= max(limit, 0.02)).mean())


def _largest_change(first: np.ndarray, second: np.ndarray) -> float:
    """Largest mean change of a block of about 8x8 pixels."""
    import cv2

    height, width = first.shape
    change = cv2.absdiff(first, second).astype(np.float32)
    return float(cv2.resize(change, (max(1, width // 8), max(1, height // 8)), interpolation=cv2.INTER_AREA).max())


def _largest_excess(values: np.ndarray) -> float:
    """Max difference between a value and the median of up to `_NEIGHBORS` values on each side; 0 for one value."""
    if len(values) < 2:
        return 0.0
    excess = []
    for position, value in enumerate(values):
        around = np.r_[
            values[max(0, position - _NEIGHBORS) : position], values[position + 1 : position + 1 + _NEIGHBORS]
        ]
        excess.append(value - np.median(around))
    return float(max(*excess, 0.0))
