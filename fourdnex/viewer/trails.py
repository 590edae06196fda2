"""Motion trails: the paths of moving tracks, in the format of the viewer's page."""

import zlib
from typing import Any

import numpy as np

from fourdnex.scene import Scene4D
from fourdnex.tracks import Tracks
from fourdnex.viewer.frames import encode_codes

MAX_TRAILS = 1_500
_LEVELS = 65535  # quantization steps between the minimum and the maximum of a coordinate


def describe_trails(scene: Scene4D) -> dict[str, Any] | None:
    """Parameters to decode `trails_block`: number of trails, minima and steps. None without moving tracks."""
    tracks = _selected_tracks(scene)
    if tracks is None:
        return None
    low, step = _quantization(tracks)
    return {"count": len(tracks), "low": low.tolist(), "step": step.tolist()}


def trails_block(scene: Scene4D) -> bytes:
    """The trails as a zlib stream, at most `MAX_TRAILS` of them, evenly spread over the moving tracks.

    Content: first frames [N] uint16, colors [N, 3] uint8, coordinates [3 N, T] in quantization steps (`encode_codes`).
    Before its first frame, a track has the position of its first frame.

    Raises:
        ValueError: the scene has no moving tracks.
    """
    tracks = _selected_tracks(scene)
    if tracks is None:
        raise ValueError("tracks: expected moving tracks, got none")
    low, step = _quantization(tracks)
    first = tracks.positions[np.arange(len(tracks)), tracks.first_frame][:, None]
    positions = np.where(np.isfinite(tracks.positions), tracks.positions, first)
    codes = np.rint((positions - low) / step).astype(np.uint16).transpose(0, 2, 1).reshape(-1, tracks.num_frames)
    return zlib.compress(tracks.first_frame.astype("<u2").tobytes() + tracks.rgb.tobytes() + encode_codes(codes), 6)


def _selected_tracks(scene: Scene4D) -> Tracks | None:
    """At most `MAX_TRAILS` moving tracks of at least two frames; None without any."""
    if scene.tracks is None or not scene.tracks.moves.any():
        return None
    moving = np.flatnonzero(scene.tracks.moves & (scene.tracks.first_frame < scene.num_frames - 1))
    stride = max(1, -(-len(moving) // MAX_TRAILS))
    return scene.tracks.select(moving[::stride]) if len(moving) else None


def _quantization(tracks: Tracks) -> tuple[np.ndarray, np.ndarray]:
    """Minimum [3] and quantization step [3] of the coordinates."""
    positions = tracks.positions[np.isfinite(tracks.positions).all(axis=-1)].astype(np.float64)
    low, high = positions.min(axis=0), positions.max(axis=0)
    return low, np.maximum((high - low) / _LEVELS, 1e-12)
