"""Rules, percentiles, the rules file and explanations."""

import numpy as np
import pandas as pd
import pytest

from fourdnex.curation import Rules, SetRules, read_rules, write_rules
from fourdnex.curation.decisions import resolve, rule_decisions, violations
from fourdnex.curation.rules import RULE_STAGES
from fourdnex.curation.scores import OPTIONAL_SCORES, SCORES
from fourdnex.curation.set_rules import DuplicateRules


def table(**columns: list[float]) -> pd.DataFrame:
    """Scores that pass every rule, but for the given columns."""
    count = len(next(iter(columns.values())))
    passing = dict.fromkeys(SCORES, 0.0) | {
        "frames": 17, "brightness": 100, "contrast": 40, "sharpness": 1, "motion": 4, "finite_share": 1,
        "least_finite_share": 1, "mean_confidence": 1, "confident_share": 1, "field_of_view": 60, "depth_spread": 4,
    }  # fmt: skip
    values = {score: np.full(count, float(value)) for score, value in passing.items()}
    return pd.DataFrame(values | columns | {"annotator": "sfm"})


def test_every_rule_belongs_to_a_score_and_a_stage():
    assert {rule.split("_", 1)[1] for rule in RULE_STAGES} <= set(SCORES)
    assert {rule.split("_", 1)[0] for rule in RULE_STAGES} == {"min", "max"}


def test_percentile_thresholds_are_those_of_the_data_set():
    scores = table(sharpness=[*np.arange(0.0, 1.01, 0.01), float("nan")])
    rules = resolve(Rules(min_sharpness="p10", max_flow_error=None), scores)
    (rule,) = [rule for rule in rules if rule.name == "min_sharpness"]
    assert rule.threshold == pytest.approx(0.1) and rule.setting == "p10"
    assert "max_flow_error" not in {rule.name for rule in rules}
    # The ten values 0 to 0.09 are below, and the unknown one violates.
    assert violations([rule], scores).sum() == 11


def test_decisions_name_rule_stage_value_threshold_and_reason():
    scores = table(brightness=[100.0, 5.0], shake=[9.0, 0.0])
    rules = resolve(Rules(), scores)
    decisions = rule_decisions(rules, violations(rules, scores), scores)
    assert decisions.clips.tolist() == [0, 1]
    assert decisions.rules.tolist() == ["max_shake", "min_brightness"]
    assert decisions.stages.tolist() == ["motion", "image"]
    assert decisions.values.tolist() == [9, 5] and decisions.thresholds.tolist() == [3.5, 20]
    assert decisions.reasons.tolist() == ["shake 9.00 is above 3.50", "brightness 5.00 is below 20.00"]
    assert decisions.per_clip(decisions.rules, 3) == [["max_shake"], ["min_brightness"], []]


def test_optional_scores_that_are_missing_reject_nothing():
    assert OPTIONAL_SCORES == ("text_share",)
    scores = table(text_share=[float("nan"), 0.5])
    rules = resolve(Rules(), scores)
    assert violations(rules, scores).any(axis=0).tolist() == [False, True]


def test_agreement_does_not_judge_exact_geometry():
    scores = table(flow_error=[9.0, 9.0]).assign(annotator=["sfm", "exact"])
    rules = resolve(Rules(), scores)
    assert violations(rules, scores).any(axis=0).tolist() == [True, False]


@pytest.mark.parametrize("value", ["dark", "p101", "pp", True])
def test_thresholds_of_another_form_are_refused(value):
    with pytest.raises(ValueError, match=r'min_brightness: expected a number, a percentile such as "p5" or none, got'):
        Rules(min_brightness=value)


def test_texts_of_the_command_line_are_parsed():
    rules = Rules(min_brightness="30", max_brightness="none", min_sharpness="p5")
    assert (rules.min_brightness, rules.max_brightness, rules.min_sharpness) == (30.0, None, "p5")


def test_written_rules_are_read_back(tmp_path):
    rules = Rules(min_brightness=31.5, max_shake=None, min_sharpness="p2.5")
    set_rules = SetRules(
        duplicates=DuplicateRules(max_distance=None), quotas={"indoor": 0.25}, splits={"train": 0.9, "test": 0.1}
    )
    write_rules(tmp_path / "rules.toml", rules, set_rules)
    assert read_rules(tmp_path / "rules.toml") == (rules, set_rules)
    assert read_rules(tmp_path / "rules.toml", min_brightness=12.0)[0].min_brightness == 12
    with pytest.raises(FileExistsError, match="expected no such file"):
        write_rules(tmp_path / "rules.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[image]\nmin_brigthness = 3", r"\[image\]: expected min_frames, .*, got min_brigthness"),
        ("[images]\nmin_brightness = 3", "expected the tables image, text, .*, got 'images'"),
        ("image = 3", "image: expected a table, got 3"),
        ("[image\n", "expected TOML"),
        ("[motion]\nmin_motion = 'low'", "min_motion: expected a number"),
        ("[quotas]\nsunny = 0.3", "quotas: expected any of indoor, .*, got 'sunny'"),
        ("[quotas]\nindoor = 1.5", "quotas: indoor: expected a share below 1 or a number of clips, got 1.5"),
        ("[splits]\ntrain = 0.5", "splits: expected shares that sum to 1"),
        ("[tags]\nmin_speed = -1", "min_speed: expected a finite number of at least 0, got -1"),
    ],
)
def test_errors_in_a_rules_file_are_named(tmp_path, text, message):
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(ValueError, match=f"rules.toml: {message}"):
        read_rules(tmp_path / "rules.toml")
