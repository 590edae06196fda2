"""Depth and cameras of the frames of a video, as a reader of imported geometry finds them in files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fourdnex.datasets.clip_geometry import nearest_rigid

PerFrame = Callable[[int], np.ndarray]
"""Reads an array of one frame, by its index in the files."""


@dataclass(frozen=True, kw_only=True)
class ImportedVideo:
    """Geometry of the frames of a video; arrays of pixels are read one frame at a time.

    Raises:
        ValueError: a field has a wrong shape or range; the message names it.
    """

    format: str
    frames: np.ndarray  # [N] int, numbers of the frames in the video, ascending, the first frame of the video is 0
    camera_to_world: np.ndarray  # [N, 4, 4], OpenCV axes, any world frame and unit
    intrinsics: np.ndarray  # [N, 3, 3], pixels at `size`, pixel centers at integers
    size: tuple[int, int]
    """Height and width of `depth`, or of the images that `intrinsics` belong to."""
    depth: PerFrame | None = None  # [H, W], z in the camera's frame, invalid where not finite or not positive
    confidence: PerFrame | None = None  # [H, W] in [0, 1]
    dynamic_mask: PerFrame | None = None  # [H, W] bool
    image: PerFrame | None = None  # [H, W, 3] uint8, the frame that the depth belongs to
    fit: Literal["stretch", "crop"] = "stretch"
    """How frames of another aspect ratio were brought to `size`, where there is no `image`: scaled in both directions,
    or center-cropped."""

    def __post_init__(self) -> None:
        count = len(self.frames)
        if self.frames.ndim != 1 or count == 0 or not (np.diff(self.frames) > 0).all():
            raise ValueError(f"frames: expected ascending numbers, got {self.frames.tolist()[:10]}")
        if self.intrinsics.shape != (count, 3, 3) or not np.isfinite(self.intrinsics).all():
            raise ValueError(f"intrinsics: expected [{count}, 3, 3], all finite, got {self.intrinsics.shape}")
        if not (self.intrinsics[:, [0, 1], [0, 1]] > 0).all():
            raise ValueError("intrinsics: expected positive focal lengths")
        nearest_rigid(self.camera_to_world, count)


def pinhole_matrices(fx_fy_cx_cy: np.ndarray) -> np.ndarray:
    """Intrinsics [N, 3, 3] float64 from [N, 4]."""
    fx, fy, cx, cy = fx_fy_cx_cy.astype(np.float64).T
    matrices = np.zeros((len(fx), 3, 3))
    matrices[:, 0, 0], matrices[:, 1, 1], matrices[:, 2, 2] = fx, fy, 1
    matrices[:, 0, 2], matrices[:, 1, 2] = cx, cy
    return matrices


def frames_of_one_size(read: PerFrame, size: tuple[int, int], name: str) -> PerFrame:
    """`read`, with a check that every array is [H, W] of the given size; the error begins with `name`."""

    def checked(index: int) -> np.ndarray:
        """The array of one frame."""
        array = read(index)
        if array.shape != size:
            raise ValueError(f"{name}: frame {index}: expected {list(size)}, got {list(array.shape)}")
        return array

    return checked
