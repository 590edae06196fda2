"""Structure-from-motion tracks: static points, each with its observations in all frames that see it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from fourdnex.export.selection import PointCloud, Selection
from fourdnex.geometry.cameras import project
from fourdnex.motion.segmentation import SAME_COLOR, depth_tolerance, min_depth_3x3, pixel_indices


@dataclass(frozen=True, eq=False)
class ColmapTracks:
    """N points and their M observations, ordered by point, then by frame."""

    xyz: np.ndarray  # [N, 3] float32, exported world
    rgb: np.ndarray  # [N, 3] uint8
    lengths: np.ndarray  # [N] int64, observations per point
    frames: np.ndarray  # [M] int64, frame of the observation
    xy: np.ndarray  # [M, 2] float32, pixel of the observation, pixel centers at integers


def find_tracks(selection: Selection, *, keep_moving: bool = False) -> ColmapTracks:
    """Find the points of a selection, each surface once, and their observations.

    A frame observes a point if depth and color agree at the point's projection. The depth tolerance is estimated from
    the scene (`depth_tolerance`). Frames contribute points in order: the first frame all of its points, every later
    frame those in grid cells without an observation of an earlier point.

    A point moves if at least two frames (one in a scene of two) see through its position, and at most twice as many
    observe it there. Moving points, and points without a second observation, are omitted.

    Args:
        keep_moving: keep them, each with the observation of its own frame only.
    """
    num_frames = selection.scene.num_frames
    frames = [_Frame(selection, t) for t in range(num_frames)]
    tolerance = depth_tolerance(selection.scene)
    min_violations = max(1, min(2, num_frames - 1))
    clouds, observed, xy = [], [], []  # per frame: points, [N, T] bool, [observations, 2]
    with ThreadPoolExecutor() as pool:
        for t, frame in enumerate(frames):
            cloud = frame.uncovered(selection.points(t))
            results = list(pool.map(lambda other, cloud=cloud: other.observe(cloud, tolerance), frames))
            pixels, is_observed, is_violated = (np.stack(parts, axis=1) for parts in zip(*results, strict=True))
            violations = is_violated.sum(axis=1)
            moves = (violations >= min_violations) & (2 * violations >= is_observed.sum(axis=1))
            is_observed[moves] = False
            is_observed[:, t] = True
            is_kept = (is_observed.sum(axis=1) > 1) | keep_moving
            pixels, is_observed = pixels[is_kept], is_observed[is_kept]
            for k, other in enumerate(frames):
                other.mark_covered(pixels[is_observed[:, k], k])
            clouds.append((cloud.xyz[is_kept], cloud.rgb[is_kept]))
            observed.append(is_observed)
            xy.append(pixels[is_observed])
    point, frame_number = np.nonzero(np.concatenate(observed))
    xyz, rgb = (np.concatenate(parts) for parts in zip(*clouds, strict=True))
    return ColmapTracks(xyz, rgb, np.bincount(point, minlength=len(xyz)), frame_number, np.concatenate(xy))


class _Frame:
    """Observations in one frame, and which cells of its grid are covered by a point already."""

    def __init__(self, selection: Selection, t: int) -> None:
        self._scene, self._t, self._stride = selection.scene, t, selection.stride
        self._pose = selection.camera_to_world[t]
        self._depth = selection.depth(t)
        self._nearest = min_depth_3x3(self._depth)
        self._is_covered = np.zeros([-(-size // self._stride) for size in self._depth.shape], bool)

    def uncovered(self, cloud: PointCloud) -> PointCloud:
        """The points of this frame's own cloud in cells that are not covered yet."""
        y, x = np.divmod(cloud.pixels, self._scene.width)
        new = ~self._is_covered[y // self._stride, x // self._stride]
        return PointCloud(cloud.xyz[new], cloud.rgb[new], cloud.pixels[new], None)

    def observe(self, cloud: PointCloud, tolerance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Projections [N, 2] of a cloud, which points are observed [N], and which violate free space [N]."""
        pixels, z = project(cloud.xyz[None], self._scene.intrinsics, self._pose[None])
        is_observed, is_violated = np.zeros((2, len(cloud.xyz)), bool)
        inside, rows, columns = pixel_indices(pixels[0], z[0], *self._depth.shape)
        z = z[0][inside]
        difference = np.abs(cloud.rgb[inside].astype(np.int16) - self._scene.rgb[self._t][rows, columns]).mean(axis=-1)
        with np.errstate(invalid="ignore"):
            is_same_depth = np.abs(self._depth[rows, columns] - z) < tolerance * z
            is_violated[inside] = z < self._nearest[rows, columns] * (1 - tolerance)
        is_observed[inside] = is_same_depth & (difference < SAME_COLOR)
        return pixels[0], is_observed, is_violated

    def mark_covered(self, pixels: np.ndarray) -> None:
        """Mark the cells of observations at pixels [N, 2] as covered."""
        x, y = np.round(pixels).astype(int).T
        self._is_covered[y // self._stride, x // self._stride] = True
