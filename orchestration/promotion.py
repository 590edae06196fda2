"""Decides whether a challenger becomes champion, by the named rules of `mlflow/promotion.yaml`."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Conditions for promotion; all must hold. Metrics are errors: lower is better.

    Raises:
        ValueError: a share is not a finite number.
    """

    min_gain: dict[str, float] = field(default_factory=dict)
    """Metric -> min relative reduction of the error compared to the best baseline."""
    max_regression: dict[str, float] = field(default_factory=dict)
    """Metric -> max relative increase of the error compared to the present champion."""
    required_checks: tuple[str, ...] = ()
    """Asset checks, "asset:check", whose latest result must be a pass."""

    def __post_init__(self) -> None:
        for name in ("min_gain", "max_regression"):
            for metric, value in getattr(self, name).items():
                if not isinstance(value, (int, float)) or not math.isfinite(value):
                    raise ValueError(f"{name}.{metric}: expected a finite number, got {value!r}")


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
    unknown = set(content) - set(Policy.__dataclass_fields__)
    if unknown:
        raise ValueError(f"{path}: expected {sorted(Policy.__dataclass_fields__)}, got {sorted(unknown)}")
    for name in ("min_gain", "max_regression"):
        if not isinstance(content.get(name, {}), dict):
            raise ValueError(f"{path}: {name}: expected a mapping of metric to share, got {content[name]!r}")
    checks = content.pop("required_checks", [])
    if not isinstance(checks, list) or not all(isinstance(check, str) for check in checks):
        raise ValueError(f"{path}: required_checks: expected a list of asset:check, got {checks!r}")
    return Policy(required_checks=tuple(checks), **content)


def judge(
    policy: Policy,
    *,
    challenger: Mapping[str, Any],
    champion: Mapping[str, Any] | None,
    checks: Mapping[str, bool | None],
) -> list[Rule]:
    """Apply a policy to the evaluation report of a challenger, which may be promoted if every rule passed.

    A metric that is missing from a report, or not finite, fails its rule.

    Args:
        champion: the report of the present champion; None skips the regression rules.
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
    for metric, threshold in policy.max_regression.items():
        if champion is None:
            continue
        new, old = (_number(report.get("adapter", {}).get(metric)) for report in (challenger, champion))
        detail = f"error {new:.4f}, the champion's {old:.4f}, allowed: at most {threshold:.1%} higher"
        rules.append(Rule(name=f"regression {metric}", passed=new <= old * (1 + threshold), detail=detail))
    return rules


def refusal(rules: list[Rule]) -> str:
    """The failed rules with their details; empty if the challenger may be promoted."""
    return "; ".join(f"{rule.name}: {rule.detail}" for rule in rules if not rule.passed)


def _number(value: Any) -> float:
    """A finite number, or NaN."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else math.nan
