"""Cameras and sparse points of video frames by COLMAP's global and incremental structure from motion.

COLMAP runs in a separate process (`fourdnex.annotation.colmap_process`): its wheel contains a zlib that breaks the PNG
encoder of Pillow in the same process, and a crash of its solver must not end the caller.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fourdnex.annotation.base import AnnotationError
from fourdnex.annotation.undistortion import RadialCamera
from fourdnex.extras import require
from fourdnex.geometry.cameras import relative_to_first
from fourdnex.io.files import write_json

MIN_MATCHES = 40
"""Min median number of verified matches between consecutive frames that COLMAP can start from."""
MAX_REPROJECTION_ERROR = 1.5
"""Max mean reprojection error over all observations, in pixels; good reconstructions have less than 1."""
FOCAL_RANGE = (0.35, 3.0)
"""Plausible focal lengths in image widths, for horizontal fields of view from 110 to 19 degrees. A longer focal length
usually means that the perspective is too weak to be estimated, and near and far may be swapped."""
MIN_PARALLAX = 0.75
"""Min median angle between the rays of a point in the frames of a clip, in degrees; below, depth is dominated by
noise."""
MIN_FOCAL_RISE = 0.005
"""Min relative rise of the mean squared reprojection error where the focal length is changed by 25 %. Below, the
observations do not determine the focal length, and the scene may be flattened or stretched without a trace."""
MAX_FOCAL_DEVIATION = 0.05
"""Max relative standard deviation of the focal length, from that rise and the number of observations. On rendered
videos (`benchmarks.structure_from_motion`), it is one to three times the true error."""
MIN_OBSERVATIONS = 500
"""Min number of observations of a reconstruction that determines the focal length."""
MAX_SIDE = 960
"""Longer side in pixels to which larger frames are scaled down for feature detection."""


@dataclass(frozen=True)
class Structure:
    """A reconstruction of all frames of a clip. World frame: the first camera; unit: the median depth of the points."""

    intrinsics: np.ndarray  # [3, 3] float64, pixels, pixel centers at integers, without distortion
    camera_to_world: np.ndarray  # [T, 4, 4] float64
    points: np.ndarray  # [N, 3] float64, world
    observed: np.ndarray  # [T, N] bool, whether a point is observed in a frame
    reprojection_error: float
    """Mean, in pixels."""

    def depths(self, frame: int) -> np.ndarray:
        """Depths (z in the camera's frame) of the points observed in a frame."""
        pose = self.camera_to_world[frame]
        return (self.points[self.observed[frame]] - pose[:3, 3]) @ pose[:3, 2]


@dataclass(frozen=True)
class Reconstruction:
    """Frames that were reconstructed together, in an arbitrary world frame and unit."""

    camera: RadialCamera
    frames: np.ndarray  # [R] int, the registered frames, ascending
    camera_to_world: np.ndarray  # [R, 4, 4] float64
    points: np.ndarray  # [N, 3] float64
    observed: np.ndarray  # [R, N] bool
    reprojection_error: float
    focal_rise: float
    """Smaller relative rise of the mean squared reprojection error at a focal length 25 % longer or shorter."""

    @property
    def focal_deviation(self) -> float:
        """Relative standard deviation of the focal length, if the squared error is quadratic in it."""
        information = max(self.focal_rise, 0.0) * float(self.observed.sum())
        return 0.25 / information**0.5 if information > 0 else float("inf")

    def focal_doubt(self) -> str | None:
        """The reason why the frames do not determine the focal length; None if they do."""
        observations = int(self.observed.sum())
        if observations < MIN_OBSERVATIONS:
            return f"expected at least {MIN_OBSERVATIONS} observations of points, got {observations}"
        if self.focal_rise < MIN_FOCAL_RISE:
            return (
                f"a change of 25 % raises the squared reprojection error by {max(self.focal_rise, 0):.1%}, "
                f"expected at least {MIN_FOCAL_RISE:.1%}"
            )
        if self.focal_deviation > MAX_FOCAL_DEVIATION:
            return f"expected a standard deviation of at most {MAX_FOCAL_DEVIATION:.0%}, got {self.focal_deviation:.0%}"
        return None

    def clip(self, frames: range, intrinsics: np.ndarray) -> Structure:
        """The part of consecutive frames, with the given intrinsics of their undistorted images.

        Raises:
            AnnotationError: some frames are not registered, or their parallax is too small.
        """
        rows = np.searchsorted(self.frames, frames)
        found = (rows < len(self.frames)) & (self.frames[np.minimum(rows, len(self.frames) - 1)] == np.array(frames))
        if not found.all():
            raise AnnotationError(f"only {found.sum()} of {len(frames)} frames registered")
        observed = self.observed[rows]
        used = observed.sum(axis=0) >= 2
        poses, points, observed = self.camera_to_world[rows], self.points[used], observed[:, used]
        angle = parallax(poses, points, observed)
        if angle < MIN_PARALLAX:
            raise AnnotationError(f"median parallax: expected at least {MIN_PARALLAX} degrees, got {angle:.2f}")
        first = np.linalg.inv(poses[0])
        points = points @ first[:3, :3].T + first[:3, 3]
        poses = relative_to_first(poses)
        seen = points[observed[0], 2]
        unit = float(np.median(seen)) if len(seen) else 0.0
        if not unit > 0:
            raise AnnotationError("the first frame has no visible points")
        poses[:, :3, 3] /= unit
        return Structure(intrinsics, poses, points / unit, observed, self.reprojection_error)


class FrameFolder:
    """Frames on disk for one reconstruction, in a temporary folder that is removed on exit."""

    def __enter__(self) -> FrameFolder:
        self._folder = tempfile.TemporaryDirectory(prefix="fourdnex-sfm-")
        self.path = Path(self._folder.name)
        (self.path / "images").mkdir()
        self.size: tuple[int, int] | None = None
        """Height and width of the frames as they were added."""
        return self

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()

    def add(self, first: int, rgb: Iterable[np.ndarray]) -> None:
        """Write frames [H, W, 3] uint8 under the numbers first, first + 1, ...

        Raises:
            AnnotationError: frames of different sizes.
        """
        import cv2
        from PIL import Image

        for number, frame in enumerate(rgb, start=first):
            size = (int(frame.shape[0]), int(frame.shape[1]))
            if self.size is None:
                self.size = size
            if size != self.size:
                raise AnnotationError(f"expected frames of one size, got {self.size} and {size}")
            height, width = working_size(size)
            if (height, width) != size:
                frame = np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA))
            Image.fromarray(frame).save(self.path / "images" / f"{number:05d}.png", compress_level=1)


