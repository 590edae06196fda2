"""Mask of moving objects: optical flow that no static scene explains, for any depth where the depth is unknown.

Where depth is known, flow is compared with the shift that the camera causes. Where it is unknown, with those of all
depths in the range of the scene (points of the epipolar segment), where one depth must explain the flow to all
compared frames. Flow that does not return (occlusion) is no evidence.
"""

from __future__ import annotations

import numpy as np

from fourdnex.annotation.dense_depth import DenseDepth, depth_range
from fourdnex.annotation.structure_from_motion import Structure
from fourdnex.geometry.cameras import invert_pose
from fourdnex.optical_flow import luminance, optical_flow

STEPS = (-4, -2, 2, 4)
"""Distances in frames of the frames that each frame is compared with; -1 and 1 in clips of fewer than 4 frames."""
NUM_DEPTHS = 24
"""Number of depths, at equal distances in inverse depth, that may explain flow where depth is unknown."""
TOLERANCE = 1.0
"""Difference in pixels, plus `RELATIVE_TOLERANCE` of the flow's length, at which the evidence is 1."""
RELATIVE_TOLERANCE = 0.1
WEAK, STRONG = 0.7, 1.4
"""Evidence of pixels of a moving object, and of at least `MIN_SEEDS` of the pixels of each moving object."""
MIN_SEEDS = 0.1
MIN_AREA = 0.0015
"""Min share of the image of a moving object."""


def dynamic_mask(rgb: np.ndarray, structure: Structure, dense: DenseDepth) -> np.ndarray:
    """Mask [T, H, W] bool of moving objects.

    Args:
        rgb: [T, H, W, 3] uint8, without distortion.
        structure: cameras and sparse points; intrinsics at the size of `rgb`.
        dense: depth of the frames.
    """
    gray = luminance(rgb)
    num_frames, height, width = gray.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    ranges = depth_range(structure)
    steps = STEPS if num_frames >= 4 else (-1, 1)
    flows = {
        (frame, frame + step): optical_flow(gray[frame], gray[frame + step], "accurate")
        for frame in range(num_frames)
        for step in steps
        if 0 <= frame + step < num_frames
    }
    mask = np.zeros(gray.shape, bool)
    for frame in range(num_frames):
        others = [frame + step for step in steps if (frame, frame + step) in flows]
        reliable = np.stack([_returns(flows[frame, other], flows[other, frame], x, y) for other in others])
        known, checked = np.isfinite(dense.depth[frame]), np.asarray(reliable.any(axis=0))
        inverses = np.linspace(1 / ranges[frame, 1], 1 / ranges[frame, 0], NUM_DEPTHS).astype(np.float32)
        evidence = np.zeros((height, width), np.float32)
        # A known depth is the only candidate; an unknown depth is one of the range of the scene, the same for all.
        for chosen, candidates in ((known, 1 / dense.depth[frame][known]), (~known, inverses[:, None])):
            chosen = chosen & checked
            if candidates.ndim == 1:
                candidates = candidates[checked[known]]
            if chosen.any():
                pixels = x[chosen], y[chosen]
                each = [
                    _evidence(flows[frame, other][chosen], structure, frame, other, pixels, candidates)
                    for other in others
                ]
                values = _mean(np.stack(each), reliable[:, chosen])
                evidence[chosen] = values if candidates.ndim == 1 else values.min(axis=0)
        mask[frame] = _regions(evidence)
    return mask


def _returns(flow: np.ndarray, back: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether flow [H, W, 2] stays in the image, and the flow back from its end returns to its start: [H, W] bool."""
    import cv2

    end_x, end_y = x + flow[..., 0], y + flow[..., 1]
    returned = cv2.remap(back, end_x, end_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    error = np.hypot(flow[..., 0] + returned[..., 0], flow[..., 1] + returned[..., 1])
    height, width = x.shape
    inside = (end_x >= 0) & (end_x <= width - 1) & (end_y >= 0) & (end_y <= height - 1)
    return inside & (error < 1 + 0.05 * np.hypot(flow[..., 0], flow[..., 1]))


def _evidence(
    flow: np.ndarray,
    structure: Structure,
    frame: int,
    other: int,
    pixels: tuple[np.ndarray, np.ndarray],
    inverse: np.ndarray,
) -> np.ndarray:
    """Difference of flow and the shift by the camera, in tolerances.

    Args:
        flow: [M, 2] from `frame` to `other`.
        structure: cameras.
        frame, other: frame numbers.
        pixels: x and y of the pixels, [M] each.
        inverse: inverse depth [M], or [D, 1] for D candidates; the result is [M] or [D, M].
    """
    pose = invert_pose(structure.camera_to_world[other]) @ structure.camera_to_world[frame]
    warp = (structure.intrinsics @ pose[:3, :3] @ np.linalg.inv(structure.intrinsics)).astype(np.float32)
    offset = (structure.intrinsics @ pose[:3, 3]).astype(np.float32)
    x, y = pixels
    moved = [row[0] * x + row[1] * y + row[2] + shift * inverse for row, shift in zip(warp, offset, strict=True)]
    z = np.maximum(moved[2], np.float32(1e-6))
    error = np.hypot(moved[0] / z - x - flow[:, 0], moved[1] / z - y - flow[:, 1])
    length = np.hypot(flow[:, 0], flow[:, 1])
    return np.asarray(error / (TOLERANCE + RELATIVE_TOLERANCE * length), np.float32)


def _mean(evidence: np.ndarray, reliable: np.ndarray) -> np.ndarray:
    """Mean [..., M] of evidence [S, ..., M] over the reliable entries [S, M]; 0 where there is none."""
    weight = reliable.reshape(len(reliable), *[1] * (evidence.ndim - 2), -1)
    return np.asarray((evidence * weight).sum(axis=0) / np.maximum(weight.sum(axis=0), 1), np.float32)


def _regions(evidence: np.ndarray) -> np.ndarray:
    """Regions [H, W] bool of weak evidence with enough strong evidence and area, without holes."""
    import cv2

    smooth = cv2.medianBlur(evidence.astype(np.float32), 5)
    kernel = np.ones((5, 5), np.uint8)
    weak = cv2.morphologyEx((smooth > WEAK).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    weak = cv2.morphologyEx(weak, cv2.MORPH_CLOSE, kernel)
    count, labels = cv2.connectedComponents(weak, connectivity=8)
    area = np.bincount(labels.ravel(), minlength=count)
    seeds = np.bincount(labels.ravel(), weights=(smooth > STRONG).ravel(), minlength=count)
    moving = (area >= MIN_AREA * evidence.size) & (seeds >= MIN_SEEDS * area)
    moving[0] = False
    contours, _ = cv2.findContours(moving[labels].astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(evidence.shape, np.uint8)
    cv2.drawContours(filled, contours, -1, 1, cv2.FILLED)
    return filled.astype(bool)
