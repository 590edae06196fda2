"""Annotation of real videos: cameras by COLMAP, dense depth by plane-sweep stereo, masks of moving objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fourdnex.annotation.base import AnnotationError, VideoClips, limit_pixels
from fourdnex.annotation.structure_from_motion import Reconstruction, Structure
from fourdnex.annotation.undistortion import undistort
from fourdnex.annotation.video_reconstruction import reconstruct_video
from fourdnex.clip import Clip
from fourdnex.geometry.cameras import relative_to_first
from fourdnex.optical_flow import luminance, optical_flow

MIN_FRAMES = 5
MAX_PIXELS = 240 * 360
"""Max height times width of an annotated clip, unless the caller sets another limit."""
MIN_SHIFT = 0.5
"""Min shift in pixels of the slowest fifth of the image between the first and the other frames; below, or below
`MIN_SHIFT_RATIO` of the shift of the fastest tenth, the camera counts as static."""
MIN_SHIFT_RATIO = 0.08
MIN_GRADIENT = 10.0
"""Min luminance gradient, in levels per pixel, of pixels whose optical flow is reliable."""


@dataclass(frozen=True)
class DepthAndMask:
    """Depth of the frames of a clip, and its moving pixels."""

    depth: np.ndarray  # [T, H, W] float32, z in the camera's frame; NaN where unknown
    confidence: np.ndarray  # [T, H, W] float32 in [0, 1]; 0 where unknown
    dynamic_mask: np.ndarray  # [T, H, W] bool


class SfmAnnotator:
    """Annotates videos of mostly static scenes by a moving camera.

    Focal length and radial distortion are estimated once per video, on the frames of all its clips at up to
    `structure_from_motion.MAX_SIDE` pixels. Annotated clips are undistorted and have at most `MAX_PIXELS` pixels.
    Depth is in units of the median depth of the points in the first frame, and NaN where it is unknown.
    """

    needs: ClassVar[tuple[str, ...]] = ("pycolmap",)
    name: ClassVar[str] = "sfm"
    version: str = "2"
    license: ClassVar[str] = "BSD-3-Clause (COLMAP), Apache-2.0 (OpenCV)"

    def annotate_video(
        self, clips: VideoClips, names: Sequence[str], *, max_pixels: int | None = None
    ) -> Iterator[tuple[str, Clip | ValueError]]:
        """See `Annotator.annotate_video`; `max_pixels` is `MAX_PIXELS` by default.

        A clip fails if it has too few frames, if its camera is static or only rotates, if COLMAP cannot register all
        its frames, or if the video does not determine the focal length.
        """
        for name, found, frames in reconstruct_video(clips, names, refuse=refusal):
            if isinstance(found, AnnotationError):
                yield name, found
                continue
            try:
                yield name, self._annotate(clips.read(name), found, frames, max_pixels or MAX_PIXELS)
            except ValueError as error:
                yield name, error

    def _annotate(self, clip: Clip, found: Reconstruction, frames: range, max_pixels: int) -> Clip:
        """The annotated clip; its frames have the given numbers in the reconstruction."""
        pinhole = found.camera.pinhole().astype(np.float32)
        clip = limit_pixels(replace(clip, rgb=undistort(clip.rgb, found.camera), intrinsics=pinhole), max_pixels)
        assert clip.intrinsics is not None
        structure = found.clip(frames, clip.intrinsics.astype(np.float64))
        found_depth = self.estimate(clip.rgb, structure)
        return replace(
            clip,
            annotator=self.name,
            depth=found_depth.depth,
            camera_to_world=relative_to_first(structure.camera_to_world).astype(np.float32),
            confidence=found_depth.confidence,
            dynamic_mask=found_depth.dynamic_mask,
        )

    def estimate(self, rgb: np.ndarray, structure: Structure) -> DepthAndMask:
        """Depth, confidence and dynamic mask of frames [T, H, W, 3] uint8 with known cameras.

        Raises:
            AnnotationError: there is too little structure; the message is the reason.
        """
        from fourdnex.annotation import dense_depth
        from fourdnex.annotation.dynamic_mask import dynamic_mask

        dense = dense_depth.estimate(rgb, structure)
        mask = dynamic_mask(rgb, structure, dense)
        return DepthAndMask(dense.depth, np.where(mask, 0, dense.confidence).astype(np.float32), mask)


def refusal(clip: Clip) -> str | None:
    """The reason why a clip cannot be reconstructed, as far as its frames alone tell; None without one."""
    if clip.num_frames < MIN_FRAMES:
        return f"expected at least {MIN_FRAMES} frames, got {clip.num_frames}"
    slow, fast = camera_shift(luminance(limit_pixels(clip, MAX_PIXELS).rgb))
    if slow < max(MIN_SHIFT, MIN_SHIFT_RATIO * fast):
        return f"the camera does not move (a fifth of the image shifts by {slow:.2f} pixels or less): no parallax"
    return None


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


def _gradient(gray: np.ndarray) -> np.ndarray:
    """Gradient magnitude [H, W] in levels per pixel (Sobel)."""
    import cv2

    return np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)) / 4
