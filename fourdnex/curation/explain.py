"""Why a clip is accepted or rejected: every rule with its value, threshold and verdict."""

from __future__ import annotations

import math

from fourdnex.curation.curated import CurationReport
from fourdnex.curation.decisions import ResolvedRule
from fourdnex.curation.rules import AGREEMENT_SCORES, split_rule, title, violates
from fourdnex.curation.scores import OPTIONAL_SCORES

NEAR = 0.1
"""A rule is nearly violated if the value is within this share of the threshold."""


def explain(report: CurationReport, name: str) -> dict[str, object]:
    """Decisions on one clip: its verdict and reasons, and for every rule the value, threshold and verdict.

    The verdict of a rule is "passed", "near miss", "rejected" or "not measured".

    Raises:
        ValueError: there is no clip of this name; the message lists similar ones.
    """
    found = report.table[report.table["name"] == name]
    if not len(found):
        from difflib import get_close_matches

        similar = get_close_matches(name, report.table["name"].head(100_000).tolist(), n=3)
        hint = f", similar: {', '.join(similar)}" if similar else ""
        raise ValueError(f"explain: expected the name of a curated clip, got {name!r}{hint}")
    row = found.iloc[0]
    # A clip without an annotation has no score at all; its single reason says why.
    was_scored = not math.isnan(row["frames"])
    exact = row["annotator"] == "exact"
    rules = [rule for rule in report.rules if not (exact and rule.score in AGREEMENT_SCORES)]
    checks = [_check(rule, float(row[rule.score])) for rule in rules] if was_scored else []
    of_set = [
        {"rule": rule, "stage": stage, "threshold": None if math.isnan(threshold) else threshold, "reason": reason}
        for rule, stage, threshold, reason in zip(
            row["rules"], row["stages"], row["thresholds"], row["reasons"], strict=True
        )
        if rule not in {check["rule"] for check in checks}
    ]
    return {
        "name": name,
        "shard": row["shard"],
        "accepted": bool(row["accepted"]),
        "split": row["split"],
        "tags": list(row["tags"]),
        "reasons": list(row["reasons"]),
        "rules": checks,
        "set": of_set,
    }


def explanation_lines(explanation: dict[str, object]) -> list[str]:
    """An explanation as aligned lines for people."""
    verdict = "accepted" if explanation["accepted"] else "rejected"
    tags = ", ".join(explanation["tags"]) or "no tag"  # type: ignore[arg-type]
    split = f", split {explanation['split']}" if explanation["split"] else ""
    lines = [f"{explanation['name']} (shard {explanation['shard']}): {verdict}{split}; {tags}"]
    for check in explanation["rules"]:  # type: ignore[attr-defined]
        value = "unknown" if check["value"] is None else f"{check['value']:.4g}"
        side = "at least" if check["rule"].startswith("min_") else "at most"
        setting = f" ({check['setting']})" if isinstance(check["setting"], str) else ""
        limit = f"{side} {check['threshold']:.4g}{setting}"
        lines.append(f"  {check['verdict']:<12}  {check['stage']:<8}  {check['title']:<48} {value:>9}, {limit}")
    lines += [f"  {'rejected':<12}  {entry['stage']:<8}  {entry['reason']}" for entry in explanation["set"]]  # type: ignore[attr-defined]
    return lines


def _check(rule: ResolvedRule, value: float) -> dict[str, object]:
    """One rule applied to a value."""
    if math.isnan(value):
        verdict = "not measured" if rule.score in OPTIONAL_SCORES else "rejected"
    elif violates(rule.name, value, rule.threshold):
        verdict = "rejected"
    else:
        verdict = "near miss" if abs(value - rule.threshold) <= NEAR * abs(rule.threshold) else "passed"
    return {
        "rule": rule.name,
        "stage": rule.stage,
        "title": title(split_rule(rule.name)[1]),
        "value": None if math.isnan(value) else value,
        "threshold": rule.threshold,
        "setting": rule.setting,
        "verdict": verdict,
    }
