"""Decisions on all clips at once: thresholds of the data set, violated rules, reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from fourdnex.curation.rules import (
    AGREEMENT_SCORES,
    RULE_STAGES,
    Rules,
    Threshold,
    percentile_of,
    reason_text,
    split_rule,
    thresholds_of,
)
from fourdnex.curation.scores import OPTIONAL_SCORES

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class ResolvedRule:
    """A rule with its threshold for one data set."""

    name: str
    stage: str
    threshold: float
    setting: Threshold
    """The threshold as set: a percentile such as "p5", or the number itself."""

    @property
    def score(self) -> str:
        """Score that the rule is on."""
        return split_rule(self.name)[1]


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """Violations of many clips, one entry per violated rule, ordered by clip and within a clip by rule."""

    clips: np.ndarray  # [V] position of the clip
    rules: np.ndarray  # [V] str
    stages: np.ndarray  # [V] str
    values: np.ndarray  # [V] float, NaN where unknown
    thresholds: np.ndarray  # [V] float, NaN for rules without one
    reasons: np.ndarray  # [V] str

    def per_clip(self, entries: np.ndarray, count: int) -> list[list[object]]:
        """Entries of each of `count` clips as lists; clips without any share one empty list."""
        lists: list[list[object]] = [[]] * count
        starts = np.flatnonzero(np.diff(self.clips, prepend=-1)).tolist()
        values = entries.tolist()
        for clip, (start, end) in zip(self.clips[starts].tolist(), pairwise([*starts, len(values)]), strict=True):
            lists[clip] = values[start:end]
        return lists


def resolve(rules: Rules, table: pd.DataFrame) -> list[ResolvedRule]:
    """The rules that are on, in the order of the stages, with percentiles computed over the scores of a table.

    A percentile of a score that no clip has is left out.
    """
    resolved = []
    for name, setting in thresholds_of(rules).items():
        percentile = percentile_of(setting)
        if percentile is None:
            threshold = float(setting)  # type: ignore[arg-type]  # a number: `Rules` has parsed it
        else:
            values = table[split_rule(name)[1]].to_numpy()
            values = values[np.isfinite(values)]
            if not len(values):
                continue
            threshold = float(np.percentile(values, percentile))
        resolved.append(ResolvedRule(name=name, stage=RULE_STAGES[name], threshold=threshold, setting=setting))
    return resolved


def violations(rules: Sequence[ResolvedRule], table: pd.DataFrame) -> np.ndarray:
    """Which clip violates which rule, [R, N] bool. NaN violates, except for scores of optional stages.

    Rules on the agreement of annotation and video do not apply to clips of the annotator "exact".
    """
    result = np.zeros((len(rules), len(table)), bool)
    for row, rule in zip(result, rules, strict=True):
        values = table[rule.score].to_numpy()
        with np.errstate(invalid="ignore"):
            row[:] = values < rule.threshold if rule.name.startswith("min_") else values > rule.threshold
        if rule.score not in OPTIONAL_SCORES:
            row |= np.isnan(values)
        if rule.score in AGREEMENT_SCORES:
            row &= (table["annotator"] != "exact").to_numpy(bool)
    return result


def collect(parts: Sequence[Decisions]) -> Decisions:
    """Decisions of several kinds as one, ordered by clip; within a clip in the order of the parts."""
    clips = np.concatenate([part.clips for part in parts])
    order = clips.argsort(kind="stable")

    def joined(name: str) -> np.ndarray:
        """One column of all parts in order."""
        return np.concatenate([getattr(part, name) for part in parts])[order]

    return Decisions(
        clips=clips[order],
        rules=joined("rules"),
        stages=joined("stages"),
        values=joined("values"),
        thresholds=joined("thresholds"),
        reasons=joined("reasons"),
    )


def rule_decisions(rules: Sequence[ResolvedRule], violated: np.ndarray, table: pd.DataFrame) -> Decisions:
    """Decisions of the rules on scores, from their violations [R, N]."""
    parts = []
    for rule, row in zip(rules, violated, strict=True):
        clips = np.flatnonzero(row)
        values = table[rule.score].to_numpy()[clips]
        reasons = [reason_text(rule.name, value, rule.threshold) for value in values.tolist()]
        parts.append(other_decisions(clips, rule.name, rule.stage, reasons, values, rule.threshold))
    return collect(parts or [other_decisions(np.zeros(0, int), "", "", [])])


def other_decisions(
    clips: np.ndarray,
    rule: str,
    stage: str,
    reasons: Sequence[str],
    values: np.ndarray | float = float("nan"),
    threshold: float = float("nan"),
) -> Decisions:
    """Decisions of one rule on the clips at positions [V], with their reasons."""
    count = len(clips)
    return Decisions(
        clips=clips,
        rules=np.full(count, rule, object),
        stages=np.full(count, stage, object),
        values=np.broadcast_to(np.asarray(values, np.float64), count),
        thresholds=np.full(count, threshold),
        reasons=np.array(list(reasons), object),
    )
