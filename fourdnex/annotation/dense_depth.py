"""Dense depth and calibrated confidence of frames with known cameras, by plane-sweep multi-view stereo.

Depth is known only where other frames confirm it: a pixel that is projected into another frame, moved to the depth
there, and projected back must return to itself. Elsewhere depth is NaN and confidence is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fourdnex.annotation.base import AnnotationError
from fourdnex.annotation.plane_sweep import (
    View,
    box_mean,
    homogeneous_pixels,
    inside,
    matching_cost,
    parabola,
    sample,
    select_planes,
)
from fourdnex.annotation.structure_from_motion import Structure
from fourdnex.geometry.cameras import invert_pose
from fourdnex.optical_flow import luminance

NUM_PLANES = 64
"""Number of planes, at equal distances in inverse depth, of the sweep at low resolution."""
SWEEP_PIXELS = 120 * 180
"""Max number of pixels of the sweep at low resolution."""
NUM_SOURCES = 4
"""Number of frames that each frame is compared with."""
TARGET_ANGLE = 5.0
"""Preferred angle in degrees between two views at the middle depth: large enough for depth, small enough to match."""
MIN_POINTS = 10
"""Min number of sparse points of a frame; they give its depth range."""
MAX_PIXEL_ERROR = 1.0
"""Max distance in pixels at which a pixel returns from another frame."""
MAX_DEPTH_ERROR = 0.05
"""Max relative difference of depth at which two frames agree."""
MIN_CORRELATION = 0.25
"""Min correlation of a pixel whose depth is known."""
ERROR_SCALE = 0.05
"""Relative depth error at which the confidence is 1/e."""
FRAMES_AT_ONCE = 16
"""Number of frames whose costs are in memory together."""


@dataclass(frozen=True)
class DenseDepth:
    """Depth of all frames, and how sure it is."""

    depth: np.ndarray  # [T, H, W] float32, z in the camera's frame; NaN where unknown
    confidence: np.ndarray  # [T, H, W] float32 in [0, 1]; 0 where unknown


def estimate(rgb: np.ndarray, structure: Structure, *, device: str | torch.device = "cpu") -> DenseDepth:
    """Estimate depth and confidence of every frame.

    Args:
        rgb: [T, H, W, 3] uint8, without distortion.
        structure: cameras and sparse points; intrinsics at the size of `rgb`.
        device: torch device.

    Raises:
        AnnotationError: fewer than two frames, or a frame with fewer than `MIN_POINTS` sparse points.
    """
    depth, cues = stereo(rgb, structure, device=device)
    return DenseDepth(depth, confidence(depth, cues))


def confidence(depth: np.ndarray, cues: np.ndarray) -> np.ndarray:
    """Confidence exp(-e / `ERROR_SCALE`), [T, H, W] in [0, 1], with the relative depth error e that the cues predict.

    Args:
        depth: [T, H, W]; confidence is 0 where it is NaN.
        cues: [T, H, W, C] as `stereo` returns them.
    """
    error = np.exp(cues @ _WEIGHTS[1:] + _WEIGHTS[0])
    return np.where(np.isnan(depth), 0, np.exp(-error / ERROR_SCALE)).astype(np.float32)


CUES = ("log shift", "correlation", "uniqueness", "agreeing share", "log disagreement", "log texture")
"""Cues of a pixel: log of its shift in pixels per relative change of depth, correlation, uniqueness of the minimum,
share of agreeing views, log of their mean relative disagreement plus .001, log of the luminance deviation plus .004."""
# Constant, then one weight per cue: least squares for log(relative error + .001) on 200,000 pixels of rendered videos
# 101, 103, 105, 107 and 109 (`benchmarks.dense_depth.rendered_case`, 9 frames, true cameras), except that of the shift,
# which is set to -.15: error falls with parallax, but these videos hardly differ in it.
_WEIGHTS = np.array([-0.501, -0.15, -0.392, -2.345, -1.809, 0.313, 0.130], np.float32)


def depth_range(structure: Structure) -> np.ndarray:
    """Nearest and farthest depth [T, 2] of the points that are visible in each frame, with a margin.

    Raises:
        AnnotationError: a frame with fewer than `MIN_POINTS` visible points.
    """
    result = np.empty((len(structure.camera_to_world), 2))
    for frame, row in enumerate(result):
        depths = structure.depths(frame)
        depths = depths[depths > 0]
        if len(depths) < MIN_POINTS:
            raise AnnotationError(f"frame {frame}: expected at least {MIN_POINTS} visible points, got {len(depths)}")
        near, far = np.percentile(depths, (1, 98))
        row[:] = 0.75 * near, 2.0 * far
    return result


def choose_sources(camera_to_world: np.ndarray, depth_range: np.ndarray) -> list[list[int]]:
    """Indices, for every frame, of the frames whose viewing angle differs from its own by about `TARGET_ANGLE`."""
    centers = camera_to_world[:, :3, 3]
    # Rays from every camera to the center of the scene in front of each camera.
    center_depth = np.sqrt(depth_range[:, 0] * depth_range[:, 1])
    target = centers + center_depth[:, None] * camera_to_world[:, :3, 2]
    rays = target[:, None] - centers[None]
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    own_rays = np.einsum("ttc->tc", rays)
    angle = np.rad2deg(np.arccos(np.clip(np.einsum("tc,tsc->ts", own_rays, rays), -1, 1)))
    chosen = []
    for frame, row in enumerate(angle):
        order = np.argsort(np.abs(np.log(np.maximum(row, 1e-3) / TARGET_ANGLE)), kind="stable")
        chosen.append(sorted([int(other) for other in order if other != frame][:NUM_SOURCES]))
    return chosen


def stereo(
    rgb: np.ndarray, structure: Structure, *, device: str | torch.device = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Depth [T, H, W] float32, NaN where unknown, and the cues of its confidence [T, H, W, C] float32 (see `CUES`).

    Raises:
        AnnotationError: as of `estimate`.
    """
    if len(rgb) < 2:
        raise AnnotationError(f"rgb: expected at least 2 frames, got {len(rgb)}")
    ranges = depth_range(structure)
    sources = choose_sources(structure.camera_to_world, ranges)
    with torch.inference_mode():
        images = torch.from_numpy(luminance(rgb)).to(device).float() / 255
        rig = _Rig(images, structure.intrinsics, structure.camera_to_world, sources)
        inverse, correlation, uniqueness = _sweep(rig, torch.from_numpy(1 / ranges).float().to(device))
        depth, cues = _confirm(rig, inverse, correlation, uniqueness)
    return depth.cpu().numpy(), cues.cpu().numpy()


