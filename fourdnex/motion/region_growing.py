"""Moving regions: free-space violations as seeds, grown by optical flow."""

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

_MAX_WIDTH = 256
"""Image width above which scenes are downsampled."""
_FRAME_OFFSETS = (1, -1, 4, -4)
"""Frames that optical flow is computed to: neighbors, and more distant ones for slow objects."""
_MIN_FLOW = 0.75  # pixels, minimum object motion of the seeds
_MIN_PROJECTION = 0.5  # fraction of the seeds' motion that a pixel must share
_WINDOW_DIVISOR = 12  # seeds are averaged over a window of half side width / this
_NOISE_FREE = 0.01
"""Depth tolerance of exact point maps; the excess is doubled, because depth noise resembles motion."""
_DEPTH_EDGE = 0.05  # relative depth difference of separate surfaces


def moving_region(scene: Scene4D) -> np.ndarray:
    """Pixels [T, H, W] of moving objects: those of `moving_pixels`, grown to complete objects.

    Depth alone misses the interior of large or slow objects, which overlaps with itself over time. Pixels are added if
    their object motion, the optical flow minus the flow of the camera motion, agrees with that of the seeds around
    them, no depth edge separates them, and few frames are consistent with a static point.

    Images wider than 256 pixels are downsampled by a stride; the result is upsampled within depth edges.
    """
    stride = -(-scene.width // _MAX_WIDTH)
    if stride == 1:
        return _grow_region(scene)
    region, depth = (
        values.repeat(stride, axis=1).repeat(stride, axis=2)[:, : scene.height, : scene.width]
        for values in (_grow_region(_downsample(scene, stride)), scene.depth[:, ::stride, ::stride])
    )
    with np.errstate(invalid="ignore"):
        return np.asarray(region & (np.abs(scene.depth - depth) < _DEPTH_EDGE * scene.depth))


def _downsample(scene: Scene4D, stride: int) -> Scene4D:
    """The scene subsampled by a stride, with blurred colors."""
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


def _grow_region(scene: Scene4D) -> np.ndarray:
    """`moving_region` at the scene's resolution."""
    tolerance = depth_tolerance(scene)
    tolerance += max(0.0, tolerance - _NOISE_FREE)
    seeds = moving_pixels(scene, tolerance=tolerance)
    if not seeds.any():
        return seeds
    frames = comparison_frames(scene)
    gray = luminance(scene.rgb)
    region = seeds.copy()
    for t in np.flatnonzero(seeds.any(axis=(1, 2))).tolist():
        consistent, violated = consistency_counts(scene, t, frames, tolerance)
        with np.errstate(invalid="ignore"):
            is_behind_edge = scene.depth[t] > min_depth_3x3(scene.depth[t]) * (1 + _DEPTH_EDGE)
        is_uncertain = (3 * consistent < len(frames)) | (violated > 0)
        grown = _moves_with_seeds(scene, gray, seeds[t], t) & is_uncertain & ~is_behind_edge
        region[t] = _components_with_seeds(seeds[t] | grown, seeds[t])
    return region & np.isfinite(scene.depth)


def _moves_with_seeds(scene: Scene4D, gray: np.ndarray, seeds: np.ndarray, t: int) -> np.ndarray:
    """Pixels [H, W] whose object motion agrees with the mean object motion of the seeds [H, W] around them."""
    import cv2

    half = max(2, scene.width // _WINDOW_DIVISOR)
    size = (2 * half + 1, 2 * half + 1)
    weight = seeds.astype(np.float32)
    density = cv2.blur(weight, size)
    agrees = np.zeros(seeds.shape, bool)
    for other in (t + offset for offset in _FRAME_OFFSETS):
        if not 0 <= other < scene.num_frames:
            continue
        motion = np.nan_to_num(optical_flow(gray[t], gray[other], "accurate") - _camera_flow(scene, t, other))
        mean = cv2.blur(motion * weight[..., None], size) / np.maximum(density, 1e-6)[..., None]
        length = np.linalg.norm(mean, axis=-1)
        dot = (motion * mean).sum(axis=-1)
        agrees |= (density > 0) & (length > _MIN_FLOW) & (dot > _MIN_PROJECTION * length**2)
    return agrees


def _camera_flow(scene: Scene4D, t: int, other: int) -> np.ndarray:
    """Optical flow [H, W, 2] from frame `t` to another frame in a static scene; NaN without depth."""
    points = unproject(scene.depth[t][None], scene.intrinsics, scene.camera_to_world[t][None])
    pixels, _ = project(points, scene.intrinsics, scene.camera_to_world[other][None])
    rows, columns = np.mgrid[: scene.height, : scene.width].astype(np.float32)
    return np.asarray(pixels[0] - np.stack([columns, rows], axis=-1))


def _components_with_seeds(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The connected components of a mask [H, W] that contain seeds."""
    from scipy.ndimage import label

    components, count = label(mask)
    has_seed = np.zeros(count + 1, bool)
    has_seed[components[seeds]] = True
    return np.asarray(has_seed[components])
