"""Tracks: points of a scene that keep their identity over its frames."""

from fourdnex.tracks.stored import few_tracks, fitting_stride, with_tracks
from fourdnex.tracks.tracking import track_scene
from fourdnex.tracks.tracks import Tracks

__all__ = ["Tracks", "few_tracks", "fitting_stride", "track_scene", "with_tracks"]