@dataclass(frozen=True)
class _Rig:
    """Images of one size and their cameras."""

    images: Tensor  # [T, H, W]
    intrinsics: np.ndarray  # [3, 3]
    camera_to_world: np.ndarray  # [T, 4, 4]
    sources: list[list[int]]

    def view(self, frame: int, source: int) -> View:
        """How frame `source` is seen from `frame`."""
        pose = invert_pose(self.camera_to_world[source].astype(np.float64)) @ self.camera_to_world[frame]
        warp = self.intrinsics @ pose[:3, :3] @ np.linalg.inv(self.intrinsics)
        offset = self.intrinsics @ pose[:3, 3]
        device = self.images.device
        return View(
            image=self.images[source],
            warp=torch.from_numpy(warp).float().to(device),
            offset=torch.from_numpy(offset).float().to(device),
        )

    def views(self, frame: int) -> list[View]:
        """The sources of a frame."""
        return [self.view(frame, source) for source in self.sources[frame]]

    def reduced(self, height: int, width: int) -> _Rig:
        """The same at a smaller size; pixel areas are averaged."""
        images = functional.interpolate(self.images[:, None], (height, width), mode="area")[:, 0]
        scale = np.array([width / self.images.shape[2], height / self.images.shape[1]])
        intrinsics = self.intrinsics.astype(np.float64).copy()
        intrinsics[:2] *= scale[:, None]
        intrinsics[:2, 2] += 0.5 * scale - 0.5
        return _Rig(images, intrinsics, self.camera_to_world, self.sources)


