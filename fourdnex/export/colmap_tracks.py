"""Tracks: points that stand still, each with all frames that see it, as formats of structure from motion hold them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from fourdnex.export.selection import PointCloud, Selection
from fourdnex.geometry.cameras import project
from fourdnex.motion.segmentation import SAME_COLOR, depth_tolerance, min_depth_3x3, pixel_indices


@dataclass(frozen=True, eq=False)
class ColmapTracks:
    """N points and their M observations, which stand in the order of their points, then of their frames."""

    xyz: np.ndarray  # [N, 3] float32, exported world
    rgb: np.ndarray  # [N, 3] uint8
    lengths: np.ndarray  # [N] int64, observations of each point
    frames: np.ndarray  # [M] int64
    xy: np.ndarray  # [M, 2] float32, pixels whose centers are integers


def find_tracks(selection: Selection, *, keep_moving: bool = False) -> ColmapTracks:
    """The points of a selection, each surface once, and where in the frames they are seen.

    A frame sees a point where it has the same depth and color at the point's projection, and that is where the
    observation lies. The tolerance of depth follows from the scene (`depth_tolerance`). Frames give points in their
    order: the first all of its own, each other one where its grid sees none of an earlier frame yet.

    A point moves when at least two frames (one, in a scene of two) see through the place where it was, and no more than
    twice as many see it there. Moving points, and others that no second frame sees, are left out.

    Args:
        keep_moving: keep those, each seen by its own frame alone.
    """
    num_frames = selection.scene.num_frames
    frames = [_Frame(selection, t) for t in range(num_frames)]
    tolerance = depth_tolerance(selection.scene)
    enough = max(1, min(2, num_frames - 1))
    clouds, seen, xy = [], [], []  # of each frame: points, [N, T] bool, [their observations, 2]
    with ThreadPoolExecutor() as pool:
        for t, frame in enumerate(frames):
            cloud = frame.unseen(selection.points(t))
            looks = list(pool.map(lambda other, cloud=cloud: other.look(cloud, tolerance), frames))
            places, sees, through = (np.stack(parts, axis=1) for parts in zip(*looks, strict=True))
            contradicted = through.sum(axis=1)
            moves = (contradicted >= enough) & (2 * contradicted >= sees.sum(axis=1))
            sees[moves] = False
            sees[:, t] = True
            is_kept = (sees.sum(axis=1) > 1) | keep_moving
            places, sees = places[is_kept], sees[is_kept]
            for k, other in enumerate(frames):
                other.mark(places[sees[:, k], k])
            clouds.append((cloud.xyz[is_kept], cloud.rgb[is_kept]))
            seen.append(sees)
            xy.append(places[sees])
    point, frame_number = np.nonzero(np.concatenate(seen))
    xyz, rgb = (np.concatenate(parts) for parts in zip(*clouds, strict=True))
    return ColmapTracks(xyz, rgb, np.bincount(point, minlength=len(xyz)), frame_number, np.concatenate(xy))


class _Frame:
    """One frame as a witness of points, and which cells of its grid see one already."""

    def __init__(self, selection: Selection, t: int) -> None:
        self._scene, self._t, self._stride = selection.scene, t, selection.stride
        self._pose = selection.camera_to_world[t]
        self._depth = selection.depth(t)
        self._nearest = min_depth_3x3(self._depth)
        self._sees = np.zeros([-(-size // self._stride) for size in self._depth.shape], bool)

    def unseen(self, cloud: PointCloud) -> PointCloud:
        """The points of this frame's own cloud in cells that see none yet."""
        y, x = np.divmod(cloud.pixels, self._scene.width)
        new = ~self._sees[y // self._stride, x // self._stride]
        return PointCloud(cloud.xyz[new], cloud.rgb[new], cloud.pixels[new], None)

    def look(self, cloud: PointCloud, tolerance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where a cloud's points are projected to [N, 2], which are seen there [N], and which are seen through [N]."""
        places, z = project(cloud.xyz[None], self._scene.intrinsics, self._pose[None])
        sees, through = np.zeros((2, len(cloud.xyz)), bool)
        inside, rows, columns = pixel_indices(places[0], z[0], *self._depth.shape)
        z = z[0][inside]
        difference = np.abs(cloud.rgb[inside].astype(np.int16) - self._scene.rgb[self._t][rows, columns]).mean(axis=-1)
        with np.errstate(invalid="ignore"):
            is_same_depth = np.abs(self._depth[rows, columns] - z) < tolerance * z
            through[inside] = z < self._nearest[rows, columns] * (1 - tolerance)
        sees[inside] = is_same_depth & (difference < SAME_COLOR)
        return places[0], sees, through

    def mark(self, places: np.ndarray) -> None:
        """Note that points are seen at pixels [N, 2]."""
        x, y = np.round(places).astype(int).T
        self._sees[y // self._stride, x // self._stride] = True
