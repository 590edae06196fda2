"""Which pixels move: those that other frames see through, and what moves with them by optical flow."""

from dataclasses import replace

import numpy as np

from fourdnex.geometry.cameras import project, unproject
from fourdnex.motion.segmentation import (
    comparison_frames,
    consistency_counts,
    depth_tolerance,
    min_depth_3x3,
    moving_pixels,
)
from fourdnex.optical_flow import luminance, optical_flow
from fourdnex.scene import Scene4D

_WIDEST = 256
"""Pixels in a row that are looked at."""
_STEPS = (1, -1, 4, -4)
"""Frames between which flow is looked at: neighbors, and others for what is slow."""
_LEAST = 0.75  # pixels that what moves is at least displaced by itself
_SHARE = 0.5  # of the displacement of the sure pixels around
_AROUND = 12  # these are sought in a square whose half side is a so manieth part of the width
_EXACT = 0.01
"""Tolerance of depth up to which point maps are exact; noise above it counts twice, for it seems to be motion."""
_JUMP = 0.05  # of depth: what lies so much behind a neighbor does not belong to it


def moving_region(scene: Scene4D) -> np.ndarray:
    """Pixels [T, H, W] that move by themselves: those of `moving_pixels`, and what hangs together with them.

    Depth alone does not tell of a large or slow object's middle, which covers itself for long. So pixels are added that
    optical flow displaces as it does the sure ones around, that no jump of depth separates from them, and that few
    other frames see in the same place.

    Of images wider than 256 pixels every second (third, ...) row and column is looked at; the pixels around are as
    that one is, where depth does not jump.
    """
    stride = -(-scene.width // _WIDEST)
    if stride == 1:
        return _region(scene)
    region, depth = (
        values.repeat(stride, axis=1).repeat(stride, axis=2)[:, : scene.height, : scene.width]
        for values in (_region(_thinned(scene, stride)), scene.depth[:, ::stride, ::stride])
    )
    with np.errstate(invalid="ignore"):
        return np.asarray(region & (np.abs(scene.depth - depth) < _JUMP * scene.depth))


def _thinned(scene: Scene4D, stride: int) -> Scene4D:
    """The scene with every so many rows and columns, its colors those of the pixels around."""
    import cv2

    intrinsics = scene.intrinsics.copy()
    intrinsics[:2] /= stride
    return replace(
        scene,
        rgb=np.stack([cv2.blur(frame, (stride, stride))[::stride, ::stride] for frame in scene.rgb]),
        depth=scene.depth[:, ::stride, ::stride],
        intrinsics=intrinsics,
        confidence=None,
        origin=None,
        tracks=None,
    )


def _region(scene: Scene4D) -> np.ndarray:
    tolerance = depth_tolerance(scene)
    tolerance += max(0.0, tolerance - _EXACT)
    sure = moving_pixels(scene, tolerance=tolerance)
    if not sure.any():
        return sure
    frames = comparison_frames(scene)
    gray = luminance(scene.rgb)
    region = sure.copy()
    for t in np.flatnonzero(sure.any(axis=(1, 2))).tolist():
        confirmed, contradicted = consistency_counts(scene, t, frames, tolerance)
        with np.errstate(invalid="ignore"):
            is_behind = scene.depth[t] > min_depth_3x3(scene.depth[t]) * (1 + _JUMP)
        doubtful = (3 * confirmed < len(frames)) | (contradicted > 0)
        joins = _displaced_alike(scene, gray, sure[t], t) & doubtful & ~is_behind
        region[t] = _connected(sure[t] | joins, sure[t])
    return region & np.isfinite(scene.depth)


def _displaced_alike(scene: Scene4D, gray: np.ndarray, sure: np.ndarray, t: int) -> np.ndarray:
    """Pixels [H, W] that flow to another frame displaces as it does the sure ones around them on average."""
    import cv2

    half = max(2, scene.width // _AROUND)
    size = (2 * half + 1, 2 * half + 1)
    weight = sure.astype(np.float32)
    around = cv2.blur(weight, size)
    alike = np.zeros(sure.shape, bool)
    for other in (t + step for step in _STEPS):
        if not 0 <= other < scene.num_frames:
            continue
        own = np.nan_to_num(optical_flow(gray[t], gray[other], "accurate") - _flow_of_still(scene, t, other))
        mean = cv2.blur(own * weight[..., None], size) / np.maximum(around, 1e-6)[..., None]
        length = np.linalg.norm(mean, axis=-1)
        along = (own * mean).sum(axis=-1)
        alike |= (around > 0) & (length > _LEAST) & (along > _SHARE * length**2)
    return alike


def _flow_of_still(scene: Scene4D, t: int, other: int) -> np.ndarray:
    """Flow [H, W, 2] from frame `t` to another one if nothing moved but the camera; NaN where it is not known."""
    points = unproject(scene.depth[t][None], scene.intrinsics, scene.camera_to_world[t][None])
    pixels, _ = project(points, scene.intrinsics, scene.camera_to_world[other][None])
    rows, columns = np.mgrid[: scene.height, : scene.width].astype(np.float32)
    return np.asarray(pixels[0] - np.stack([columns, rows], axis=-1))


def _connected(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The connected parts of a mask [H, W] that hold seeds."""
    from scipy.ndimage import label

    parts, count = label(mask)
    has_seed = np.zeros(count + 1, bool)
    has_seed[parts[seeds]] = True
    return np.asarray(has_seed[parts])
