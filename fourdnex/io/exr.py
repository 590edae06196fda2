"""Reading one channel of OpenEXR images: scan lines, uncompressed or compressed by ZIP, as depth maps are stored.

The format: "Technical Introduction to OpenEXR" and "OpenEXR File Layout" (openexr.com).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

_MAGIC = 20000630
_DTYPES = {0: "<u4", 1: "<f2", 2: "<f4"}
_COMPRESSIONS = {0: 1, 2: 1, 3: 16}  # code of none, ZIPS and ZIP -> scan lines per block
_UNSUPPORTED_FLAGS = 0x200 | 0x800 | 0x1000  # tiles, deep data, several parts
MAX_PIXELS = 1 << 26
"""Max number of pixels of an image."""


@dataclass(frozen=True)
class _Header:
    """What is needed to decode the pixels."""

    channels: dict[str, np.dtype[np.generic]]
    """In the order of the file."""
    compression: int
    top: int
    height: int
    width: int
    end: int
    """Offset of the table of blocks."""


def read_exr_channel(content: bytes, channel: str, *, name: str = "image") -> np.ndarray:
    """One channel [H, W] float32 of an OpenEXR image.

    Args:
        content: the file.
        channel: name of the channel, such as Z.
        name: of the file, for errors.

    Raises:
        ValueError: the file is damaged, has no such channel, or has tiles, several parts or another compression than
            none, ZIPS and ZIP.
    """
    try:
        header = _read_header(content)
        if channel not in header.channels:
            raise ValueError(f"expected a channel {channel}, got {', '.join(header.channels) or 'none'}")
        return _read_channel(content, header, channel)
    except (struct.error, zlib.error, IndexError, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}: expected an undamaged OpenEXR image: {error}") from error
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _read_header(content: bytes) -> _Header:
    """Parse the attributes that describe the pixels."""
    magic, version = struct.unpack_from("<iI", content)
    if magic != _MAGIC:
        raise ValueError("expected an OpenEXR image, got another format")
    if version & _UNSUPPORTED_FLAGS:
        raise ValueError("expected one part with scan lines, got tiles, deep data or several parts")
    position, found = 8, {}
    while content[position] != 0:
        key, position = _text(content, position)
        _, position = _text(content, position)
        (size,) = struct.unpack_from("<i", content, position)
        if not 0 <= size <= len(content):
            raise ValueError(f"attribute {key}: expected a size within the file, got {size}")
        found[key] = content[position + 4 : position + 4 + size]
        position += 4 + size
    if missing := {"channels", "compression", "dataWindow"} - found.keys():
        raise ValueError(f"expected the attributes channels, compression, dataWindow; missing: {sorted(missing)}")
    left, top, right, bottom = struct.unpack("<4i", found["dataWindow"])
    height, width = bottom - top + 1, right - left + 1
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"expected at most {MAX_PIXELS} pixels, got {height}x{width}")
    compression = found["compression"][0]
    if compression not in _COMPRESSIONS:
        raise ValueError(f"expected no compression, ZIPS or ZIP, got code {compression}")
    return _Header(_channels(found["channels"]), compression, top, height, width, position + 1)


def _channels(content: bytes) -> dict[str, np.dtype[np.generic]]:
    """Name -> type of pixels."""
    position, channels = 0, {}
    while content[position] != 0:
        name, position = _text(content, position)
        kind, _, step_x, step_y = struct.unpack_from("<iIii", content, position)
        if kind not in _DTYPES or (step_x, step_y) != (1, 1):
            raise ValueError(f"channel {name}: expected every pixel as uint, half or float")
        channels[name] = np.dtype(_DTYPES[kind])
        position += 16
    return channels


def _read_channel(content: bytes, header: _Header, channel: str) -> np.ndarray:
    """Decode all blocks, of which each holds the rows of all channels one after the other."""
    lines = _COMPRESSIONS[header.compression]
    sizes = {name: header.width * dtype.itemsize for name, dtype in header.channels.items()}
    row_size = sum(sizes.values())
    names = list(sizes)
    start = sum(sizes[name] for name in names[: names.index(channel)])
    out = np.full((header.height, header.width), np.nan, np.float32)
    seen = np.zeros(header.height, bool)
    for offset in struct.unpack_from(f"<{-(-header.height // lines)}Q", content, header.end):
        y, size = struct.unpack_from("<ii", content, offset)
        first = y - header.top
        rows = min(lines, header.height - first)
        if first < 0 or rows < 1 or first % lines:
            raise ValueError(f"expected blocks of {lines} rows within the image, got one at row {y}")
        block = _decompress(content[offset + 8 : offset + 8 + size], rows * row_size, size)
        pixels = np.frombuffer(block, np.uint8).reshape(rows, row_size)[:, start : start + sizes[channel]]
        out[first : first + rows] = np.ascontiguousarray(pixels).view(header.channels[channel])
        seen[first : first + rows] = True
    if not seen.all():
        raise ValueError(f"expected {header.height} rows, got {seen.sum()}")
    return out


def _decompress(block: bytes, expected: int, declared: int) -> bytes:
    """Undo the compression of a block, which is stored as it is where that is not larger."""
    if len(block) != declared or declared > expected:
        raise ValueError(f"expected a block of {declared} bytes, at most {expected}, got {len(block)}")
    if declared == expected:
        return block
    raw = zlib.decompressobj().decompress(block, expected + 1)
    if len(raw) != expected:
        raise ValueError(f"expected a block of {expected} bytes, got {len(raw)}")
    # Each byte is the difference from the previous one plus 128; the even bytes come first, then the odd ones.
    values = np.frombuffer(raw, np.uint8).astype(np.int64)
    values[1:] -= 128
    values = np.cumsum(values).astype(np.uint8)
    out = np.empty(expected, np.uint8)
    half = (expected + 1) // 2
    out[0::2], out[1::2] = values[:half], values[half:]
    return out.tobytes()


def _text(content: bytes, position: int) -> tuple[str, int]:
    """The text that ends with a zero byte, and the position behind it."""
    end = content.index(0, position, position + 256)
    return content[position:end].decode("utf-8"), end + 1
