"""Metrics of one prediction, or of many in parallel processes. Imports no torch, so that workers start fast."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np

from fourdnex.clip import Clip
from fourdnex.cores import available_cores
from fourdnex.evaluation.depth import depth_metrics
from fourdnex.evaluation.points import point_metrics
from fourdnex.evaluation.pose import pose_metrics
from fourdnex.geometry.alignment import align_depth_scale
from fourdnex.geometry.pointmaps import Normalization, denormalize_pointmaps
from fourdnex.geometry.recovery import recover_cameras
from fourdnex.metrics.psnr import psnr
from fourdnex.metrics.ssim import ssim

METRICS = (
    *("abs_rel", "delta1"),
    *("ate", "rpe_translation", "rpe_rotation_deg", "length_ratio"),
    *("chamfer", "xyz_error"),
    *("psnr", "ssim"),
)
VERSION = 2
"""Incremented when the definition of a metric changes, so that earlier results are not reused."""
FRAME_STEP, PIXEL_STEP = 4, 2
"""Strides over frames, and over rows and columns, for point cloud metrics."""
Prediction = tuple[np.ndarray, np.ndarray]  # RGB [T, H, W, 3] uint8, XYZ [T, H, W, 3]


def score_all(
    clips: Sequence[Clip],
    predictions: Sequence[Prediction],
    *,
    center: Sequence[float] = (0.0, 0.0, 0.0),
    scale: float = 1.0,
) -> list[dict[str, float]]:
    """`score` of every clip, in order, with one process per core."""
    score_pair = partial(_score_pair, center=tuple(center), scale=scale)
    workers = min(len(clips), available_cores())
    if workers < 2:
        return [score_pair(pair) for pair in zip(clips, predictions, strict=True)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(score_pair, zip(clips, predictions, strict=True), chunksize=4))


def score(
    clip: Clip, rgb: np.ndarray, xyz: np.ndarray, *, center: Sequence[float] = (0.0, 0.0, 0.0), scale: float = 1.0
) -> dict[str, float]:
    """Metrics of one prediction (RGB and point maps) against an annotated clip, where its depth is known.

    `chamfer` and `xyz_error`, the mean distance between predicted and true point of a pixel, are in half extents of the
    true scene, after one similarity alignment of the clip. `length_ratio` is NaN if the true camera is static. If no
    pinhole camera fits the points, depth is the z coordinate, the camera is static and `recovered` is 0. PSNR and SSIM
    exclude the first frame, which is the model's input.

    Args:
        clip: annotated clip; depth is NaN in pixels that do not count.
        rgb: [T, H, W, 3] uint8.
        xyz: [T, H, W, 3] point maps.
        center: center that denormalizes `xyz`, if it is normalized.
        scale: scale that denormalizes `xyz`, if it is normalized.

    Raises:
        ValueError: if the clip is not annotated, or a shape differs from the clip's.
    """
    truth = clip.pointmaps
    if clip.depth is None or clip.camera_to_world is None or truth is None:
        raise ValueError(f"{clip.name}: expected depth and cameras, got a clip that is not annotated")
    points = denormalize_pointmaps(xyz, Normalization(center=np.array(center, dtype=np.float32), scale=scale))
    try:
        found = recover_cameras(points, pixel_aspect=clip.pixel_aspect)
        depth, poses, recovered = found.depth, found.camera_to_world, 1.0
    except ValueError:
        depth, poses, recovered = points[..., 2], np.repeat(np.eye(4, dtype=np.float32)[None], len(points), axis=0), 0.0
    valid = np.isfinite(depth) & (depth > 0)
    if not valid.any():
        depth, valid = np.ones_like(depth), np.ones_like(valid)
    # Pixels without depth get the clip's median: excluding them would reward holes.
    depths = depth_metrics(np.where(valid, depth, np.median(depth[valid])), clip.depth)
    known = np.isfinite(clip.depth) & (clip.depth > 0)
    pose = pose_metrics(poses, clip.camera_to_world, scale=align_depth_scale(depth, clip.depth, valid & known))
    sample = (slice(None, None, FRAME_STEP), slice(None, None, PIXEL_STEP), slice(None, None, PIXEL_STEP))
    cloud = point_metrics(points[sample], truth[sample])
    return {
        "abs_rel": depths.abs_rel,
        "delta1": depths.delta1,
        "ate": pose.ate,
        "rpe_translation": pose.rpe_translation,
        "rpe_rotation_deg": pose.rpe_rotation_deg,
        "length_ratio": pose.length_ratio if pose.gt_length > 1e-3 else float("nan"),
        "chamfer": cloud.chamfer / cloud.extent,
        "xyz_error": cloud.end_point_error / cloud.extent,
        "psnr": psnr(rgb[1:], clip.rgb[1:], max_db=60.0),
        "ssim": ssim(rgb[1:], clip.rgb[1:]),
        "recovered": recovered,
    }


def _score_pair(pair: tuple[Clip, Prediction], *, center: tuple[float, ...], scale: float) -> dict[str, float]:
    """`score` of a clip and its prediction."""
    clip, (rgb, xyz) = pair
    return score(clip, rgb, xyz, center=center, scale=scale)
