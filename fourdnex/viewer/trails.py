"""The ways of moving tracks, as the viewer's page gets them."""

import zlib
from typing import Any

import numpy as np

from fourdnex.scene import Scene4D
from fourdnex.tracks import Tracks
from fourdnex.viewer.frames import pack

MAX_TRAILS = 1_500
_LEVELS = 65535  # of a coordinate between the least and the greatest one


def describe_trails(scene: Scene4D) -> dict[str, Any] | None:
    """How to read the block of `trails_block`: number, least coordinates and steps; None if nothing moves."""
    chosen = _chosen(scene)
    if chosen is None:
        return None
    low, step = _range(chosen)
    return {"count": len(chosen), "low": low.tolist(), "step": step.tolist()}


def trails_block(scene: Scene4D) -> bytes:
    """Deflated: first frames [N] uint16, colors [N, 3] uint8, and coordinates [3 N, T] in steps, packed like depth.

    At most 1,500 tracks, evenly spread. Before its first frame a track is where it is then.

    Raises:
        ValueError: nothing moves.
    """
    chosen = _chosen(scene)
    if chosen is None:
        raise ValueError("tracks: expected some that move, got none")
    low, step = _range(chosen)
    start = chosen.positions[np.arange(len(chosen)), chosen.first_frame][:, None]
    places = np.where(np.isfinite(chosen.positions), chosen.positions, start)
    codes = np.rint((places - low) / step).astype(np.uint16).transpose(0, 2, 1).reshape(-1, chosen.num_frames)
    return zlib.compress(chosen.first_frame.astype("<u2").tobytes() + chosen.rgb.tobytes() + pack(codes), 6)


def _chosen(scene: Scene4D) -> Tracks | None:
    if scene.tracks is None or not scene.tracks.moves.any():
        return None
    moving = np.flatnonzero(scene.tracks.moves & (scene.tracks.first_frame < scene.num_frames - 1))
    every = max(1, -(-len(moving) // MAX_TRAILS))
    return scene.tracks.select(moving[::every]) if len(moving) else None


def _range(tracks: Tracks) -> tuple[np.ndarray, np.ndarray]:
    places = tracks.positions[np.isfinite(tracks.positions).all(axis=-1)].astype(np.float64)
    low, high = places.min(axis=0), places.max(axis=0)
    return low, np.maximum((high - low) / _LEVELS, 1e-12)
