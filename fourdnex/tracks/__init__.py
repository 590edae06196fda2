"""Tracks: points of a scene that keep their identity over its frames."""

from typing import TYPE_CHECKING, Any

from fourdnex.tracks.tracks import Tracks

if TYPE_CHECKING:
    from fourdnex.tracks.subset import few_tracks, with_tracks
    from fourdnex.tracks.tracker import track_scene

__all__ = ["Tracks", "few_tracks", "track_scene", "with_tracks"]

_HOMES = {"few_tracks": "subset", "track_scene": "tracker", "with_tracks": "subset"}


def __getattr__(name: str) -> Any:
    """Import what finds tracks on first use (PEP 562): a scene that is loaded only reads them."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fourdnex.tracks' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"fourdnex.tracks.{_HOMES[name]}"), name)
