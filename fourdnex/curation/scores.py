"""Scores of an annotated clip, in four stages: image, text, motion, geometry.

Each stage has a version of its own, so that a changed definition recomputes that stage only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fourdnex.clip import Clip
from fourdnex.curation import geometry, image, motion, text
from fourdnex.curation.geometry import GeometryScores, geometry_scores
from fourdnex.curation.image import ImageScores, image_scores
from fourdnex.curation.motion import MotionScores, motion_scores
from fourdnex.curation.text import TextScores, can_detect_text, text_scores


@dataclass(frozen=True, kw_only=True)
class Scores(GeometryScores, MotionScores, TextScores, ImageScores):
    """All scores of one clip."""


@dataclass(frozen=True)
class Stage:
    """One stage of scoring."""

    name: str
    version: str
    scores: type
    """Dataclass of its scores."""
    compute: Callable[[Clip], Any]
    is_optional: bool = False
    """Whether it needs a package that may be missing; its scores are then NaN and reject nothing."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of its scores."""
        return tuple(field.name for field in dataclasses.fields(self.scores))

    @property
    def version_column(self) -> str:
        """Column of the score table with the version that computed the scores; empty = not computed."""
        return f"{self.name}_version"

    @property
    def is_available(self) -> bool:
        """Whether the scores can be computed here."""
        return not self.is_optional or can_detect_text()


STAGES = (
    Stage("image", image.VERSION, ImageScores, image_scores),
    Stage("text", text.VERSION, TextScores, text_scores, is_optional=True),
    Stage("motion", motion.VERSION, MotionScores, motion_scores),
    Stage("geometry", geometry.VERSION, GeometryScores, geometry_scores),
)
FINGERPRINT = "fingerprint"
"""The one score that is not a number."""
SCORES = tuple(field for stage in STAGES for field in stage.fields if field != FINGERPRINT)
"""Names of all numeric scores."""
OPTIONAL_SCORES = tuple(field for stage in STAGES if stage.is_optional for field in stage.fields)


def score_clip(clip: Clip) -> Scores:
    """Compute all scores of an annotated clip; the text score is NaN if `rapidocr` is not installed.

    Raises:
        ValueError: the clip is not annotated, or has no valid depth.
    """
    if clip.depth is None or clip.intrinsics is None or clip.camera_to_world is None:
        raise ValueError(f"{clip.name}: expected an annotated clip, got one without depth or cameras")
    values: dict[str, Any] = {}
    for stage in STAGES:
        if stage.is_available:
            values |= dataclasses.asdict(stage.compute(clip))
        else:
            values |= dict.fromkeys(stage.fields, float("nan"))
    return Scores(**values)
