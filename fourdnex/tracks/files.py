"""The file format of tracks: positions quantized to a power of two, delta-encoded and deflated, in safetensors.

The quantization step is about 1e-4 of the extent of the points, so that the error of a position is at most 5e-5 of the
extent along each axis. A static track stores one position.
"""

import json
import math
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from fourdnex.io.files import atomic_path
from fourdnex.tracks.tracks import Tracks

VERSION = 1
_STEP = 1e-4  # relative to the extent
_MAX_COORDINATE = 2**30  # in steps
_SIZES = {"count": (0, 2**31), "num_frames": (1, 2**20), "width": (1, 2**31)}  # range of each size in the header


def write_tracks(tracks: Tracks, path: str | os.PathLike[str]) -> None:
    """Write tracks to a file, atomically and deterministically."""
    from safetensors.numpy import save

    first = tracks.first_frame
    step = _quantization_step(tracks.positions)
    steps = np.rint(tracks.positions / step).clip(-_MAX_COORDINATE, _MAX_COORDINATE)
    start = steps[np.arange(len(tracks)), first].astype(np.int32)  # [N, 3], in the first frame of each track
    moving = np.where(np.isfinite(steps[tracks.moves]), steps[tracks.moves], start[tracks.moves][:, None]).astype(
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
        "places": _deflate(np.diff(start, axis=0, prepend=0).T),
        "motion": _deflate(np.diff(motion, axis=0, prepend=0).transpose(2, 1, 0)),
    }
    header = {"version": VERSION, "count": len(tracks), "num_frames": tracks.num_frames, "step": step, "width": width}
    data = save({name: np.frombuffer(part, np.uint8) for name, part in parts.items()}, {"tracks": json.dumps(header)})
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def read_tracks(path: str | os.PathLike[str]) -> Tracks:
    """Read tracks from a file of `write_tracks`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: another format, another version, or a damaged file; the message names the file.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: the file does not exist")
    try:
        with safe_open(path, "numpy") as file:
            header = json.loads((file.metadata() or {}).get("tracks", "null"))
            parts = {name: file.get_tensor(name).tobytes() for name in file.keys()}
        if not isinstance(header, dict) or header.get("version") != VERSION:
            version = header.get("version") if isinstance(header, dict) else header
            raise ValueError(f"expected tracks of version {VERSION}, got {version!r}")
        return _decode(header, parts)
    except (SafetensorError, zlib.error, KeyError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _decode(header: dict[str, Any], parts: dict[str, bytes]) -> Tracks:
    """The tracks of a file's header and compressed arrays."""
    count, num_frames, width, step = (header[name] for name in ("count", "num_frames", "width", "step"))
    for name, (low, high) in _SIZES.items():
        if not (isinstance(header[name], int) and low <= header[name] < high):
            raise ValueError(f"{name}: expected a whole number from {low} to {high - 1}, got {header[name]!r}")
    if not (isinstance(step, int | float) and 0 < step < np.inf):
        raise ValueError(f"step: expected a positive number, got {step!r}")
    first = np.cumsum(_inflate(parts["first_frame"], (count,), np.int32))
    flat = np.cumsum(_inflate(parts["pixel"], (count,), np.int32))
    moves = _inflate_bits(parts["moves"], (count,))
    changes = _inflate_bits(parts["visible"], (num_frames, count)).T
    start = np.cumsum(_inflate(parts["places"], (3, count), np.int32).T, axis=0)
    motion = _inflate(parts["motion"], (3, num_frames - 1, int(moves.sum())), np.int32).transpose(2, 1, 0)
    steps = np.repeat(start[:, None], num_frames, axis=1)
    steps[moves, 1:] += np.cumsum(np.cumsum(motion, axis=0), axis=1)
    positions = (steps * float(step)).astype(np.float32)
    positions[np.arange(num_frames) < first[:, None]] = np.nan
    return Tracks(
        positions=positions,
        visible=np.logical_xor.accumulate(changes, axis=1),
        first_frame=first,
        pixel=np.stack(np.divmod(flat, width), axis=1),
        rgb=np.cumsum(_inflate(parts["rgb"], (3, count), np.uint8).T, axis=0, dtype=np.uint8),
        moves=moves,
    )


def _quantization_step(positions: np.ndarray) -> float:
    """The quantization step, a power of two, so that writing positions that were read loses nothing."""
    finite = positions[np.isfinite(positions).all(axis=-1)]
    if not len(finite):
        return 1.0
    low, high = np.percentile(finite, [2, 98], axis=0)
    extent = float((high - low).max())
    min_step = float(np.abs(finite).max()) / _MAX_COORDINATE
    return float(2.0 ** np.floor(np.log2(max(_STEP * extent, 2 * min_step, 1e-30))))


def _deflate(values: np.ndarray) -> bytes:
    """Compress integers: zigzag encoding, then byte planes from low to high, then zlib."""
    if values.dtype == np.uint8:
        return zlib.compress(np.ascontiguousarray(values).tobytes(), 9)
    signed = np.ascontiguousarray(values, "<i4").reshape(-1)
    zigzag = ((signed << 1) ^ (signed >> 31)).view(np.uint8).reshape(-1, 4)
    return zlib.compress(np.ascontiguousarray(zigzag.T).tobytes(), 9)


def _inflate(data: bytes, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """The inverse of `_deflate`; ValueError if the number of values is wrong."""
    size = math.prod(shape)
    raw = _decompress(data, size * np.dtype(dtype).itemsize)
    if dtype is np.uint8:
        return raw.reshape(shape)
    zigzag = np.ascontiguousarray(raw.reshape(4, size).T).view("<u4").reshape(-1)
    return ((zigzag >> 1) ^ -(zigzag & 1)).view(np.int32).reshape(shape)


def _deflate_bits(mask: np.ndarray) -> bytes:
    """Compress a boolean array, one bit per value."""
    return zlib.compress(np.packbits(mask, axis=-1).tobytes(), 9)


def _inflate_bits(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `_deflate_bits`; ValueError if the number of values is wrong."""
    row = -(-shape[-1] // 8)
    packed = _decompress(data, row * math.prod(shape[:-1]))
    return np.unpackbits(packed.reshape(*shape[:-1], row), axis=-1, count=shape[-1]).astype(bool)


def _decompress(data: bytes, size: int) -> np.ndarray:
    """Decompress `size` bytes; ValueError if there are more or fewer, without decompressing more."""
    stream = zlib.decompressobj()
    raw = stream.decompress(data, size + 1)
    if len(raw) != size or not stream.eof:
        raise ValueError(f"expected {size} bytes, got {'more' if len(raw) > size else len(raw)}")
    return np.frombuffer(raw, np.uint8)
