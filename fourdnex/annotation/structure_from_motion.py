"""Cameras and sparse points of a video by COLMAP's incremental structure from motion.

COLMAP runs in a separate process (`fourdnex.annotation.colmap_process`): its wheel contains a zlib that breaks the PNG
encoder of Pillow in the same process, and a crash of its solver must not end the caller.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fourdnex.annotation.base import AnnotationError
from fourdnex.extras import require
from fourdnex.geometry.cameras import relative_to_first

MIN_MATCHES = 40
"""Min median number of verified matches between consecutive frames that COLMAP can start from."""
MAX_REPROJECTION_ERROR = 1.5
"""Max mean reprojection error over all observations, in pixels; good reconstructions have less than 1."""
FOCAL_RANGE = (0.35, 3.0)
"""Plausible focal lengths in image widths, for horizontal fields of view from 110 to 19 degrees. A longer focal length
usually means that the perspective is too weak to be estimated, and near and far may be swapped."""
MIN_PARALLAX = 1.75
"""Min median angle between the rays of a point, in degrees; below, focal length and depth are dominated by noise."""


@dataclass(frozen=True)
class Structure:
    """A reconstruction of all frames. World frame: the first camera; unit: the median depth of the points."""

    intrinsics: np.ndarray  # [3, 3] float64, pixels, pixel centers at integers
    camera_to_world: np.ndarray  # [T, 4, 4] float64
    points: np.ndarray  # [N, 3] float64, world
    observed: np.ndarray  # [T, N] bool, whether a point is observed in a frame
    reprojection_error: float
    """Mean, in pixels."""

    def depths(self, frame: int) -> np.ndarray:
        """Depths (z in the camera's frame) of the points observed in a frame."""
        pose = self.camera_to_world[frame]
        return (self.points[self.observed[frame]] - pose[:3, 3]) @ pose[:3, 2]


def reconstruct(rgb: np.ndarray, *, seed: int = 0, timeout: float = 1800.0) -> Structure:
    """Reconstruct cameras and points from frames [T, H, W, 3] uint8.

    Args:
        rgb: the frames.
        seed: random seed of COLMAP.
        timeout: max duration in seconds.

    Raises:
        AnnotationError: there is no plausible reconstruction of all frames; the message is the reason.
        MissingExtraError: pycolmap is not installed.
    """
    result = _run_colmap(rgb, seed=seed, timeout=timeout)
    num_frames, width = len(rgb), rgb.shape[2]
    if "frames" not in result:
        matches = float(np.median(result["neighbor_matches"])) if len(result["neighbor_matches"]) else 0.0
        if matches < MIN_MATCHES:
            raise AnnotationError(
                f"too few matches between frames: expected a median of {MIN_MATCHES}, got {matches:.0f}"
            )
        raise AnnotationError("no two frames with enough parallax: the camera only rotates, or the whole scene moves")
    frames = result["frames"]
    if len(frames) < num_frames:
        raise AnnotationError(f"only {len(frames)} of {num_frames} frames registered")
    error = float(result["reprojection_error"])
    if error > MAX_REPROJECTION_ERROR:
        raise AnnotationError(
            f"mean reprojection error: expected at most {MAX_REPROJECTION_ERROR} pixels, got {error:.2f}"
        )
    focal, center_x, center_y = result["camera"]
    if not FOCAL_RANGE[0] <= focal / width <= FOCAL_RANGE[1]:
        raise AnnotationError(
            f"focal length: expected {FOCAL_RANGE[0]} to {FOCAL_RANGE[1]} image widths, got {focal / width:.2f}"
        )
    poses, points = result["camera_to_world"], result["points"]
    observed = np.zeros((num_frames, len(points)), bool)
    observed[result["observations"][:, 0], result["observations"][:, 1]] = True
    parallax = _parallax(poses, points, observed)
    if parallax < MIN_PARALLAX:
        raise AnnotationError(f"median parallax: expected at least {MIN_PARALLAX} degrees, got {parallax:.2f}")
    first = np.linalg.inv(poses[0])
    points = points @ first[:3, :3].T + first[:3, 3]
    poses = relative_to_first(poses)
    unit = float(np.median(points[observed[0], 2]))
    poses[:, :3, 3] /= unit
    # In COLMAP, the center of the first pixel is at (0.5, 0.5).
    intrinsics = np.array([[focal, 0, center_x - 0.5], [0, focal, center_y - 0.5], [0, 0, 1]])
    return Structure(intrinsics, poses, points / unit, observed, error)


def _parallax(poses: np.ndarray, points: np.ndarray, observed: np.ndarray) -> float:
    """Median over the points of the largest angle, in degrees, between the first observing ray and the others."""
    rays = points[None] - poses[:, None, :3, 3]  # [T, N, 3]
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    first = rays[observed.argmax(axis=0), np.arange(len(points))]
    cosines = np.where(observed, np.einsum("tnc,nc->tn", rays, first), 1.0)
    return float(np.rad2deg(np.median(np.arccos(np.clip(cosines.min(axis=0), -1, 1)))))


def _run_colmap(rgb: np.ndarray, *, seed: int, timeout: float) -> dict[str, np.ndarray]:
    """Run `colmap_process` on the frames, and read its result."""
    from PIL import Image

    require("pycolmap", feature="structure from motion")
    with tempfile.TemporaryDirectory(prefix="fourdnex-sfm-") as folder:
        images, result = Path(folder) / "images", Path(folder) / "result.npz"
        images.mkdir()
        for number, frame in enumerate(rgb):
            Image.fromarray(frame).save(images / f"{number:05d}.png", compress_level=1)
        command = [sys.executable, "-m", "fourdnex.annotation.colmap_process", folder, "--seed", str(seed)]
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
