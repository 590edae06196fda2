"""Rules that keep or reject a clip by its scores, and say why."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from fourdnex.curation.scores import Scores


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Thresholds of curation; None switches a rule off. The filters are those that the 4DNeX paper names; it gives no
    thresholds, so each says where its own comes from.

    Raises:
        ValueError: a threshold is not a number.
    """

    min_finite_share: float | None = 0.9
    """Ours: the fusion model learns every pixel, filled ones too, but not absent ones."""
    min_mean_confidence: float | None = 0.15
    """MCV. Ours: exact clips have 1; stereo is confident only on texture, about 0.2 of a well annotated indoor clip."""
    min_confident_share: float | None = 0.15
    """HCPR. Ours, for the same reason."""
    min_brightness: float | None = 20.0
    """SpatialVID."""
    max_brightness: float | None = 210.0
    """Ours; SpatialVID's 140 is meant for film and would reject rooms with white walls."""
    min_contrast: float | None = 5.0
    """Ours: rejects blank images."""
    min_motion: float | None = 0.1
    """Ours, for "nothing moves"; SpatialVID asks for 2 at full frame rate and size."""
    max_motion: float | None = 30.0
    """Ours; SpatialVID's 14 between frames of film, here clips may skip frames."""
    max_warp_error: float | None = 12.0
    """Luminance. Ours, in place of the paper's flow alignment: depth and cameras must explain the video."""
    max_dynamic_share: float | None = 0.7
    """Ours: beyond it there is no world left to see the motion against."""
    min_depth_spread: float | None = 1.05
    """Ours: rejects flat images."""
    max_depth_spread: float | None = 200.0
    """Ours: beyond it the normalized point map holds a near thing or a far one, not both."""
    max_camera_break: float | None = 0.03
    """SpatialVID: constant-acceleration prediction error on 2 frames in a row."""
    max_turn_break: float | None = 5.0
    """Degrees. Ours, the same for rotation."""
    max_curvature: float | None = 500.0
    """Per median depth. Ours: a median radius below 1/500 of the depth is a camera that trembles in place."""

    def __post_init__(self) -> None:
        for rule in fields(self):
            value = getattr(self, rule.name)
            if value is not None and not np.isfinite(value):
                raise ValueError(f"{rule.name}: expected a number or None, got {value}")


def judge(scores: Scores, rules: Rules = Rules()) -> tuple[str, ...]:
    """Reasons to reject a clip; none = keep it. A score that is not a number breaks every rule on it."""
    reasons = []
    for rule in fields(rules):
        threshold = getattr(rules, rule.name)
        if threshold is None:
            continue
        side, _, score = rule.name.partition("_")
        value = getattr(scores, score)
        title = _TITLES.get(score, score.replace("_", " "))
        if not np.isfinite(value):
            reasons.append(f"{title} is unknown")
        elif side == "min" and value < threshold:
            reasons.append(f"{title} {value:.2f} is below {threshold:.2f}")
        elif side == "max" and value > threshold:
            reasons.append(f"{title} {value:.2f} is above {threshold:.2f}")
    return tuple(reasons)


_TITLES = {
    "finite_share": "share of pixels with depth",
    "confident_share": "share of confident pixels",
    "dynamic_share": "share of moving pixels",
    "depth_spread": "spread of depth",
    "warp_error": "difference to the next frame seen through depth and cameras",
    "camera_break": "break in the camera's path",
    "turn_break": "break in the camera's rotation (degrees)",
    "curvature": "curvature of the camera's path",
}
