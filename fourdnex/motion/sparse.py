"""The tracks that a scene's folder holds: few enough for a small file."""

from dataclasses import replace

import numpy as np

from fourdnex.motion.tracker import track_scene
from fourdnex.scene import Scene4D
from fourdnex.subsampling import subsampling_stride
from fourdnex.tracks.tracks import Tracks

MAX_TRACKS = 25_000
_MAX_FIRST = 20_000  # of them from the first frame


def with_tracks(scene: Scene4D) -> Scene4D:
    """The scene with tracks to be stored with it; as it is if it has some already, or one frame alone."""
    if scene.tracks is not None or scene.num_frames == 1:
        return scene
    return replace(scene, tracks=sparse_tracks(scene))


def sparse_tracks(scene: Scene4D) -> Tracks:
    """Tracks of a scene with a stride by which there are at most 25,000: 1 at 64 x 96, 5 at 512 x 768.

    Those of the first frame are all there; of those that start later, as many as fit, evenly spread.
    """
    tracks = track_scene(scene, stride=subsampling_stride(scene.height, scene.width, max_pixels=_MAX_FIRST))
    first = int((tracks.first_frame == 0).sum())
    later = len(tracks) - first
    kept = min(later, MAX_TRACKS - first)
    if kept == later:
        return tracks
    return tracks.select(np.concatenate([np.arange(first), first + np.arange(kept) * later // max(kept, 1)]))
