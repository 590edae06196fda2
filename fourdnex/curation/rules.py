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
    """Min share of pixels with valid depth. The fusion models supervise every pixel, so holes must be rare."""
    min_mean_confidence: float | None = 0.15
    """Min mean confidence (MCV of 4DNeX). Exact clips have 1; stereo has about 0.2 indoors."""
    min_confident_share: float | None = 0.15
    """Min share of pixels with confidence of at least 0.5 (HCPR of 4DNeX)."""
    min_brightness: float | None = 20.0
    """Min mean luminance, 0..255 (the threshold of SpatialVID)."""
    max_brightness: float | None = 210.0
    """Max mean luminance, 0..255. SpatialVID uses 140, which is tuned for film and rejects rooms with white walls."""
    min_contrast: float | None = 5.0
    """Min standard deviation of luminance, 0..255. Rejects blank images."""
    min_motion: float | None = 0.1
    """Min mean change between frames, 0..255. Rejects static clips. SpatialVID uses 2 at full rate and resolution."""
    max_motion: float | None = 30.0
    """Max mean change between frames, 0..255. SpatialVID uses 14 for consecutive frames; clips here may skip frames."""
    max_warp_error: float | None = 12.0
    """Max luminance difference to the next frame warped by depth and cameras; replaces the paper's flow alignment."""
    max_dynamic_share: float | None = 0.7
    """Max share of dynamic pixels. Motion needs a static background as reference."""
    min_depth_spread: float | None = 1.05
    """Min ratio of far (95th percentile) to near (5th percentile) depth. Rejects flat scenes."""
    max_depth_spread: float | None = 200.0
    """Max ratio of far to near depth. Beyond it the normalized point map resolves near or far objects, not both."""
    max_camera_break: float | None = 0.03
    """Max deviation of the camera position from constant acceleration, median depths (threshold of SpatialVID)."""
    max_turn_break: float | None = 5.0
    """Max deviation of the camera rotation from constant acceleration, degrees."""
    max_curvature: float | None = 500.0
    """Max curvature of the camera path, 1 / median depth. Rejects cameras that jitter in place."""

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
