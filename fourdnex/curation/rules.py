"""Rules that accept or reject a clip by its scores, with the reasons."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from fourdnex.curation.scores import Scores


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Thresholds of curation: `min_x` rejects clips with score x below it, `max_x` above it; None disables the rule.

    The 4DNeX paper names the filters but gives no thresholds. Thresholds that are not attributed to SpatialVID are
    specific to this implementation.

    Raises:
        ValueError: a threshold is not finite.
    """

    min_finite_share: float | None = 0.9
    """Share of pixels with valid depth. The fusion models supervise every pixel, so holes must be rare."""
    min_mean_confidence: float | None = 0.15
    """MCV of 4DNeX. Exact clips have 1; stereo, confident only on texture, has about 0.2 indoors."""
    min_confident_share: float | None = 0.15
    """HCPR of 4DNeX. Low for the same reason as `min_mean_confidence`."""
    min_brightness: float | None = 20.0
    """Threshold of SpatialVID."""
    max_brightness: float | None = 210.0
    """SpatialVID uses 140, which is tuned for film and rejects rooms with white walls."""
    min_contrast: float | None = 5.0
    """Rejects blank images."""
    min_motion: float | None = 0.1
    """Rejects static clips. SpatialVID uses 2 at full frame rate and resolution."""
    max_motion: float | None = 30.0
    """SpatialVID uses 14 between consecutive frames of film; clips here may skip frames."""
    max_warp_error: float | None = 12.0
    """In luminance. Requires depth and cameras to explain the video; replaces the flow alignment of the paper."""
    max_dynamic_share: float | None = 0.7
    """Requires static background next to the moving objects."""
    min_depth_spread: float | None = 1.05
    """Rejects flat scenes."""
    max_depth_spread: float | None = 200.0
    """Rejects depth ranges that the normalized point map cannot resolve."""
    max_camera_break: float | None = 0.03
    """Threshold of SpatialVID on the constant-acceleration prediction error of 2 consecutive frames."""
    max_turn_break: float | None = 5.0
    """In degrees: the same error for the rotation."""
    max_curvature: float | None = 500.0
    """In 1 / median depth. Rejects jitter: the median radius of curvature must be at least 1/500 of the depth."""

    def __post_init__(self) -> None:
        for rule in fields(self):
            value = getattr(self, rule.name)
            if value is not None and not np.isfinite(value):
                raise ValueError(f"{rule.name}: expected a finite number or None, got {value}")


def rejection_reasons(scores: Scores, rules: Rules = Rules()) -> tuple[str, ...]:
    """Reasons to reject a clip, one per violated rule; empty = accepted. A NaN score violates every rule on it."""
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
    "warp_error": "warp error to the next frame",
    "camera_break": "discontinuity of the camera path",
    "turn_break": "discontinuity of the camera rotation (degrees)",
    "curvature": "curvature of the camera path",
}
