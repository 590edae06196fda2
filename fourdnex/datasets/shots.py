"""Cuts between the shots of a video, found while its frames are read one by one."""

from __future__ import annotations

import numpy as np

from fourdnex.extras import require

THRESHOLD = 27.0
"""Mean change of hue, saturation and lightness (0..255) at a cut; the default of PySceneDetect."""
RATIO = 3.0
"""A cut also changes the image this many times as much as its neighbors: fast motion is no cut."""
SIDE = 160
"""Frames are compared at this width."""


class ShotDetector:
    """Tells whether a frame begins a new shot, by the content detector of PySceneDetect.

    The decision is made at the frame itself, so a change is compared with those before it only.
    """

    def __init__(self) -> None:
        require("scenedetect", feature="finding cuts in videos", instead="keep clips that cross cuts with --no-cuts")
        from scenedetect import ContentDetector

        self._detector = ContentDetector(threshold=THRESHOLD, min_scene_len=0)
        self._previous: np.ndarray | None = None
        self._changes: list[float] = []
        self._count = 0

    def is_cut(self, rgb: np.ndarray) -> bool:
        """Whether the frame [H, W, 3] uint8 begins a new shot; frames are passed in order."""
        import cv2
        from scenedetect import FrameTimecode

        height = max(8, round(rgb.shape[0] * SIDE / rgb.shape[1]))
        small = np.ascontiguousarray(
            np.asarray(cv2.resize(rgb, (SIDE, height), interpolation=cv2.INTER_AREA))[..., ::-1]
        )
        found = bool(self._detector.process_frame(FrameTimecode(self._count, 24.0), small))
        self._count += 1
        if self._previous is None or self._previous.shape != small.shape:
            self._previous = small
            return False
        change = float(cv2.absdiff(small, self._previous).mean())
        usual = float(np.median(self._changes)) if self._changes else 0.0
        self._previous = small
        if found and change >= RATIO * usual:
            self._changes = []
            return True
        self._changes = [*self._changes[-7:], change]
        return False
