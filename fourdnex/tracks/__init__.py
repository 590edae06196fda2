"""Tracks: points of a scene that keep their identity over its frames."""

from fourdnex.tracks.tracking import track_scene
from fourdnex.tracks.tracks import Tracks

__all__ = ["Tracks", "track_scene"]
