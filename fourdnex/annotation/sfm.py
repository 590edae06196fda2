"""Annotation of real videos: cameras by COLMAP, dense depth by plane-sweep stereo, confidence by their agreement."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from fourdnex.annotation.base import AnnotationError, ClipAnnotator
from fourdnex.annotation.stereo import sweep
from fourdnex.annotation.structure_from_motion import Structure, reconstruct
from fourdnex.clip import Clip
from fourdnex.geometry.cameras import project, relative_to_first, unproject
from fourdnex.optical_flow import luminance, optical_flow

MIN_FRAMES = 5
WORKING_PIXELS = 192 * 256
"""Max number of pixels for dense depth; larger images are scaled down, because the time grows with the resolution."""
MIN_SHIFT = 0.5
"""Min shift in pixels of the slowest fifth of the image between the first and the other frames; below, or below
`MIN_SHIFT_RATIO` of the shift of the fastest tenth, the camera counts as static."""
MIN_SHIFT_RATIO = 0.08
MIN_GRADIENT = 10.0
"""Min luminance gradient, in levels per pixel, of pixels whose optical flow is reliable."""


class SfmAnnotator(ClipAnnotator):
    """Annotates videos of mostly static scenes by a moving camera. Depth is scaled to a median of 1 over the points."""

    needs: ClassVar[tuple[str, ...]] = ("pycolmap",)
    name: ClassVar[str] = "sfm"
    version: ClassVar[str] = "1"
    license: ClassVar[str] = "BSD-3-Clause (COLMAP), Apache-2.0 (OpenCV)"

    def annotate(self, clip: Clip) -> Clip:
        """The clip with cameras, dense depth, confidence, and a mask of moving objects.

        Raises:
            AnnotationError: the clip has too few frames, the camera is static or only rotates, COLMAP cannot register
                all frames, or the result is implausible.
        """
        if clip.num_frames < MIN_FRAMES:
            raise AnnotationError(f"expected at least {MIN_FRAMES} frames, got {clip.num_frames}")
        gray = luminance(clip.rgb)
        slow, fast = camera_shift(gray)
        if slow < max(MIN_SHIFT, MIN_SHIFT_RATIO * fast):
            raise AnnotationError(
                f"the camera does not move (a fifth of the image shifts by {slow:.2f} pixels or less): no parallax"
            )
        structure = reconstruct(clip.rgb)
        depth, confidence = _dense_depth(clip, structure)
        intrinsics = structure.intrinsics.astype(np.float32)
        poses = relative_to_first(structure.camera_to_world).astype(np.float32)
        mask = dynamic_mask(gray, depth, confidence, intrinsics, poses)
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
    """Max shift in pixels between the first and later frames, of the slowest fifth and the fastest tenth of the image.

    A moving camera moves the whole image; with a static camera, only objects move. The image is divided into a grid of
    12x16 cells, of which those with texture count equally: counted by pixels, a textured object would outweigh a
    textureless room.

    Args:
        gray: [T, H, W] uint8.
    """
    height, width = gray.shape[1] // 12 * 12, gray.shape[2] // 16 * 16
    frames = np.unique(np.linspace(1, len(gray) - 1, 4).astype(int))
    flow = np.max([np.linalg.norm(optical_flow(gray[0], gray[t], "coarse"), axis=-1) for t in frames], axis=0)
    cells, gradients = (
        array[:height, :width].reshape(12, height // 12, 16, width // 16).swapaxes(1, 2).reshape(192, -1)
        for array in (flow, _gradient(gray[0]))
    )
    textured = gradients >= np.maximum(np.quantile(gradients, 0.8, axis=1, keepdims=True), MIN_GRADIENT)
    shifts = [float(np.median(cell[marks])) for cell, marks in zip(cells, textured, strict=True) if marks.sum() >= 5]
    if not shifts:
        return 0.0, 0.0
    return float(np.quantile(shifts, 0.2)), float(np.quantile(shifts, 0.9))


def dynamic_mask(
    gray: np.ndarray, depth: np.ndarray, confidence: np.ndarray, intrinsics: np.ndarray, camera_to_world: np.ndarray
) -> np.ndarray:
    """Mask [T, H, W] bool of textured pixels whose optical flow to the next frame contradicts a static scene.

    Pixels whose depth other views confirm are static.
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
        mask[frame] = (residual > 2 + 0.2 * np.linalg.norm(rigid, axis=-1)) & (_gradient(gray[frame]) > MIN_GRADIENT)
    return mask & (confidence < 0.2)


def _dense_depth(clip: Clip, structure: Structure) -> tuple[np.ndarray, np.ndarray]:
    """Depth and confidence [T, H, W] at the clip's size, computed with at most `WORKING_PIXELS`."""
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
    """Nearest and farthest depth [T, 2] of the points that are visible in each frame, with a margin."""
    result = np.empty((len(structure.camera_to_world), 2))
    for frame, row in enumerate(result):
        depths = structure.depths(frame)
        depths = depths[depths > 0]
        if len(depths) < 10:
            raise AnnotationError(f"frame {frame}: expected at least 10 visible points, got {len(depths)}")
        near, far = np.percentile(depths, (1, 98))
        row[:] = 0.8 * near, 1.5 * far
    return result


def _gradient(gray: np.ndarray) -> np.ndarray:
    """Gradient magnitude [H, W] in levels per pixel (Sobel)."""
    import cv2

    return np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)) / 4
