"""Self-consistency of a scene: scores for generated scenes, which have no ground truth.

A scene of identical frames is perfectly consistent. The scores therefore include the share of moving points and the
length of the camera path.
"""

import os
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fourdnex.geometry.cameras import pixel_rays, project, transform_points
from fourdnex.geometry.rotations import rotation_angle_from_trace
from fourdnex.io.files import read_json, write_json
from fourdnex.optical_flow import luminance, optical_flow
from fourdnex.rendering import flying_pixels
from fourdnex.scene import Scene4D

CONSISTENCY_FILE = "consistency.json"
"""File in a scene's folder that caches its scores; generating the scene again removes it."""
STATIC = 0.02
"""Max displacement of a static point according to optical flow, as a share of its depth."""
AGREES = 0.05
"""Max relative depth difference at which two frames agree on a point."""


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """Agreement of consecutive frames, averaged over the pairs; NaN where no point is visible twice."""

    depth_error: float
    """Median relative difference between a static point's depth in the next camera and the depth map there."""
    agreement: float
    """Share of static points visible in both frames whose depth differs by at most 5 %."""
    color_error: float
    """Mean luminance difference, 0..255, between agreeing static points and their pixels in the next frame."""
    flow_error: float
    """Median distance in pixels between optical flow and the flow from depth and cameras, over all points."""
    flying_share: float
    """Share of points between a near and a far surface (`fourdnex.rendering.flying_pixels`)."""
    dynamic_share: float
    """Share of dynamic points, which move by more than 2 % of their depth between consecutive frames."""
    path_length: float
    """Length of the camera path, in median depths."""
    turn: float
    """Sum of the camera's rotation angles between consecutive frames, degrees."""


def scene_consistency(scene: Scene4D) -> Consistency:
    """Compare every frame of a scene with the next one.

    Raises:
        ValueError: if the scene has fewer than two frames, or a frame without points.
    """
    if scene.num_frames < 2:
        raise ValueError(f"scene: expected at least 2 frames, got {scene.num_frames}")
    empty = np.flatnonzero(~np.isfinite(scene.depth).any(axis=(1, 2)))
    if len(empty):
        raise ValueError(f"scene: expected points in every frame, got none in frame {empty[0]}")
    rays = pixel_rays(scene.height, scene.width, scene.intrinsics).astype(np.float32)
    gray = luminance(scene.rgb)
    worlds = (
        transform_points(rays * z[..., None], pose) for z, pose in zip(scene.depth, scene.camera_to_world, strict=True)
    )
    rows = [_compare(scene, gray, t, *pair) for t, pair in enumerate(pairwise(worlds))]
    columns = np.array(rows)
    with np.errstate(invalid="ignore"):
        means = [float(np.nanmean(column)) if np.isfinite(column).any() else float("nan") for column in columns.T]
    depth_error, agreement, color_error, flow_error, dynamic_share = means
    poses = scene.camera_to_world.astype(np.float64)
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    turns = rotation_angle_from_trace(np.swapaxes(poses[:-1, :3, :3], 1, 2) @ poses[1:, :3, :3])
    return Consistency(
        depth_error=depth_error,
        agreement=agreement,
        color_error=color_error,
        flow_error=flow_error,
        flying_share=float(np.mean([_flying_share(depth) for depth in scene.depth])),
        dynamic_share=dynamic_share,
        path_length=float(steps.sum() / np.nanmedian(scene.depth)),
        turn=float(np.degrees(turns).sum()),
    )


def collection_consistency(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Scene name and fields of `Consistency` for every scene in a folder, sorted by name.

    Results are cached in each scene's folder. Damaged scenes and scenes of one frame are skipped.
    """
    rows = []
    for path in sorted(file.parent for file in Path(folder).glob("[!.]*/scene.json")):
        cache = path / CONSISTENCY_FILE
        if not cache.is_file():
            try:
                found = scene_consistency(Scene4D.load(path))
            except ValueError:
                continue  # reported when the scene is opened
            write_json(cache, {name: value if np.isfinite(value) else None for name, value in asdict(found).items()})
        rows.append({"scene": path.name, **read_json(cache)})
    return rows


def _flying_share(depth: np.ndarray) -> float:
    """Share of flying pixels among the valid pixels of depth [H, W]."""
    import torch

    return float(flying_pixels(torch.from_numpy(depth)).sum()) / int(np.isfinite(depth).sum())


def _compare(
    scene: Scene4D, gray: np.ndarray, t: int, here: np.ndarray, there: np.ndarray
) -> tuple[float, float, float, float, float]:
    """Depth error, agreement, color error, flow error and dynamic share of frame t against the next one.

    `here` and `there` are the world points [H, W, 3] of the two frames.
    """
    pixels, depth = project(here[None], scene.intrinsics, scene.camera_to_world[t + 1 : t + 2])
    pixels, depth = pixels[0], depth[0]
    y, x = np.mgrid[: scene.height, : scene.width]
    flow = optical_flow(gray[t], gray[t + 1])
    valid = np.isfinite(scene.depth[t])
    arrived = _at(there, np.stack([x, y], axis=-1) + flow)
    moved = np.linalg.norm(arrived - here, axis=-1) / scene.depth[t]
    tracked = valid & np.isfinite(moved)
    static = tracked & (moved < STATIC)
    dynamic_share = float((tracked & ~static).sum() / tracked.sum()) if tracked.any() else float("nan")
    geometric = pixels - np.stack([x, y], axis=-1)
    distance = np.linalg.norm(geometric - flow, axis=-1)[valid]
    distance = distance[np.isfinite(distance)]
    flow_error = float(np.median(distance)) if len(distance) else float("nan")
    found = _at(scene.depth[t + 1][..., None], pixels)[..., 0]
    with np.errstate(invalid="ignore"):
        difference = np.abs(found / depth - 1)
    seen = static & np.isfinite(difference)
    if not seen.any():
        return float("nan"), float("nan"), float("nan"), flow_error, dynamic_share
    agrees = seen & (difference < AGREES)
    color = np.abs(_at(gray[t + 1][..., None].astype(np.float32), pixels)[..., 0] - gray[t])[agrees]
    return (
        float(np.median(difference[seen])),
        float(agrees.sum() / seen.sum()),
        float(color.mean()) if len(color) else float("nan"),
        flow_error,
        dynamic_share,
    )


def _at(values: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """`values` [H, W, C] at the pixels nearest to (x, y) [H, W, 2]; NaN outside the image."""
    height, width = values.shape[:2]
    rounded = np.rint(np.nan_to_num(pixels, nan=-1.0)).clip(-1, max(height, width)).astype(int)
    x, y = rounded[..., 0], rounded[..., 1]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    found = values[np.where(inside, y, 0), np.where(inside, x, 0)].astype(np.float32)
    found[~inside] = np.nan
    return found
