"""OpenEXR images for tests."""

import struct
import zlib

import numpy as np


def exr_bytes(channels: dict[str, np.ndarray], *, compression: int = 3) -> bytes:
    """An image of scan lines; `compression`: 0 none, 2 ZIPS, 3 ZIP."""
    names = sorted(channels)
    height, width = channels[names[0]].shape
    kinds = {"e": 1, "f": 2}
    entries = b"".join(
        name.encode() + b"\0" + struct.pack("<iIii", kinds[channels[name].dtype.char], 0, 1, 1) for name in names
    )
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes = {
        "channels chlist": entries + b"\0",
        "compression compression": bytes([compression]),
        "dataWindow box2i": window,
        "displayWindow box2i": window,
        "lineOrder lineOrder": b"\0",
        "pixelAspectRatio float": struct.pack("<f", 1),
        "screenWindowCenter v2f": struct.pack("<2f", 0, 0),
        "screenWindowWidth float": struct.pack("<f", 1),
    }
    head = struct.pack("<iI", 20000630, 2)
    for key, value in attributes.items():
        head += b"".join(part.encode() + b"\0" for part in key.split()) + struct.pack("<i", len(value)) + value
    head += b"\0"
    lines = 16 if compression == 3 else 1
    blocks = []
    for first in range(0, height, lines):
        rows = range(first, min(first + lines, height))
        raw = b"".join(channels[name][row].tobytes() for row in rows for name in names)
        packed = _zip(raw) if compression else raw
        packed = packed if len(packed) < len(raw) else raw
        blocks.append(struct.pack("<ii", first, len(packed)) + packed)
    starts = np.cumsum([len(head) + 8 * len(blocks), *map(len, blocks[:-1])])
    return head + starts.astype("<u8").tobytes() + b"".join(blocks)


def _zip(raw: bytes) -> bytes:
    values = np.frombuffer(raw, np.uint8)
    values = np.concatenate([values[0::2], values[1::2]]).astype(np.int64)
    values[1:] = values[1:] - values[:-1].copy() + 128
    return zlib.compress(values.astype(np.uint8).tobytes())