def working_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of frames of a size for feature detection."""
    scale = min(1.0, MAX_SIDE / max(size))
    return round(size[0] * scale), round(size[1] * scale)


def reconstruct(
    folder: FrameFolder, *, camera: RadialCamera | None = None, seed: int = 0, timeout: float = 3600.0
) -> Reconstruction:
    """Reconstruct cameras and points from the frames of a folder.

    Args:
        folder: the frames.
        camera: a known camera; None estimates focal length and distortion.
        seed: random seed of COLMAP.
        timeout: max duration in seconds.

    Raises:
        AnnotationError: there is no plausible reconstruction; the message is the reason.
        MissingExtraError: pycolmap is not installed.
    """
    assert folder.size is not None
    height, width = working_size(folder.size)
    known = None if camera is None else camera.resized(height, width)
    # In COLMAP, the center of the first pixel is at (0.5, 0.5).
    params = None if known is None else [known.focal, known.center_x + 0.5, known.center_y + 0.5, known.k1]
    result = _run_colmap(folder.path, {"seed": seed, "camera": params}, timeout=timeout)
    if "frames" not in result:
        matches = float(np.median(result["neighbor_matches"])) if len(result["neighbor_matches"]) else 0.0
        if matches < MIN_MATCHES:
            raise AnnotationError(
                f"too few matches between frames: expected a median of {MIN_MATCHES}, got {matches:.0f}"
            )
        raise AnnotationError("no frames with enough parallax: the camera only rotates, or the whole scene moves")
    error = float(result["reprojection_error"])
    if error > MAX_REPROJECTION_ERROR:
        raise AnnotationError(
            f"mean reprojection error: expected at most {MAX_REPROJECTION_ERROR} pixels, got {error:.2f}"
        )
    focal, center_x, center_y, k1 = map(float, result["camera"])
    if not FOCAL_RANGE[0] <= focal / width <= FOCAL_RANGE[1]:
        raise AnnotationError(
            f"focal length: expected {FOCAL_RANGE[0]} to {FOCAL_RANGE[1]} image widths, got {focal / width:.2f}"
        )
    found = RadialCamera(focal, center_x - 0.5, center_y - 0.5, k1, height, width).resized(*folder.size)
    points = result["points"]
    observed = np.zeros((len(result["frames"]), len(points)), bool)
    observed[result["observations"][:, 0], result["observations"][:, 1]] = True
    return Reconstruction(
        camera=replace(found, height=folder.size[0], width=folder.size[1]),
        frames=result["frames"],
        camera_to_world=result["camera_to_world"],
        points=points,
        observed=observed,
        reprojection_error=error,
        focal_rise=float(result["focal_rise"].min()),
    )


def parallax(poses: np.ndarray, points: np.ndarray, observed: np.ndarray) -> float:
    """Median over the points of the largest angle, in degrees, between the first observing ray and the others.

    Args:
        poses: [T, 4, 4] camera_to_world.
        points: [N, 3] world.
        observed: [T, N] bool.
    """
    if not len(points):
        return 0.0
    rays = points[None] - poses[:, None, :3, 3]  # [T, N, 3]
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    first = rays[observed.argmax(axis=0), np.arange(len(points))]
    cosines = np.where(observed, np.einsum("tnc,nc->tn", rays, first), 1.0)
    return float(np.rad2deg(np.median(np.arccos(np.clip(cosines.min(axis=0), -1, 1)))))


def _run_colmap(folder: Path, request: dict[str, object], *, timeout: float) -> dict[str, np.ndarray]:
    """Run `colmap_process` on the frames, and read its result."""
    require("pycolmap", feature="structure from motion")
    result = folder / "result.npz"
    write_json(folder / "request.json", request)
    command = [sys.executable, "-m", "fourdnex.annotation.colmap_process", str(folder)]
    # One thread: with more, the order of sums, and with it the result, is not deterministic.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        run = subprocess.run(command, env=environment, timeout=timeout, capture_output=True, text=True)
    except subprocess.TimeoutExpired as error:
        raise AnnotationError(f"COLMAP timed out after {timeout:.0f} s") from error
    if run.returncode != 0 or not result.is_file():
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise AnnotationError(f"COLMAP failed with exit code {run.returncode}: {last}")
    with np.load(result, allow_pickle=False) as arrays:
        return dict(arrays)
