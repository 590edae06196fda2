"""Tracks as a file: positions in steps of a power of two, differences deflated, in safetensors.

Step: about 1e-4 of the extent of the points, so that a position is within 5e-5 of the extent along each axis. A track
that does not move has one position.
"""

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from fourdnex.io.files import atomic_path
from fourdnex.tracks.tracks import Tracks

VERSION = 1
_STEP = 1e-4  # of the extent
_LARGEST = 2**30  # of a coordinate, in steps


def write_tracks(tracks: Tracks, path: str | os.PathLike[str]) -> None:
    """Write a file of tracks, whole or not at all; the same tracks give the same bytes."""
    from safetensors.numpy import save

    first = tracks.first_frame
    step = _step_of(tracks.positions)
    steps = np.rint(tracks.positions / step).clip(-_LARGEST, _LARGEST)
    own = steps[np.arange(len(tracks)), first].astype(np.int32)  # [N, 3], in their first frames
    moving = np.where(np.isfinite(steps[tracks.moves]), steps[tracks.moves], own[tracks.moves][:, None]).astype(
        np.int32
    )
    motion = np.diff(moving, axis=1)  # [M, T - 1, 3]: 0 before the first frame
    width = int(tracks.pixel[:, 1].max(initial=0)) + 1
    flat = tracks.pixel[:, 0] * width + tracks.pixel[:, 1]
    parts = {
        "first_frame": _deflate(np.diff(first, prepend=0)),
        "pixel": _deflate(np.diff(flat, prepend=0)),
        "rgb": _deflate(np.diff(tracks.rgb, axis=0, prepend=np.uint8(0)).T),
        "moves": _deflate_bits(tracks.moves),
        "visible": _deflate_bits(np.diff(tracks.visible, axis=1, prepend=False).T),
        "places": _deflate(np.diff(own, axis=0, prepend=0).T),
        "motion": _deflate(np.diff(motion, axis=0, prepend=0).transpose(2, 1, 0)),
    }
    about = {"version": VERSION, "count": len(tracks), "num_frames": tracks.num_frames, "step": step, "width": width}
    data = save({name: np.frombuffer(part, np.uint8) for name, part in parts.items()}, {"tracks": json.dumps(about)})
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def read_tracks(path: str | os.PathLike[str]) -> Tracks:
    """Read a file of `write_tracks`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not such a file, a newer version, or damaged; the message names it.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, "numpy") as file:
            about = json.loads((file.metadata() or {}).get("tracks", "null"))
            parts = {name: file.get_tensor(name).tobytes() for name in file.keys()}
        if not isinstance(about, dict) or about.get("version") != VERSION:
            found = about.get("version") if isinstance(about, dict) else about
            raise ValueError(f"expected tracks of version {VERSION}, got {found!r}")
        return _decoded(about, parts)
    except (SafetensorError, zlib.error, KeyError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _decoded(about: dict[str, Any], parts: dict[str, bytes]) -> Tracks:
    count, num_frames, width = (int(about[name]) for name in ("count", "num_frames", "width"))
    if not (count >= 0 and num_frames >= 1 and width >= 1):
        raise ValueError(f"expected positive sizes, got {count} tracks, {num_frames} frames, width {width}")
    first = np.cumsum(_inflate(parts["first_frame"], (count,), np.int32))
    flat = np.cumsum(_inflate(parts["pixel"], (count,), np.int32))
    moves = _inflate_bits(parts["moves"], (count,))
    changes = _inflate_bits(parts["visible"], (num_frames, count)).T
    own = np.cumsum(_inflate(parts["places"], (3, count), np.int32).T, axis=0)
    motion = _inflate(parts["motion"], (3, num_frames - 1, int(moves.sum())), np.int32).transpose(2, 1, 0)
    steps = np.repeat(own[:, None], num_frames, axis=1)
    steps[moves, 1:] += np.cumsum(np.cumsum(motion, axis=0), axis=1)
    positions = (steps * float(about["step"])).astype(np.float32)
    positions[np.arange(num_frames) < first[:, None]] = np.nan
    return Tracks(
        positions=positions,
        visible=np.logical_xor.accumulate(changes, axis=1),
        first_frame=first,
        pixel=np.stack(np.divmod(flat, width), axis=1),
        rgb=np.cumsum(_inflate(parts["rgb"], (3, count), np.uint8).T, axis=0, dtype=np.uint8),
        moves=moves,
    )


def _step_of(positions: np.ndarray) -> float:
    """A power of two, so that positions that were stored before are stored as they are."""
    known = positions[np.isfinite(positions).all(axis=-1)]
    if not len(known):
        return 1.0
    low, high = np.percentile(known, [2, 98], axis=0)
    extent = float((high - low).max())
    least = float(np.abs(known).max()) / _LARGEST
    return float(2.0 ** np.floor(np.log2(max(_STEP * extent, 2 * least, 1e-30))))


def _deflate(values: np.ndarray) -> bytes:
    """Small numbers of either sign as small ones, low bytes before high ones."""
    if values.dtype == np.uint8:
        return zlib.compress(np.ascontiguousarray(values).tobytes(), 9)
    signed = np.ascontiguousarray(values, "<i4").reshape(-1)
    folded = ((signed << 1) ^ (signed >> 31)).view(np.uint8).reshape(-1, 4)
    return zlib.compress(np.ascontiguousarray(folded.T).tobytes(), 9)


def _inflate(data: bytes, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    raw = np.frombuffer(zlib.decompress(data), np.uint8)
    size = int(np.prod(shape))
    if len(raw) != size * np.dtype(dtype).itemsize:
        raise ValueError(f"expected {shape} values, got {len(raw)} bytes")
    if dtype is np.uint8:
        return raw.reshape(shape)
    folded = np.ascontiguousarray(raw.reshape(4, size).T).view("<u4").reshape(-1)
    return ((folded >> 1) ^ -(folded & 1)).view(np.int32).reshape(shape)


def _deflate_bits(mask: np.ndarray) -> bytes:
    return zlib.compress(np.packbits(mask, axis=-1).tobytes(), 9)


def _inflate_bits(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    packed = np.frombuffer(zlib.decompress(data), np.uint8)
    row = -(-shape[-1] // 8)
    if len(packed) != row * int(np.prod(shape[:-1])):
        raise ValueError(f"expected {shape} bits, got {len(packed)} bytes")
    return np.unpackbits(packed.reshape(*shape[:-1], row), axis=-1, count=shape[-1]).astype(bool)
