"""Scores of the annotation: coverage, confidence, camera path, and its agreement with the video and with itself.

The agreement with the video compares optical flow with the displacement that depth and cameras predict. It catches what
confidence cannot: reconstructions that are consistent with themselves but not with the video. Clips are scored at the
area of 96x144 pixels. Depth of a camera that does not move has no effect on the displacement, and is not checked by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fourdnex.clip import Clip
from fourdnex.curation.camera_path import camera_scores
from fourdnex.geometry.cameras import project, unproject
from fourdnex.optical_flow import luminance, optical_flow

VERSION = "1"
"""Incremented when the definition of a score of this stage changes."""
PIXELS = 96 * 144
"""Max pixels of a frame in this stage."""
CONFIDENT = 0.5
"""Min confidence of a pixel that counts for HCPR."""
NUM_PAIRS = 4
"""Number of evenly spaced frame pairs that are compared."""
_TARGET_FLOW = 7.0  # pixels: frames are compared at a distance with about this flow
_MIN_TEXTURE = 2.0  # gradient of luminance per pixel; displacements of smoother areas are not visible
_MIN_COMPARED = 0.01  # share of pixels that a comparison needs


@dataclass(frozen=True, kw_only=True)
class GeometryScores:
    """Scores of depth, cameras, confidence and dynamic mask."""

    finite_share: float
    """Share of pixels with a finite depth above 0."""
    least_finite_share: float
    """The smallest such share of any frame."""
    mean_confidence: float
    """MCV of 4DNeX: mean confidence of all pixels."""
    confident_share: float
    """HCPR of 4DNeX: share of pixels whose confidence is at least 0.5."""
    depth_spread: float
    """95th over 5th percentile of valid depth; 1 for a flat scene."""
    field_of_view: float
    """Field of view along the longer side of the frame, degrees."""
    dynamic_share: float
    """Share of dynamic pixels."""
    warp_error: float
    """Mean luminance difference, 0..255, between a frame and a later one warped by depth and cameras, over static
    pixels with depth. NaN without any overlap."""
    flow_error: float
    """Disagreement of geometry and optical flow, about in pixels at 96x144: how much more the luminance of a static,
    textured pixel differs after warping by depth and cameras than after warping by optical flow, over the gradient.
    60th percentile of a pair of frames, median of the pairs. 0 where too few pixels can be compared."""
    depth_error: float
    """Temporal inconsistency of depth: median relative difference of the depth of a static pixel, moved to another
    frame, and the depth there. The worst pair counts. 0 where too few pixels can be compared."""
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


def geometry_scores(clip: Clip) -> GeometryScores:
    """Scores of the annotation of a clip.

    Raises:
        ValueError: the clip is not annotated, or has no valid depth.
    """
    if clip.depth is None or clip.intrinsics is None or clip.camera_to_world is None:
        raise ValueError(f"{clip.name}: expected an annotated clip, got one without depth or cameras")
    clip = _scaled(clip)
    assert clip.depth is not None and clip.intrinsics is not None and clip.camera_to_world is not None
    valid = np.isfinite(clip.depth) & (clip.depth > 0)
    if not valid.any():
        raise ValueError(f"{clip.name}: depth: expected finite positive values, found none")
    low, unit, high = np.percentile(clip.depth[valid][::7], (5, 50, 95))
    confidence = valid.astype(np.float32) if clip.confidence is None else clip.confidence
    dynamic = np.zeros_like(valid) if clip.dynamic_mask is None else clip.dynamic_mask
    focal = float(clip.intrinsics[0, 0] if clip.width >= clip.height else clip.intrinsics[1, 1])
    warp, flow, depth = compare_pairs(clip, valid & ~_dilated(dynamic)).T
    return GeometryScores(
        finite_share=float(valid.mean()),
        least_finite_share=float(valid.mean(axis=(1, 2)).min()),
        mean_confidence=float(confidence.mean()),
        confident_share=float((confidence >= CONFIDENT).mean()),
        depth_spread=float(high / low),
        field_of_view=float(2 * np.rad2deg(np.arctan(max(clip.width, clip.height) / 2 / focal))),
        dynamic_share=float(dynamic.mean()),
        warp_error=float(np.nanmean(warp)) if np.isfinite(warp).any() else float("nan"),
        flow_error=float(np.nanmedian(flow)) if np.isfinite(flow).any() else 0.0,
        depth_error=float(np.nanmax(depth)) if np.isfinite(depth).any() else 0.0,
        **camera_scores(clip.camera_to_world, unit=float(unit)),
    )


def compare_pairs(clip: Clip, usable: np.ndarray) -> np.ndarray:
    """Compare up to `NUM_PAIRS` pairs of frames of an annotated clip.

    Args:
        clip: at the size to compare at.
        usable: [T, H, W] bool, static pixels with depth.

    Returns:
        [P, 3]: warp error, flow error and depth error of each pair; NaN where too few pixels can be compared.
    """
    if clip.num_frames < 2:
        return np.full((1, 3), np.nan)
    gray = luminance(clip.rgb)
    speeds = [np.linalg.norm(optical_flow(gray[t], gray[t + 1]), axis=-1).mean() for t in _starts(clip.num_frames, 1)]
    steps = round(_TARGET_FLOW / max(float(np.median(speeds)), 1e-3))
    step = int(np.clip(steps, 1, max(1, clip.num_frames // 2)))
    step -= 1 - step % 2  # odd, so that errors of every second frame are seen
    return np.array([_compare(clip, gray, usable, t, t + step) for t in _starts(clip.num_frames, step)])


def _dilated(mask: np.ndarray) -> np.ndarray:
    """A mask [T, H, W] with the pixels next to it."""
    import cv2

    return np.stack([cv2.dilate(frame.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for frame in mask])


def _starts(num_frames: int, step: int) -> list[int]:
    """First frames of up to `NUM_PAIRS` evenly spaced pairs that are `step` frames apart."""
    return [int(t) for t in np.unique(np.linspace(0, num_frames - 1 - step, NUM_PAIRS).astype(int))]


def _compare(
    clip: Clip,
    gray: np.ndarray,  # [T, H, W]
    usable: np.ndarray,  # [T, H, W] bool
    first: int,
    second: int,
) -> tuple[float, float, float]:
    """Warp error, flow error and depth error of two frames."""
    import cv2

    assert clip.depth is not None and clip.intrinsics is not None and clip.camera_to_world is not None
    height, width = gray.shape[1:]
    depth = np.where(usable[first], clip.depth[first], np.nan)
    points = unproject(depth[None], clip.intrinsics, clip.camera_to_world[[first]])
    pixels, moved_depth = project(points, clip.intrinsics, clip.camera_to_world[[second]])
    target = pixels[0]
    inside = np.isfinite(target).all(-1) & (target >= 0).all(-1) & (target <= (width - 1, height - 1)).all(-1)
    if inside.mean() < _MIN_COMPARED:
        return float("nan"), float("nan"), float("nan")
    target = np.where(inside[..., None], target, -1e4).astype(np.float32)
    smooth = [cv2.GaussianBlur(gray[t].astype(np.float32), (0, 0), 0.8) for t in (first, second)]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    by_flow = grid + optical_flow(gray[first], gray[second])

    def difference(source: np.ndarray) -> np.ndarray:
        """Luminance difference of the first frame and the second one, sampled at `source` [H, W, 2]."""
        x, y = source.transpose(2, 0, 1)
        warped = cv2.remap(smooth[1], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(cv2.absdiff(warped, smooth[0]))

    errors = difference(target)
    gradient = cv2.magnitude(
        cv2.Sobel(smooth[0], cv2.CV_32F, 1, 0, ksize=1, scale=0.5),
        cv2.Sobel(smooth[0], cv2.CV_32F, 0, 1, ksize=1, scale=0.5),
    )
    compared = inside & (gradient > _MIN_TEXTURE)
    flow_error = float("nan")
    if compared.mean() >= _MIN_COMPARED:
        excess = (errors - difference(by_flow))[compared] / (gradient[compared] + 1)
        flow_error = max(0.0, float(np.percentile(excess, 60)))
    there = cv2.remap(
        np.where(usable[second], clip.depth[second], np.float32(np.nan)),
        target[..., 0],
        target[..., 1],
        cv2.INTER_NEAREST,
        borderValue=float("nan"),
    )
    seen = inside & (there > 0)
    depth_error = float("nan")
    if seen.mean() >= _MIN_COMPARED:
        moved = moved_depth[0][seen]
        depth_error = float(np.median(np.abs(moved - there[seen]) / np.maximum(moved, there[seen])))
    return float(errors[inside].mean()), flow_error, depth_error


def _scaled(clip: Clip) -> Clip:
    """The clip, scaled down to at most `PIXELS` at its own aspect ratio."""
    scale = (PIXELS / (clip.height * clip.width)) ** 0.5
    if scale >= 1:
        return clip
    return clip.resized(max(8, round(clip.height * scale)), max(8, round(clip.width * scale)))
