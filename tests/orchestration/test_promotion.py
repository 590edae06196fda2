from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orchestration.promotion import Policy, judge, read_policy, refusal

POLICY = Policy(min_gain={"abs_rel": 0.1}, min_length_ratio=0.5, required_checks=("a:b",))


def worlds(factor: float = 1.0, spread: float = 0.0, count: int = 32) -> dict:
    """Errors by world: of the same difficulty for all models, times a factor and noise."""
    noise = np.random.default_rng(7).normal(0, spread, count)
    values = 0.1 * (1 + np.arange(count) % 5) * factor * np.exp(noise - noise.mean())
    return {f"w{k}": dict.fromkeys(("abs_rel", "chamfer"), float(value)) for k, value in enumerate(values)}


def report(factor: float = 1.0, gain: float | None = 0.5, length: float | None = 0.9, **options) -> dict:
    adapter = {"abs_rel": factor, "length_ratio": length}
    return {"adapter": adapter, "gain": {"abs_rel": gain}, "worlds": worlds(factor, **options)}


def refused(challenger: dict, best: dict | None = None, checked: bool | None = True, policy: Policy = POLICY) -> str:
    return refusal(judge(policy, challenger=challenger, best=best, checks={"a:b": checked}))


def test_a_first_challenger_needs_gain_length_and_checks_only():
    assert refused(report(gain=0.1)) == ""


def test_the_refusal_names_the_rule_and_its_numbers():
    text = "gain abs_rel: error 5.0% below the best baseline, required: at least 10.0%"
    assert refused(report(gain=0.05)) == text
    assert refused(report(length=0.3)) == "length: camera path 0.30 of the true length, required: at least 0.50"
    assert refused(report(), checked=False) == "check a:b: failed"
    assert refused(report(), checked=None) == "check a:b: has not run"


def test_a_challenger_must_be_better_with_the_whole_interval():
    assert refused(report(0.9, spread=0.1), best=report()) == ""
    reason = refused(report(1.0, spread=0.1), best=report())
    assert reason.startswith("comparison: error ") and "32 worlds), required: all of it below 0%" in reason
    assert "comparison" in refused(report(1.0), best=report()), "equal"


def test_with_a_margin_it_may_be_worse_if_that_is_proved():
    policy = replace(POLICY, margin=0.05)
    assert refused(report(1.01, spread=0.01), best=report(), policy=policy) == ""
    assert "below +5.0%" in refused(report(1.02, spread=0.3), best=report(), policy=policy), "too uncertain"
    assert "comparison" in refused(report(1.08), best=report(), policy=policy)


def test_reports_of_other_worlds_are_not_compared():
    assert "worlds: expected the same for both" in refused(report(0.5), best=report(count=31))
    assert "comparison" in refused({**report(0.5), "worlds": None}, best=report())


@pytest.mark.parametrize("broken", [report(gain=None, length=None), report(gain=float("nan")), {}])
def test_missing_or_infinite_numbers_are_never_promoted(broken):
    assert "gain abs_rel" in refused(broken)


def test_the_policy_of_the_repository_requires_checks_that_exist(orchestration_defs):
    policy = read_policy(Path(__file__).parents[2] / "mlflow" / "promotion.yaml")
    checks = orchestration_defs.resolve_asset_graph().asset_check_keys
    assert set(policy.required_checks) <= {f"{key.asset_key.to_user_string()}:{key.name}" for key in checks}
    assert policy.min_gain and policy.margin is None and policy.min_length_ratio > 0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("min_gian: {}", "min_gian"),
        ("min_gain: {abs_rel: much}", "min_gain.abs_rel"),
        ("min_gain: 3", "min_gain"),
        ("confidence: 1.5", "confidence"),
        ("margin: -0.1", "margin"),
        ("min_length_ratio: long", "min_length_ratio"),
        ("max_regression: {abs_rel: 0.02}", "max_regression: .* set margin"),
        ("required_checks: evaluation", "required_checks"),
        ("- 1", "mapping"),
        ("{", "YAML"),
    ],
)
def test_a_malformed_policy_names_the_field(tmp_path, text, named):
    path = tmp_path / "promotion.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=named):
        read_policy(path)
