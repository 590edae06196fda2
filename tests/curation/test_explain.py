"""Explanations of single clips and the report, for a data set with planted defects."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.planted_defects import write_clips
from fourdnex.cli import main
from fourdnex.curation import Rules, SetRules, curate, explain, explanation_lines, score_shard, write_report
from fourdnex.curation.report import report_data
from fourdnex.datasets.worlds import render_world


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Four worlds: a good one, a copy of it, a dark one, and one with a cut; and the scores of all."""
    root = tmp_path_factory.mktemp("explain")
    good, dark, other = (replace(render_world(seed), annotator="benchmark") for seed in (100_003, 100_004, 100_006))
    clips = [
        replace(good, name="good"),
        replace(good, name="good-copy"),
        replace(dark, name="dark", rgb=dark.rgb // 12),
        replace(other, name="cut", rgb=np.concatenate([other.rgb[:8], good.rgb[8:]])),
    ]
    write_clips(root / "annotated", "clips", clips)
    assert score_shard(root / "annotated", "clips", root / "scores").done == 4
    return root


@pytest.fixture(scope="module")
def report(root):
    return curate(root / "scores", root / "annotated", None, Rules(max_dynamic_share=None))


def test_explanation_names_value_threshold_and_verdict(report):
    explanation = explain(report, "dark")
    checks = {check["rule"]: check for check in explanation["rules"]}
    assert not explanation["accepted"] and checks["min_brightness"]["verdict"] == "rejected"
    assert checks["min_frames"]["verdict"] == "near miss"  # 17 of at least 17
    assert checks["max_noise"]["verdict"] == "passed" and "max_dynamic_share" not in checks
    line = next(line for line in explanation_lines(explanation) if "brightness" in line and "at least" in line)
    assert re.fullmatch(r"  rejected +image +brightness +\d+\.\d+, at least 20", line)


def test_explanation_of_a_duplicate_names_the_clip_that_stays(report):
    assert explain(report, "good")["accepted"] and explain(report, "good")["split"] == "train"
    (entry,) = explain(report, "good-copy")["set"]
    assert entry["reason"] == "duplicate of good" and entry["stage"] == "set"


def test_unknown_clip_is_refused_with_similar_names(report):
    with pytest.raises(ValueError, match="expected the name of a curated clip, got 'godo', similar: good"):
        explain(report, "godo")


def test_report_counts_alone_only_and_together(report):
    data = report_data(report)
    rules = {entry["rule"]: entry for entry in data["rules"]}
    assert (data["clips"], data["accepted"], data["rejected"]) == (4, 1, 3)
    assert rules["max_cut"]["rejected"] == rules["min_brightness"]["rejected"] == 1
    assert rules["duplicate"] == rules["duplicate"] | {"rejected": 1, "only": 1, "remaining": 1}
    assert data["rules"][-1]["remaining"] == data["accepted"]
    remaining = [entry["remaining"] for entry in data["rules"]]
    assert remaining == sorted(remaining, reverse=True)
    for histogram in data["histograms"]:
        assert sum(histogram["counts"]) + histogram["unknown"] == 4 and sum(histogram["accepted"]) <= 1


def test_report_is_one_file_without_requests(report, root, tmp_path):
    page = write_report(report, root / "annotated", tmp_path)
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == text.count("<img") >= 4  # accepted, dark, cut, duplicate
    assert "<script" not in text and "http" not in text and "@import" not in text
    assert json.loads((tmp_path / "report.json").read_text())["accepted"] == 1


def test_command_explains_and_summarizes_by_rule(root, tmp_path, capsys):
    places = ["--annotated", str(root / "annotated"), "--scores", str(root / "scores")]
    table = tmp_path / "curated.parquet"
    assert main(["curate", *places, "--output", str(table), "--explain", "dark"]) == 0
    assert "dark (shard clips): rejected" in capsys.readouterr().out and not table.exists()
    assert main(["curate", *places, "--output", str(table), "--min-brightness", "p50"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "       1  min_brightness" in lines and table.exists() and (tmp_path / "report.html").exists()
    assert main(["curate", "--write-rules", str(tmp_path / "rules.toml"), "--max-cut", "none"]) == 0
    assert (
        main(["curate", *places, "--output", str(table), "--rules", str(tmp_path / "rules.toml"), "--no-report"]) == 0
    )
    assert "max_cut" not in capsys.readouterr().out


def test_changed_version_of_a_stage_computes_that_stage_only(root, tmp_path, monkeypatch):
    import fourdnex.curation.score_tables as score_tables
    from fourdnex.curation.scores import STAGES

    score_shard(root / "annotated", "clips", tmp_path)
    computed = []

    def counting(stage):
        return lambda clip: computed.append((stage.name, clip.name)) or stage.compute(clip)

    stages = [
        replace(stage, compute=counting(stage), version="next" if stage.name == "motion" else stage.version)
        for stage in STAGES
    ]
    monkeypatch.setattr(score_tables, "STAGES", stages)
    assert score_shard(root / "annotated", "clips", tmp_path).done == 4
    assert computed == [("motion", name) for name in ("good", "good-copy", "dark", "cut")]
    assert score_shard(root / "annotated", "clips", tmp_path).cached == 4 and len(computed) == 4


def test_quotas_and_splits_are_applied(root):
    with pytest.raises(ValueError, match=r"quotas: (indoor|outdoor): quota 0\.2"):
        tags = explain(curate(root / "scores", root / "annotated", None), "good")["tags"]
        place = "indoor" if "indoor" in tags else "outdoor"
        curate(root / "scores", root / "annotated", None, set_rules=SetRules(quotas={place: 0.2}))
    splits = curate(root / "scores", root / "annotated", None, set_rules=SetRules(splits={"test": 1.0})).table["split"]
    assert splits.tolist() == ["test", "", "", ""]
