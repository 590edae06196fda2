"""Decides whether a challenger becomes champion, by the named rules of `mlflow/promotion.yaml`."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fourdnex.evaluation.comparison import compare


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Conditions for promotion; all must hold. Metrics are errors: lower is better.

    Raises:
        ValueError: a number is missing or out of range.
    """

    min_gain: dict[str, float] = field(default_factory=dict)
    """Metric -> min relative reduction of the error compared to the best baseline."""
    confidence: float = 0.95
    """Confidence of the interval of the comparison with the best champion so far, world by world."""
    margin: float | None = None
    """None: a challenger must be better than the best champion, with the whole interval. A share: it may be worse, if
    the whole interval is below this relative increase of the error."""
    min_length_ratio: float = 0.0
    """Min length of the camera path relative to the true one, median over the worlds with a moving camera."""
    required_checks: tuple[str, ...] = ()
    """Asset checks, "asset:check", whose latest result must be a pass."""

    def __post_init__(self) -> None:
        for metric, value in self.min_gain.items():
            if not _is_number(value):
                raise ValueError(f"min_gain.{metric}: expected a finite number, got {value!r}")
        if not _is_number(self.confidence) or not 0 < self.confidence < 1:
            raise ValueError(f"confidence: expected a number between 0 and 1, got {self.confidence!r}")
        if self.margin is not None and (not _is_number(self.margin) or self.margin < 0):
            raise ValueError(f"margin: expected null or a share of at least 0, got {self.margin!r}")
        if not _is_number(self.min_length_ratio):
            raise ValueError(f"min_length_ratio: expected a finite number, got {self.min_length_ratio!r}")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The outcome of one condition."""

    name: str
    passed: bool
    detail: str
    """The numbers that were compared."""


def read_policy(path: str | os.PathLike[str]) -> Policy:
    """Read a policy file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not YAML, or a field is unknown or malformed; the message names the field.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML, got {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping, got {content!r}")
    if "max_regression" in content:
        raise ValueError(
            f"{path}: max_regression: challengers are compared with the best champion world by world now: set margin"
        )
    unknown = set(content) - set(Policy.__dataclass_fields__)
    if unknown:
        raise ValueError(f"{path}: expected {sorted(Policy.__dataclass_fields__)}, got {sorted(unknown)}")
    if not isinstance(content.get("min_gain", {}), dict):
        raise ValueError(f"{path}: min_gain: expected a mapping of metric to share, got {content['min_gain']!r}")
    checks = content.pop("required_checks", [])
    if not isinstance(checks, list) or not all(isinstance(check, str) for check in checks):
        raise ValueError(f"{path}: required_checks: expected a list of asset:check, got {checks!r}")
    return Policy(required_checks=tuple(checks), **content)


def judge(
    policy: Policy,
    *,
    challenger: Mapping[str, Any],
    best: Mapping[str, Any] | None,
    checks: Mapping[str, bool | None],
) -> list[Rule]:
    """Apply a policy to the evaluation report of a challenger, which may be promoted if every rule passed.

    A metric that is missing from a report, or not finite, fails its rule.

    Args:
        best: report of the best champion so far on the same benchmark; None: there is none to compare with.
        checks: "asset:check" -> whether its latest result was a pass; None if it has not run.
    """
    rules = []
    for check in policy.required_checks:
        passed = checks.get(check)
        outcome = "passed" if passed else "has not run" if passed is None else "failed"
        rules.append(Rule(name=f"check {check}", passed=bool(passed), detail=outcome))
    for metric, threshold in policy.min_gain.items():
        gain = _number(challenger.get("gain", {}).get(metric))
        detail = f"error {gain:.1%} below the best baseline, required: at least {threshold:.1%}"
        rules.append(Rule(name=f"gain {metric}", passed=gain >= threshold, detail=detail))
    if policy.min_length_ratio:
        length = _number(challenger.get("adapter", {}).get("length_ratio"))
        detail = f"camera path {length:.2f} of the true length, required: at least {policy.min_length_ratio:.2f}"
        rules.append(Rule(name="length", passed=length >= policy.min_length_ratio, detail=detail))
    if best is not None:
        rules.append(_comparison(policy, challenger, best))
    return rules


def _comparison(policy: Policy, challenger: Mapping[str, Any], best: Mapping[str, Any]) -> Rule:
    """The comparison with the best champion, world by world."""
    try:
        found = compare(challenger.get("worlds") or {}, best.get("worlds") or {}, confidence=policy.confidence)
    except ValueError as error:
        return Rule(name="comparison", passed=False, detail=str(error))
    if policy.margin is None:
        return Rule(name="comparison", passed=found.is_better, detail=f"{found}, required: all of it below 0%")
    detail = f"{found}, required: all of it below {policy.margin:+.1%}"
    return Rule(name="comparison", passed=found.is_not_worse(policy.margin), detail=detail)


def refusal(rules: list[Rule]) -> str:
    """The failed rules with their details; empty if the challenger may be promoted."""
    return "; ".join(f"{rule.name}: {rule.detail}" for rule in rules if not rule.passed)


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _number(value: Any) -> float:
    """A finite number, or NaN."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else math.nan
