"""A scene's tracks as formats hold them: the same points in the same order in every frame."""

from dataclasses import dataclass

import numpy as np

from fourdnex.export.selection import Selection
from fourdnex.motion import sparse_tracks, track_scene
from fourdnex.tracks import Tracks

TRAIL_FRAMES = 8
MAX_TRAILS = 2_000


@dataclass(frozen=True, eq=False)
class FollowedPoints:
    """N points over T frames, in the exported world."""

    tracks: Tracks
    """The selected ones, in the scene's world."""
    xyz: np.ndarray  # [N, T, 3] float32; before its first frame a point is where it is then
    shown: np.ndarray  # [N, T] bool: all but moving points before their first frame
    diameters: np.ndarray  # [N] float32, see Selection.diameters, at the depth of the first frame

    def velocities(self, t: int, fps: float) -> np.ndarray:
        """[N, 3] float32, exported units a second: to the next frame; in the last one as in that before."""
        last = self.xyz.shape[1] - 1
        start = min(t, max(last - 1, 0))
        return np.asarray((self.xyz[:, min(start + 1, last)] - self.xyz[:, start]) * np.float32(fps))

    def trails(self, t: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Ways [F, 3] over the last frames of points that move, at most 2,000 of them, and their colors [M, 3]."""
        first = self.tracks.first_frame
        moving = np.flatnonzero(self.tracks.moves & (first < t))
        moving = moving[:: -(-len(moving) // MAX_TRAILS) or 1]
        ways = [self.xyz[n, max(first[n], t - TRAIL_FRAMES) : t + 1] for n in moving]
        return ways, self.tracks.rgb[moving]


def follow_points(selection: Selection) -> FollowedPoints:
    """The tracks of a selection: the scene's own, or found now where it has none or the options give a stride.

    Of a track the pixel in its first frame has to pass the filters.

    Raises:
        ValueError: none does.
    """
    scene, stride = selection.scene, selection.options.stride
    if stride is not None:
        tracks = track_scene(scene, stride=stride)
    else:
        tracks = sparse_tracks(scene) if scene.tracks is None else scene.tracks
    keeps = np.zeros(len(tracks), bool)
    depth = np.full(len(tracks), np.nan, np.float32)
    for t in range(scene.num_frames):
        begins = np.flatnonzero(tracks.first_frame == t)
        rows, columns = tracks.pixel[begins].T
        depth[begins] = selection.depth(t)[rows, columns]
        keeps[begins] = np.isfinite(depth[begins])
    if not keeps.any():
        raise ValueError("tracks: expected some, but none begins at a pixel that passes min_confidence and depth_edge")
    kept = tracks.select(keeps)
    begun = np.arange(scene.num_frames) >= kept.first_frame[:, None]
    start = kept.positions[np.arange(len(kept)), kept.first_frame]
    filled = np.where(begun[..., None], kept.positions, start[:, None])
    xyz = (filled @ selection.rotation.T.astype(np.float32)) * np.float32(selection.options.scale)
    spacing = stride or _spacing(tracks, scene.width)
    cell = np.hypot(1 / scene.intrinsics[0, 0], 1 / scene.intrinsics[1, 1]) * spacing
    return FollowedPoints(kept, xyz, begun | ~kept.moves[:, None], depth[keeps] * np.float32(cell))


def _spacing(tracks: Tracks, width: int) -> int:
    """The stride that tracks have been found with: the least step between columns."""
    columns = np.unique(tracks.pixel[:, 1])
    return int(np.diff(columns).min(initial=width)) if len(columns) > 1 else 1
