"""Fingerprints of clips for duplicates: perceptual hashes of three frames, and coarse colors.

A perceptual hash has the signs of the 63 lowest frequencies of a discrete cosine transform against their median. It
changes by few bits when a video is scaled, re-encoded or made brighter.
"""

from __future__ import annotations

import numpy as np

NUM_HASHES = 3
COLOR_CELLS = 4
SIZE = NUM_HASHES * 8 + COLOR_CELLS**2 * 3
"""Bytes of a fingerprint: hashes of the first, middle and last frame, then the 4x4 colors of the middle frame."""


def fingerprint(rgb: np.ndarray) -> bytes:
    """Fingerprint of a video [T, H, W, 3] uint8, `SIZE` bytes."""
    import cv2

    middle = len(rgb) // 2
    hashes = [_perceptual_hash(rgb[t]) for t in (0, middle, len(rgb) - 1)]
    colors = cv2.resize(rgb[middle], (COLOR_CELLS, COLOR_CELLS), interpolation=cv2.INTER_AREA)
    return b"".join(hashes) + colors.tobytes()


def _perceptual_hash(frame: np.ndarray) -> bytes:
    """Perceptual hash of a frame, 8 bytes; the first bit is not used."""
    import cv2

    gray = cv2.cvtColor(cv2.resize(frame, (32, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    low = cv2.dct(gray.astype(np.float32))[:8, :8].ravel()
    bits = low > np.median(low[1:])
    bits[0] = False  # the mean brightness
    return np.packbits(bits).tobytes()
