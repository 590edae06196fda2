"""Cameras with radial distortion, and the images that a pinhole camera would have taken in their place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class RadialCamera:
    """A camera with one focal length and radial distortion (COLMAP's SIMPLE_RADIAL).

    A point at (x, y) in units of the focal length is seen at (x, y) * (1 + k1 * (x^2 + y^2)).
    """

    focal: float
    """Pixels."""
    center_x: float
    """Pixels; pixel centers are at integers."""
    center_y: float
    k1: float
    height: int
    """Of the images, in pixels."""
    width: int

    def resized(self, height: int, width: int) -> RadialCamera:
        """The camera of images of another size and about the same aspect ratio."""
        x, y = width / self.width, height / self.height
        return replace(
            self,
            focal=self.focal * (x * y) ** 0.5,
            center_x=(self.center_x + 0.5) * x - 0.5,
            center_y=(self.center_y + 0.5) * y - 0.5,
            height=height,
            width=width,
        )

    def pinhole(self) -> np.ndarray:
        """Intrinsics [3, 3] float64 of the undistorted images: every pixel of them is in the distorted image."""
        x = max(self.center_x, self.width - 1 - self.center_x) / self.focal
        y = max(self.center_y, self.height - 1 - self.center_y) / self.focal
        # A longer focal length shows less; the distorted corner must stay inside.
        focal = self.focal * max(1.0, 1 + self.k1 * (x * x + y * y))
        return np.array([[focal, 0, self.center_x], [0, focal, self.center_y], [0, 0, 1]])


def undistort(rgb: np.ndarray, camera: RadialCamera) -> np.ndarray:
    """The images [T, H, W, 3] uint8 as seen by the pinhole camera of `camera.pinhole()`."""
    import cv2

    intrinsics = camera.pinhole()
    x, y = np.meshgrid(
        (np.arange(camera.width) - intrinsics[0, 2]) / intrinsics[0, 0],
        (np.arange(camera.height) - intrinsics[1, 2]) / intrinsics[1, 1],
    )
    scale = 1 + camera.k1 * (x * x + y * y)
    map_x = (camera.focal * x * scale + camera.center_x).astype(np.float32)
    map_y = (camera.focal * y * scale + camera.center_y).astype(np.float32)
    return np.stack(
        [np.asarray(cv2.remap(frame, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)) for frame in rgb]
    )
