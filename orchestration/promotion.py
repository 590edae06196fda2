"""May a challenger become champion? The policy is `mlflow/promotion.yaml`, the decision a list of named rules."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Conditions that all must hold. Metrics are errors: smaller is better.

    Raises:
        ValueError: a share is not a finite number.
    """

    min_gain: dict[str, float] = field(default_factory=dict)
    """Metric -> least share by which the adapter's error must lie below the best baseline's."""
    max_regression: dict[str, float] = field(default_factory=dict)
    """Metric -> largest share by which the adapter's error may lie above the present champion's."""
    required_checks: tuple[str, ...] = ()
    """Asset checks, "asset:check", whose latest result must be a pass."""

    def __post_init__(self) -> None:
        for name in ("min_gain", "max_regression"):
            for metric, value in getattr(self, name).items():
                if not isinstance(value, (int, float)) or not math.isfinite(value):
                    raise ValueError(f"{name}.{metric}: expected a number, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One condition with its numbers."""

    name: str
    passed: bool
    detail: str


def read_policy(path: str | os.PathLike[str]) -> Policy:
    """Read a policy file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not YAML, or holds an unknown or malformed field; the message names it.
    """
    import yaml

    try:
        given = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML, got {error}") from error
    if not isinstance(given, dict):
        raise ValueError(f"{path}: expected a mapping, got {given!r}")
    unknown = set(given) - set(Policy.__dataclass_fields__)
    if unknown:
        raise ValueError(f"{path}: expected {sorted(Policy.__dataclass_fields__)}, got {sorted(unknown)}")
    for name in ("min_gain", "max_regression"):
        if not isinstance(given.get(name, {}), dict):
            raise ValueError(f"{path}: {name}: expected metric: share, got {given[name]!r}")
    checks = given.pop("required_checks", [])
    if not isinstance(checks, list) or not all(isinstance(check, str) for check in checks):
        raise ValueError(f"{path}: required_checks: expected a list of asset:check, got {checks!r}")
    return Policy(required_checks=tuple(checks), **given)


def judge(
    policy: Policy,
    *,
    challenger: Mapping[str, Any],
    champion: Mapping[str, Any] | None,
    checks: Mapping[str, bool | None],
) -> list[Rule]:
    """Hold two evaluation reports against the policy; the challenger may be promoted when every rule passed.

    `checks` says for "asset:check" whether its latest result was a pass (None: it has not run). Without a champion
    no regression is possible. A metric that a report lacks, or that is not finite, fails its rule.
    """
    rules = []
    for check in policy.required_checks:
        passed = checks.get(check)
        found = "passed" if passed else "has not run" if passed is None else "failed"
        rules.append(Rule(name=f"check {check}", passed=bool(passed), detail=found))
    for metric, least in policy.min_gain.items():
        gain = _number(challenger.get("gain", {}).get(metric))
        detail = f"error {gain:.1%} below the best baseline, at least {least:.1%} asked"
        rules.append(Rule(name=f"gain {metric}", passed=gain >= least, detail=detail))
    for metric, most in policy.max_regression.items():
        if champion is None:
            continue
        ours, theirs = (_number(report.get("adapter", {}).get(metric)) for report in (challenger, champion))
        detail = f"{ours:.4f} against the champion's {theirs:.4f}, at most {most:.1%} worse allowed"
        rules.append(Rule(name=f"regression {metric}", passed=ours <= theirs * (1 + most), detail=detail))
    return rules


def refusal(rules: list[Rule]) -> str:
    """The rules that failed, in words; empty when the challenger may be promoted."""
    return "; ".join(f"{rule.name}: {rule.detail}" for rule in rules if not rule.passed)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else math.nan
