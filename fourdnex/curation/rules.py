"""Rules that accept or reject a clip by its scores: typed thresholds, absolute or as percentiles of the data set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from fourdnex.curation.scores import OPTIONAL_SCORES, Scores

Threshold = str | float | None
"""A number, a percentile of the data set such as "p5", or None: the rule is off (`none` on the command line)."""


@dataclass(frozen=True, kw_only=True)
class ImageRules:
    """Rules on single frames."""

    min_frames: Threshold = 17.0
    """Min frames per clip: 17 for the tiny base, 49 for the large bases. Shorter clips cannot be encoded."""
    min_brightness: Threshold = 20.0
    """Min mean luminance, 0..255 (the threshold of SpatialVID)."""
    max_brightness: Threshold = 210.0
    """Max mean luminance, 0..255. SpatialVID uses 140, which is tuned for film and rejects rooms with white walls."""
    min_contrast: Threshold = 8.0
    """Min standard deviation of luminance, 0..255. Rejects blank and very dim images."""
    max_bright_share: Threshold = 0.4
    """Max share of overexposed pixels."""
    min_sharpness: Threshold = 0.54
    """Min sharpness of the strongest edges; edges blurred by 2 pixels (sigma) at 160x240 have about 0.5."""
    max_noise: Threshold = 15.0
    """Max standard deviation of noise, 0..255."""
    max_bar_share: Threshold = 0.02
    """Max share of the frame in black bars."""


@dataclass(frozen=True, kw_only=True)
class TextRules:
    """Rules on writing in the frames."""

    max_text_share: Threshold = 0.03
    """Max share of the frame in text. SpatialVID uses 0.3, which keeps subtitles. Needs rapidocr, else it is off."""


@dataclass(frozen=True, kw_only=True)
class MotionRules:
    """Rules on consecutive frames."""

    min_motion: Threshold = 0.1
    """Min mean change between frames, 0..255. Rejects static clips. SpatialVID uses 2 at full rate and resolution."""
    max_motion: Threshold = 30.0
    """Max mean change between frames, 0..255. SpatialVID uses 14 for consecutive frames; clips here may skip frames."""
    max_frozen_share: Threshold = 0.45
    """Max share of repeated frames."""
    max_cut: Threshold = 0.3
    """Max excess of the share of pixels that optical flow does not explain between two frames: a cut."""
    max_shake: Threshold = 3.5
    """Max median change of the global motion between frames, percent of the image width."""


@dataclass(frozen=True, kw_only=True)
class GeometryRules:
    """Rules on the annotation."""

    min_finite_share: Threshold = 0.3
    """Min share of pixels with depth. Unknown pixels carry no weight in training, so holes are no defect."""
    min_least_finite_share: Threshold = 0.05
    """Min share of pixels with depth in every frame."""
    min_mean_confidence: Threshold = 0.08
    """Min mean confidence (MCV of 4DNeX), unknown pixels included as 0. Exact clips have 1."""
    min_confident_share: Threshold = 0.05
    """Min share of pixels with confidence of at least 0.5 (HCPR of 4DNeX)."""
    max_dynamic_share: Threshold = 0.7
    """Max share of dynamic pixels. Motion needs a static background as reference."""
    max_warp_error: Threshold = 20.0
    """Max luminance difference to a later frame, warped by depth and cameras."""
    max_flow_error: Threshold = 0.17
    """Max disagreement of geometry and optical flow, about in pixels at 96x144 (the flow alignment of 4DNeX)."""
    max_depth_error: Threshold = 0.08
    """Max relative inconsistency of depth between frames."""
    min_field_of_view: Threshold = 10.0
    """Min field of view along the longer side, degrees; real lenses of videos are seldom longer."""
    max_field_of_view: Threshold = 130.0
    """Max field of view along the longer side, degrees."""
    min_depth_spread: Threshold = 1.05
    """Min ratio of far (95th percentile) to near (5th percentile) depth. Rejects flat scenes."""
    max_depth_spread: Threshold = 200.0
    """Max ratio of far to near depth. Beyond it the normalized point map resolves near or far objects, not both."""
    max_camera_break: Threshold = 0.03
    """Max deviation of the camera position from constant acceleration, median depths (threshold of SpatialVID)."""
    max_turn_break: Threshold = 5.0
    """Max deviation of the camera rotation from constant acceleration, degrees."""
    max_curvature: Threshold = 500.0
    """Max curvature of the camera path, 1 / median depth. Rejects cameras that jitter in place."""


@dataclass(frozen=True, kw_only=True)
class Rules(GeometryRules, MotionRules, TextRules, ImageRules):
    """Thresholds of curation: `min_x` rejects clips with score x below it, `max_x` above it; None disables the rule.

    The 4DNeX paper names the filters but gives no thresholds. Thresholds that are not attributed to SpatialVID are
    specific to this implementation, see docs/curation.md.

    Raises:
        ValueError: a threshold is neither a finite number, nor a percentile, nor None.
    """

    def __post_init__(self) -> None:
        for rule in fields(self):
            object.__setattr__(self, rule.name, _parsed(rule.name, getattr(self, rule.name)))


STAGE_RULES: dict[str, type] = {
    "image": ImageRules,
    "text": TextRules,
    "motion": MotionRules,
    "geometry": GeometryRules,
}
"""Stage -> its rules, in the order in which they apply."""
RULE_STAGES = {rule.name: stage for stage, rules in STAGE_RULES.items() for rule in fields(rules)}
"""Rule -> stage, in the order in which rules apply."""
AGREEMENT_SCORES = ("warp_error", "flow_error", "depth_error")
"""Scores that judge estimates of geometry; exact geometry, as of rendered worlds, needs no judge."""
TITLES = {
    "bright_share": "share of overexposed pixels",
    "bar_share": "share of black bars",
    "text_share": "share of text",
    "frozen_share": "share of repeated frames",
    "cut": "difference at a cut",
    "finite_share": "share of pixels with depth",
    "least_finite_share": "least share of pixels with depth in a frame",
    "confident_share": "share of confident pixels",
    "dynamic_share": "share of moving pixels",
    "depth_spread": "spread of depth",
    "warp_error": "warp error to a later frame",
    "flow_error": "disagreement of geometry and optical flow",
    "depth_error": "inconsistency of depth",
    "field_of_view": "field of view (degrees)",
    "camera_break": "discontinuity of the camera path",
    "turn_break": "discontinuity of the camera rotation (degrees)",
    "curvature": "curvature of the camera path",
}
"""Score -> how reasons call it, where its name does not say it."""


def title(score: str) -> str:
    """How reasons call a score."""
    return TITLES.get(score, score.replace("_", " "))


def split_rule(rule: str) -> tuple[str, str]:
    """Side ("min" or "max") and score of a rule."""
    side, _, score = rule.partition("_")
    return side, score


def percentile_of(threshold: Threshold) -> float | None:
    """5.0 for the percentile "p5"; None for other thresholds."""
    return float(threshold[1:]) if isinstance(threshold, str) else None


def reason_text(rule: str, value: float, threshold: float) -> str:
    """Why a rule rejects a clip with this score."""
    side, score = split_rule(rule)
    if math.isnan(value):
        return f"{title(score)} is unknown"
    return f"{title(score)} {value:.2f} is {'below' if side == 'min' else 'above'} {threshold:.2f}"


def rejection_reasons(scores: Scores, rules: Rules | None = None) -> tuple[str, ...]:
    """Reasons to reject a clip, one per violated rule; empty = accepted. A NaN score violates every rule on it, unless
    it is the score of a stage that is optional.

    Raises:
        ValueError: a threshold is a percentile, which a single clip does not have.
    """
    reasons = []
    for rule, threshold in thresholds_of(rules or Rules()).items():
        if isinstance(threshold, str):
            raise ValueError(f"{rule}: expected a number for a single clip, got the percentile {threshold}")
        assert threshold is not None
        if violates(rule, value := getattr(scores, split_rule(rule)[1]), threshold):
            reasons.append(reason_text(rule, value, threshold))
    return tuple(reasons)


def violates(rule: str, value: float, threshold: float) -> bool:
    """Whether a score violates a rule."""
    side, score = split_rule(rule)
    if math.isnan(value):
        return score not in OPTIONAL_SCORES
    return value < threshold if side == "min" else value > threshold


def thresholds_of(rules: Rules) -> Mapping[str, Threshold]:
    """Rule -> threshold of all rules that are on, in the order of the stages."""
    return {rule: value for rule in RULE_STAGES if (value := getattr(rules, rule)) is not None}


def _parsed(name: str, value: object) -> Threshold:
    """A threshold from a value of a file or the command line."""
    if value is None or value == "none":
        return None
    number: float | None = None
    if isinstance(value, str):
        text = value[1:] if value.startswith("p") else value
        try:
            number = float(text)
        except ValueError:
            number = None
        if value.startswith("p") and number is not None and 0 <= number <= 100:
            return value
        number = None if value.startswith("p") else number
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
    if number is None:
        raise ValueError(f'{name}: expected a number, a percentile such as "p5" or none, got {value!r}')
    if not math.isfinite(number):
        raise ValueError(f"{name}: expected a finite number or None, got {value}")
    return number