def _sweep(rig: _Rig, inverse_range: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Inverse depth (NaN at the ends of the range), correlation and uniqueness, each [T, H, W].

    Args:
        rig: images at full size.
        inverse_range: [T, 2], largest and smallest inverse depth.
    """
    num_frames, height, width = rig.images.shape
    scale = min(1.0, (SWEEP_PIXELS / (height * width)) ** 0.5)
    small = rig.reduced(max(8, round(height * scale)), max(8, round(width * scale)))
    rays = homogeneous_pixels(small.images.shape[1], small.images.shape[2], small.images.device)
    full_rays = homogeneous_pixels(height, width, rig.images.device)
    fractions = torch.linspace(0, 1, NUM_PLANES, device=rays.device)
    results = []
    for start in range(0, num_frames, FRAMES_AT_ONCE):
        frames = range(start, min(start + FRAMES_AT_ONCE, num_frames))
        near, far = inverse_range[frames.start : frames.stop].unbind(1)
        planes = far[:, None] + (near - far)[:, None] * fractions  # [N, D]
        cost = torch.stack(
            [
                matching_cost(small.images[frame], small.views(frame), rays, plane[:, None, None])
                for frame, plane in zip(frames, planes, strict=True)
            ]
        )
        position, uniqueness, known = select_planes(cost, small.images[frames.start : frames.stop])
        step = (near - far) / (NUM_PLANES - 1)
        inverse = far[:, None, None] + position * step[:, None, None]
        for number, frame in enumerate(frames):
            refined, correlation = _refine(rig, frame, full_rays, inverse[number], float(step[number]))
            sure, in_range = (
                functional.interpolate(values[None, None].float(), (height, width), mode="nearest")[0, 0]
                for values in (uniqueness[number], known[number])
            )
            refined = torch.where(in_range > 0, refined, torch.nan)
            results.append((refined, correlation, sure))
    inverse, correlation, uniqueness = (torch.stack(values) for values in zip(*results, strict=True))
    return inverse, correlation, uniqueness


def _refine(rig: _Rig, frame: int, rays: Tensor, coarse: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Inverse depth and correlation [H, W] at full size from inverse depth [h, w] of the sweep with a plane distance.

    First, each pixel selects between the interpolated and the nearest and farthest surface around it, which makes
    borders of objects sharp; then, between small changes, of which none is preferred without texture.
    """
    size = rig.images.shape[1:]
    image, views = rig.images[frame], rig.views(frame)
    maps = coarse[None, None]
    smooth = functional.interpolate(maps, size, mode="bilinear", align_corners=False)[0, 0]
    near = functional.interpolate(functional.max_pool2d(maps, 3, 1, 1), size, mode="nearest")[0, 0]
    far = -functional.interpolate(functional.max_pool2d(-maps, 3, 1, 1), size, mode="nearest")[0, 0]
    choices = torch.stack([smooth, near, far])
    cost = matching_cost(image, views, rays, choices)
    # At smooth places the three are alike, so that only real discontinuities are decided.
    cost[1:] += torch.where(near - far > 2 * step, 0.05, 1.0)
    base = choices.gather(0, cost.argmin(0)[None])[0]
    offsets = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0], device=rays.device)[:, None, None] * step
    cost = matching_cost(image, views, rays, (base[None] + offsets).clamp(min=1e-6))
    judged = box_mean(cost, 3) + 0.02 * (offsets / step).square()
    best = judged.argmin(0).clamp(1, 3)
    below, at, above = (judged.gather(0, (best + shift)[None])[0] for shift in (-1, 0, 1))
    inverse = base + ((best - 2) + parabola(below, at, above)) * (0.5 * step)
    return inverse.clamp(min=1e-6), 1 - cost.gather(0, best[None])[0]


def _confirm(rig: _Rig, inverse: Tensor, correlation: Tensor, uniqueness: Tensor) -> tuple[Tensor, Tensor]:
    """Depth [T, H, W], the mean of the frame and those that agree with it, NaN where too few do, and its cues."""
    height, width = inverse.shape[1:]
    rays = homogeneous_pixels(height, width, inverse.device)
    depths, cues = [], []
    for frame, others in enumerate(rig.sources):
        own = inverse[frame]
        count, total, disagreement, shift = (torch.zeros_like(own) for _ in range(4))
        for other in others:
            forward = rig.view(frame, other)
            pixels = forward.project(rays, own)
            ahead = forward.project(rays, own * 1.01)
            there = sample(inverse[other], pixels[None].nan_to_num(-1e4))[0]
            back = rig.view(other, frame)
            placed = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1)
            turned = placed @ back.warp.T + back.offset * there[..., None]
            returned = turned[..., :2] / turned[..., 2:]
            # z in the frame = z there * (third coordinate of the turned ray plus offset).
            seen = there / turned[..., 2]
            gap = (seen / own - 1).abs()
            error = (returned - rays[..., :2]).norm(dim=-1)
            agrees = (gap < MAX_DEPTH_ERROR) & (error < MAX_PIXEL_ERROR) & inside(pixels, height, width)
            agrees &= turned[..., 2] > 0
            count += agrees
            total += torch.where(agrees, seen, 0.0)
            disagreement += torch.where(agrees, gap, 0.0)
            shift = torch.where(agrees, torch.maximum(shift, (ahead - pixels).norm(dim=-1) / 0.01), shift)
        known = (count >= min(2, len(others))) & (correlation[frame] >= MIN_CORRELATION)
        mean = (own + total) / (1 + count)
        depths.append(torch.where(known, 1 / mean, torch.nan))
        image = rig.images[frame]
        texture = (box_mean(image * image) - box_mean(image).square()).clamp(min=0).sqrt()
        cues.append(
            torch.stack(
                [
                    torch.log(shift + 1e-3),
                    correlation[frame],
                    uniqueness[frame],
                    count / len(others),
                    torch.log(disagreement / count.clamp(min=1) + 1e-3),
                    torch.log(texture + 0.004),
                ],
                dim=-1,
            ).nan_to_num(0.0)
        )
    return torch.stack(depths), torch.stack(cues)
