"""Paired comparison of two adapters, world by world.

For each world, the log-ratio of the errors of both adapters is averaged over the metrics. The mean over the worlds and
its confidence interval, by bias-corrected and accelerated bootstrap (Efron, 1987), say how much better one adapter is:
worlds differ far more from each other than two adapters do on one world, so the difference of means over 64 worlds
alone says little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

METRICS = ("abs_rel", "chamfer")
"""Metrics that are compared; lower is better."""
MIN_WORLDS = 8
"""Fewer worlds allow no interval."""
_RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How the errors of an adapter compare with those of a reference."""

    num_worlds: int
    confidence: float
    """Of the interval from `low` to `high`."""
    ratio: float
    """Geometric mean over worlds and metrics of the adapter's error divided by the reference's."""
    low: float
    high: float
    by_metric: Mapping[str, float]
    """Metric -> ratio of errors, geometric mean over the worlds."""

    @property
    def is_better(self) -> bool:
        """Whether the whole interval is below 1."""
        return self.high < 1

    def is_not_worse(self, margin: float) -> bool:
        """Whether the whole interval is below 1 + `margin`."""
        return self.high < 1 + margin

    def __str__(self) -> str:
        """The comparison in words."""
        interval = f"{self.confidence:.0%} interval {self.low - 1:+.1%} to {self.high - 1:+.1%}"
        return f"error {self.ratio - 1:+.1%} ({interval}, {self.num_worlds} worlds)"


def compare(
    worlds: Mapping[str, Mapping[str, Any]],
    reference: Mapping[str, Mapping[str, Any]],
    *,
    metrics: Sequence[str] = METRICS,
    confidence: float = 0.95,
) -> Comparison:
    """Compare the errors of an adapter with those of a reference on the same worlds. Deterministic.

    Args:
        worlds: world -> metric -> error of the adapter, as in the `worlds` of an evaluation report.
        reference: the same of the reference.
        metrics: metrics to compare; lower is better.
        confidence: of the two-sided interval.

    Raises:
        ValueError: the worlds differ or are too few, an error is missing or not positive, or a setting is invalid.
    """
    from scipy.stats import bootstrap

    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1, got {confidence}")
    if set(worlds) != set(reference):
        different = sorted(set(worlds) ^ set(reference))
        raise ValueError(f"worlds: expected the same for both, {len(different)} are of one only: {different[0]}, ...")
    if len(worlds) < MIN_WORLDS:
        raise ValueError(f"worlds: expected at least {MIN_WORLDS}, got {len(worlds)}")
    names = sorted(worlds)
    ratios = np.array([[_log_ratio(metric, name, worlds, reference) for metric in metrics] for name in names])
    means = ratios.mean(axis=1)
    if np.ptp(means) == 0:
        low = high = float(means[0])
    else:
        found = bootstrap(
            (means,), np.mean, confidence_level=confidence, n_resamples=_RESAMPLES, method="BCa", rng=0
        ).confidence_interval
        low, high = float(found.low), float(found.high)
    return Comparison(
        num_worlds=len(names),
        confidence=confidence,
        ratio=math.exp(means.mean()),
        low=math.exp(low),
        high=math.exp(high),
        by_metric={metric: math.exp(value) for metric, value in zip(metrics, ratios.mean(axis=0), strict=True)},
    )


def mean_log_error(worlds: Mapping[str, Mapping[str, Any]], metrics: Sequence[str] = METRICS) -> float:
    """Mean logarithm of the errors over worlds and metrics: the lower, the better."""
    return float(np.mean([math.log(errors[metric]) for errors in worlds.values() for metric in metrics]))


def _log_ratio(
    metric: str,
    name: str,
    worlds: Mapping[str, Mapping[str, Any]],
    reference: Mapping[str, Mapping[str, Any]],
) -> float:
    """Logarithm of the ratio of both errors on one world."""
    values = []
    for own in (worlds, reference):
        value = own[name].get(metric)
        if not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
            raise ValueError(f"{name}: {metric}: expected a positive error, got {value!r}")
        values.append(math.log(value))
    return values[0] - values[1]
