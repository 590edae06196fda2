"""Tracked points for export: the same points in the same order in every frame."""

from dataclasses import dataclass

import numpy as np

from fourdnex.export.selection import Selection
from fourdnex.motion import sparse_tracks, track_scene
from fourdnex.tracks import Tracks

TRAIL_FRAMES = 8
MAX_TRAILS = 2_000


@dataclass(frozen=True, eq=False)
class TrackedPoints:
    """N points over T frames, in the exported world."""

    tracks: Tracks
    """The selected tracks, in the scene's world."""
    xyz: np.ndarray  # [N, T, 3] float32; before its first frame, a point has the position of its first frame
    shown: np.ndarray  # [N, T] bool; False for moving points before their first frame
    diameters: np.ndarray  # [N] float32, see Selection.diameters, at the depth in the first frame

    def velocities(self, t: int, fps: float) -> np.ndarray:
        """Velocities [N, 3] float32 towards the next frame, exported units per second; the last frame repeats them."""
        last = self.xyz.shape[1] - 1
        start = min(t, max(last - 1, 0))
        return np.asarray((self.xyz[:, min(start + 1, last)] - self.xyz[:, start]) * np.float32(fps))

    def trails(self, t: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Paths [F, 3] of at most `MAX_TRAILS` moving points over the last `TRAIL_FRAMES` frames, and colors [M, 3]."""
        first = self.tracks.first_frame
        moving = np.flatnonzero(self.tracks.moves & (first < t))
        moving = moving[:: -(-len(moving) // MAX_TRAILS) or 1]
        paths = [self.xyz[n, max(first[n], t - TRAIL_FRAMES) : t + 1] for n in moving]
        return paths, self.tracks.rgb[moving]


def tracked_points(selection: Selection) -> TrackedPoints:
    """The tracks of a selection: those of the scene, or computed if it has none or `options.stride` is set.

    Tracks are kept if their pixel in their first frame passes the filters.

    Raises:
        ValueError: no track passes.
    """
    scene, stride = selection.scene, selection.options.stride
    if stride is not None:
        tracks = track_scene(scene, stride=stride)
    else:
        tracks = sparse_tracks(scene) if scene.tracks is None else scene.tracks
    is_kept = np.zeros(len(tracks), bool)
    depth = np.full(len(tracks), np.nan, np.float32)
    for t in range(scene.num_frames):
        starting = np.flatnonzero(tracks.first_frame == t)
        rows, columns = tracks.pixel[starting].T
        depth[starting] = selection.depth(t)[rows, columns]
        is_kept[starting] = np.isfinite(depth[starting])
    if not is_kept.any():
        raise ValueError("tracks: no track starts at a pixel that passes min_confidence and depth_edge; relax them")
    kept = tracks.select(is_kept)
    has_started = np.arange(scene.num_frames) >= kept.first_frame[:, None]
    first = kept.positions[np.arange(len(kept)), kept.first_frame]
    filled = np.where(has_started[..., None], kept.positions, first[:, None])
    xyz = (filled @ selection.rotation.T.astype(np.float32)) * np.float32(selection.options.scale)
    spacing = stride or _track_stride(tracks, scene.width)
    cell = np.hypot(1 / scene.intrinsics[0, 0], 1 / scene.intrinsics[1, 1]) * spacing
    return TrackedPoints(kept, xyz, has_started | ~kept.moves[:, None], depth[is_kept] * np.float32(cell))


def _track_stride(tracks: Tracks, width: int) -> int:
    """The stride that tracks were computed with: the minimum difference between columns."""
    columns = np.unique(tracks.pixel[:, 1])
    return int(np.diff(columns).min(initial=width)) if len(columns) > 1 else 1
