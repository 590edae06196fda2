"""Point tracks: the data class and its file format. `fourdnex.motion` computes the tracks of a scene."""

from fourdnex.tracks.files import read_tracks, write_tracks
from fourdnex.tracks.tracks import Tracks

__all__ = ["Tracks", "read_tracks", "write_tracks"]
