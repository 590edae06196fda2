"""Sparse tracks, for storage with a scene."""

from dataclasses import replace

import numpy as np

from fourdnex.motion.tracker import track_scene
from fourdnex.scene import Scene4D
from fourdnex.subsampling import subsampling_stride
from fourdnex.tracks.tracks import Tracks

MAX_TRACKS = 25_000
_MAX_FIRST_FRAME_TRACKS = 20_000


def with_tracks(scene: Scene4D) -> Scene4D:
    """The scene with sparse tracks; unchanged if it has tracks already, or a single frame."""
    if scene.tracks is not None or scene.num_frames == 1:
        return scene
    return replace(scene, tracks=sparse_tracks(scene))


def sparse_tracks(scene: Scene4D, *, region: np.ndarray | None = None) -> Tracks:
    """At most `MAX_TRACKS` tracks of a scene, with a stride that depends on its size: 1 at 64 x 96, 5 at 512 x 768.

    All tracks of the first frame are kept; those that start later are subsampled evenly to fit.

    Args:
        region: [T, H, W] bool, the scene's `moving_region` if it is computed already.
    """
    tracks = track_scene(
        scene, region=region, stride=subsampling_stride(scene.height, scene.width, max_pixels=_MAX_FIRST_FRAME_TRACKS)
    )
    first = int((tracks.first_frame == 0).sum())
    later = len(tracks) - first
    kept = min(later, MAX_TRACKS - first)
    if kept == later:
        return tracks
    return tracks.select(np.concatenate([np.arange(first), first + np.arange(kept) * later // max(kept, 1)]))
