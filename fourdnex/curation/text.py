"""Share of the frame that text covers, by the text reader of `rapidocr` (PP-OCR, its weights are in the package)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from fourdnex.clip import Clip
from fourdnex.extras import is_installed

VERSION = "1"
"""Incremented when the definition of a score of this stage changes."""
NUM_FRAMES = 3
"""Frames of a clip in which text is searched: subtitles and logos stay for seconds."""
LONG_SIDE = 320
"""Longer side, in pixels, to which a frame is scaled for the reader. Multiples of 32 are exact."""
_MIN_SCORE = 0.7  # confidence of reading
_MIN_SIGNS = 2
_MAX_LINE_HEIGHT = 0.4  # of the frame: two large shapes may look like letters


@dataclass(frozen=True, kw_only=True)
class TextScores:
    """Scores of writing in the frames."""

    text_share: float
    """Share of the frame in boxes of text: median of 3 frames. NaN if `rapidocr` or `onnxruntime` is not installed."""


def can_detect_text() -> bool:
    """Whether the optional text reader and the runtime of its network are installed."""
    return is_installed("rapidocr") and is_installed("onnxruntime")


def text_scores(clip: Clip) -> TextScores:
    """Scores of writing in the RGB frames of a clip; annotation is not needed.

    Raises:
        MissingExtraError: `rapidocr` is not installed.
    """
    shown = np.unique(np.linspace(0, clip.num_frames - 1, NUM_FRAMES + 2).astype(int)[1:-1])
    return TextScores(text_share=float(np.median([_text_share(clip.rgb[t]) for t in shown])))


def _text_share(frame: np.ndarray) -> float:
    """Share of a frame [H, W, 3] uint8 in boxes of text that can be read.

    Patterns such as bricks are detected as text too, but read with low confidence or as a single sign.
    """
    import cv2

    height, width = frame.shape[:2]
    scale = LONG_SIDE / max(height, width)
    size = (max(32, round(width * scale)), max(32, round(height * scale)))
    scaled = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    result = _reader()(np.ascontiguousarray(scaled[..., ::-1]), use_det=True, use_cls=False, use_rec=True)
    if result.boxes is None:
        return 0.0
    covered = np.zeros(scaled.shape[:2], np.uint8)
    for box, text, score in zip(result.boxes, result.txts, result.scores, strict=True):
        line_height = min(np.linalg.norm(box[1] - box[0]), np.linalg.norm(box[3] - box[0]))
        is_line = line_height <= _MAX_LINE_HEIGHT * size[1] and len(text.strip()) >= _MIN_SIGNS
        if score >= _MIN_SCORE and is_line:
            cv2.fillPoly(covered, [np.rint(box).astype(np.int32)], (1,))
    return float(covered.mean())


@lru_cache(maxsize=1)
def _reader() -> Any:
    """The detector and reader of text."""
    from fourdnex.extras import require

    require("rapidocr", feature="the text score")
    from rapidocr import RapidOCR

    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.text_score": _MIN_SCORE,
            "Det.limit_type": "max",
            "Det.limit_side_len": LONG_SIDE,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        }
    )
