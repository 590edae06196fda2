"""Windows of different videos that show the same: perceptual hashes of three frames, compared with all before."""

from __future__ import annotations

import numpy as np

MAX_DISTANCE = 6
"""Max number of bits, of 192, in which the hashes of near-duplicates differ; unrelated images differ in about 90."""
MIN_CONTRAST = 4.0
"""Min standard deviation of luminance, 0..255; the hash of an image without contrast is noise."""


class DuplicateFinder:
    """Remembers the hash of every window that it has seen: 24 bytes each."""

    def __init__(self) -> None:
        self._hashes = np.zeros((256, 3), np.uint64)
        self._videos: list[str] = []
        self._names: list[str] = []

    def duplicate_of(self, rgb: np.ndarray, *, name: str, video: str) -> str | None:
        """Name of an earlier window of another video that shows the same; None without one, and it is remembered.

        Args:
            rgb: frames [T, H, W, 3] uint8 of the window.
            name: name of the window.
            video: its video. Windows of one video resemble each other without being duplicates.
        """
        found = frame_hashes(rgb)
        if found is None:
            return None
        count = len(self._names)
        distance = np.bitwise_count(self._hashes[:count] ^ found).sum(axis=1)
        for index in np.flatnonzero(distance <= MAX_DISTANCE):
            if self._videos[index] != video:
                return self._names[index]
        if count == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
        self._hashes[count] = found
        self._names.append(name)
        self._videos.append(video)
        return None


def frame_hashes(rgb: np.ndarray) -> np.ndarray | None:
    """Difference hashes [3] uint64 of the first, middle and last frame; None if they have no contrast."""
    import cv2

    hashes = []
    for frame in (rgb[0], rgb[len(rgb) // 2], rgb[-1]):
        gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if gray.std() < MIN_CONTRAST:
            return None
        small = np.asarray(cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA)).astype(np.int16)
        bits = np.packbits(small[:, 1:] > small[:, :-1])
        hashes.append(int.from_bytes(bits.tobytes(), "big"))
    return np.array(hashes, np.uint64)
