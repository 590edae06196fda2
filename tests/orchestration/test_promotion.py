from pathlib import Path

import pytest

from orchestration.promotion import Policy, judge, read_policy, refusal

POLICY = Policy(min_gain={"abs_rel": 0.1}, max_regression={"abs_rel": 0.02}, required_checks=("a:b",))


def report(abs_rel: float | None, gain: float | None) -> dict:
    return {"adapter": {"abs_rel": abs_rel}, "gain": {"abs_rel": gain}}


def refused(challenger: dict, champion: dict | None = None, checked: bool | None = True) -> str:
    return refusal(judge(POLICY, challenger=challenger, champion=champion, checks={"a:b": checked}))


def test_a_first_challenger_needs_gain_and_checks_only():
    assert refused(report(0.2, 0.1)) == ""


def test_the_refusal_names_the_rule_and_its_numbers():
    assert refused(report(0.2, 0.05)) == "gain abs_rel: error 5.0% below the best baseline, required: at least 10.0%"
    assert refused(report(0.2, 0.5), checked=False) == "check a:b: failed"
    assert refused(report(0.2, 0.5), checked=None) == "check a:b: has not run"


def test_a_challenger_may_be_worse_than_the_champion_within_the_tolerance():
    assert refused(report(0.2039, 0.5), champion=report(0.2, 0.5)) == ""
    reason = refused(report(0.2041, 0.5), champion=report(0.2, 0.5))
    assert reason == "regression abs_rel: error 0.2041, the champion's 0.2000, allowed: at most 2.0% higher"


@pytest.mark.parametrize("broken", [report(None, None), report(float("nan"), float("nan")), {}])
def test_missing_or_infinite_numbers_are_never_promoted(broken):
    assert "gain abs_rel" in refused(broken)
    assert "regression abs_rel" in refused(broken, champion=report(0.2, 0.5))


def test_the_policy_of_the_repository_requires_checks_that_exist(orchestration_defs):
    policy = read_policy(Path(__file__).parents[2] / "mlflow" / "promotion.yaml")
    checks = orchestration_defs.resolve_asset_graph().asset_check_keys
    assert set(policy.required_checks) <= {f"{key.asset_key.to_user_string()}:{key.name}" for key in checks}
    assert policy.min_gain and policy.max_regression


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("min_gian: {}", "min_gian"),
        ("min_gain: {abs_rel: much}", "min_gain.abs_rel"),
        ("min_gain: 3", "min_gain"),
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
