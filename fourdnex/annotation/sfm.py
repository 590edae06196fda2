"""Annotation of real video: COLMAP for the cameras, plane-sweep stereo for dense depth, agreement as confidence."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from fourdnex.annotation.base import AnnotationError
from fourdnex.annotation.stereo import sweep
from fourdnex.annotation.structure_from_motion import Structure, reconstruct
from fourdnex.clip import Clip
from fourdnex.geometry.cameras import project, relative_to_first, unproject
from fourdnex.optical_flow import luminance, optical_flow

MIN_FRAMES = 5
WORKING_PIXELS = 192 * 256
"""Larger images are scaled down for dense depth: time grows with their number, and so does the correlation window."""
STILL = 0.5
"""Pixels: when a fifth of the image moves less than this from the first to every other frame, or less than
STILL_SHARE of what the fastest tenth moves, the camera stands still."""
STILL_SHARE = 0.08
TEXTURE = 10.0
"""Luminance a pixel, from which a gradient can be followed."""


class SfmAnnotator:
    """Static scenes filmed by a moving camera. Depth is known up to one scale: the median of the points is at 1."""

    name: ClassVar[str] = "sfm"
    version: ClassVar[str] = "1"
    license: ClassVar[str] = "BSD-3-Clause (COLMAP), Apache-2.0 (OpenCV)"

    def annotate(self, clip: Clip) -> Clip:
        """The clip with cameras, dense depth, confidence, and a mask of what moves by itself.

        Raises:
            AnnotationError: too few frames, a camera that stands still or only turns, frames that COLMAP could not
                register, an implausible result.
        """
        if clip.num_frames < MIN_FRAMES:
            raise AnnotationError(f"{clip.num_frames} frames, expected at least {MIN_FRAMES}")
        gray = luminance(clip.rgb)
        still, fast = camera_shift(gray)
        if still < max(STILL, STILL_SHARE * fast):
            raise AnnotationError(
                f"the camera does not move (a fifth of the image shifts by {still:.2f} pixels or less): no parallax"
            )
        structure = reconstruct(clip.rgb)
        depth, confidence = _dense(clip, structure)
        intrinsics = structure.intrinsics.astype(np.float32)
        poses = relative_to_first(structure.camera_to_world).astype(np.float32)
        mask = moving(gray, depth, confidence, intrinsics, poses)
        return replace(
            clip,
            annotator=self.name,
            depth=depth,
            intrinsics=intrinsics,
            camera_to_world=poses,
            confidence=np.where(mask, 0, confidence).astype(np.float32),
            dynamic_mask=mask,
        )


def camera_shift(gray: np.ndarray) -> tuple[float, float]:
    """How far the image's parts move from the first to any later frame, in pixels: the stillest fifth and the
    fastest tenth.

    A camera that moves moves all of the image; before one that stands still only things move. Parts are the cells of
    a grid of 12x16 that have texture: counted by pixels, a patterned thing would outvote a plain room.

    Args:
        gray: [T, H, W] uint8.
    """
    height, width = gray.shape[1] // 12 * 12, gray.shape[2] // 16 * 16
    frames = np.unique(np.linspace(1, len(gray) - 1, 4).astype(int))
    flow = np.max([np.linalg.norm(optical_flow(gray[0], gray[t], "coarse"), axis=-1) for t in frames], axis=0)
    cells, textures = (
        array[:height, :width].reshape(12, height // 12, 16, width // 16).swapaxes(1, 2).reshape(192, -1)
        for array in (flow, _texture(gray[0]))
    )
    textured = textures >= np.maximum(np.quantile(textures, 0.8, axis=1, keepdims=True), TEXTURE)
    shifts = [float(np.median(cell[marks])) for cell, marks in zip(cells, textured, strict=True) if marks.sum() >= 5]
    if not shifts:
        return 0.0, 0.0
    return float(np.quantile(shifts, 0.2)), float(np.quantile(shifts, 0.9))


def moving(
    gray: np.ndarray, depth: np.ndarray, confidence: np.ndarray, intrinsics: np.ndarray, camera_to_world: np.ndarray
) -> np.ndarray:
    """[T, H, W] bool: textured pixels whose optical flow to the next frame is not that of a rigid scene.

    Only where the depth is not confirmed by other views: a confirmed pixel stood still.
    """
    height, width = gray.shape[1:]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    points = unproject(depth, intrinsics, camera_to_world)
    mask = np.zeros(gray.shape, bool)
    for frame in range(len(gray)):
        other = frame + 1 if frame + 1 < len(gray) else frame - 1
        seen, _ = project(points[frame : frame + 1], intrinsics, camera_to_world[other : other + 1])
        rigid = np.nan_to_num(seen[0] - grid)
        residual = np.linalg.norm(optical_flow(gray[frame], gray[other], "coarse") - rigid, axis=-1)
        mask[frame] = (residual > 2 + 0.2 * np.linalg.norm(rigid, axis=-1)) & (_texture(gray[frame]) > TEXTURE)
    return mask & (confidence < 0.2)


def _dense(clip: Clip, structure: Structure) -> tuple[np.ndarray, np.ndarray]:
    """Depth and confidence [T, H, W] at the clip's size, swept at WORKING_PIXELS at most."""
    import cv2

    scale = min(1.0, (WORKING_PIXELS / (clip.height * clip.width)) ** 0.5)
    small = replace(clip, intrinsics=structure.intrinsics.astype(np.float32))
    small = small.resized(round(clip.height * scale), round(clip.width * scale))
    assert small.intrinsics is not None
    gray = luminance(small.rgb).astype(np.float32) / 255
    depth, confidence = sweep(
        gray, small.intrinsics.astype(np.float64), structure.camera_to_world, _depth_range(structure)
    )
    if scale == 1:
        return depth, confidence
    size = (clip.width, clip.height)
    enlarged = [np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST) for frame in maps])
                for maps in (depth, confidence)]  # fmt: skip
    return enlarged[0], enlarged[1]


def _depth_range(structure: Structure) -> np.ndarray:
    """[T, 2]: nearest and farthest depth of the points that each frame sees, with a margin."""
    result = np.empty((len(structure.camera_to_world), 2))
    for frame, row in enumerate(result):
        depths = structure.depths(frame)
        depths = depths[depths > 0]
        if len(depths) < 10:
            raise AnnotationError(f"frame {frame}: {len(depths)} points in sight, expected at least 10")
        near, far = np.percentile(depths, (1, 98))
        row[:] = 0.8 * near, 1.5 * far
    return result


def _texture(gray: np.ndarray) -> np.ndarray:
    import cv2

    return np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)) / 4
