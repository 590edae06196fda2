"""The report of curation, `report.json` and a self-contained `report.html`: what each rule removes."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fourdnex.curation.curated import CurationReport
from fourdnex.curation.previews import thumbnails
from fourdnex.curation.report_page import page_html
from fourdnex.curation.rules import STAGE_RULES, title
from fourdnex.curation.set_rules import SPLITS, TAGS
from fourdnex.io.files import atomic_path, write_json

if TYPE_CHECKING:
    import pandas as pd

NUM_BINS = 40
NUM_ACCEPTED_TILES, NUM_REJECTED_TILES, SHEET_COLUMNS = 22, 11, 11
_OTHER_STAGES = {"not annotated": "annotation", "not scored": "scores"}
MAX_SHEETS = 12
"""Rules with a contact sheet of rejected clips: those that reject most."""


def write_report(
    report: CurationReport, annotated_dir: str | os.PathLike[str], out_dir: str | os.PathLike[str]
) -> Path:
    """Write `report.json` and `report.html` into a folder; returns the path of the page.

    Args:
        report: result of `curate`.
        annotated_dir: the annotated shards, for the contact sheets; only the frames shown are read.
        out_dir: folder of the report.
    """
    data = report_data(report)
    write_json(Path(out_dir) / "report.json", data)
    sheets = {"accepted": _sheet(annotated_dir, report.table[report.table["accepted"]], NUM_ACCEPTED_TILES)}
    violated = report.table["rules"]
    for entry in sorted(data["rules"], key=lambda entry: -entry["rejected"])[:MAX_SHEETS]:
        if entry["rejected"] and entry["rule"] != "not annotated":
            clips = report.table[[entry["rule"] in rules for rules in violated]]
            sheets[entry["rule"]] = _sheet(annotated_dir, clips, NUM_REJECTED_TILES)
    page = Path(out_dir) / "report.html"
    with atomic_path(page) as temporary:
        temporary.write_text(
            page_html(data, {rule: sheet for rule, sheet in sheets.items() if sheet}), encoding="utf-8"
        )
    return page


def report_data(report: CurationReport) -> dict[str, Any]:
    """The numbers of a report, as JSON types.

    Every rule has `rejected`, the clips that violate it (what it removes alone); `only`, the clips that violate no
    other rule (what would return without it); and `remaining`, the clips that are left after it and all rules before it
    (what the rules remove together).
    """
    table = report.table
    count = len(table)
    violated = table["rules"].explode().dropna()
    numbers = violated.index.to_numpy()
    per_clip = np.bincount(table.index.get_indexer(numbers), minlength=count)
    settings = {rule.name: rule for rule in report.rules}
    names = ["not annotated", "not scored", *settings]
    names += ["duplicate", *(f"quota {tag}" for tag in report.set_rules.quotas)]
    members = {str(rule): group.index.to_numpy() for rule, group in violated.groupby(violated, sort=False)}
    removed = np.zeros(count, bool)
    rules = []
    for name in names:
        clips = table.index.get_indexer(members.get(name, np.zeros(0, int)))
        removed[clips] = True
        rule = settings.get(name)
        rules.append(
            {
                "rule": name,
                "stage": rule.stage if rule else _OTHER_STAGES.get(name, "set"),
                "title": title(rule.score) if rule else name,
                "threshold": rule.threshold if rule else None,
                "setting": rule.setting if rule else None,
                "rejected": len(clips),
                "only": int((per_clip[clips] == 1).sum()),
                "remaining": int(count - removed.sum()),
            }
        )
    accepted = table[table["accepted"]]
    tags, kept_tags = table["tags"].explode().value_counts(), accepted["tags"].explode().value_counts()
    splits = accepted["split"].value_counts()
    return {
        "clips": count,
        "accepted": report.accepted,
        "rejected": report.rejected,
        "shards": int(table["shard"].nunique()),
        "rules": rules,
        "histograms": _histograms(report),
        "tags": [
            {
                "tag": tag,
                "clips": int(tags.get(tag, 0)),
                "accepted": int(kept_tags.get(tag, 0)),
                "quota": report.set_rules.quotas.get(tag),
            }
            for tag in TAGS
        ],
        "untagged": int((accepted["tags"].str.len() == 0).sum()),
        "splits": [
            {"split": split, "clips": int(splits.get(split, 0)), "share": report.set_rules.splits.get(split, 0.0)}
            for split in SPLITS
        ],
        "subsets": [
            {"subset": str(subset), "clips": len(group), "accepted": int(group.sum())}
            for subset, group in table.groupby("subset", sort=True)["accepted"]
        ],
    }


def _histograms(report: CurationReport) -> list[dict[str, Any]]:
    """For every score with a rule: counts in bins of all clips and of the accepted ones, and the thresholds."""
    histograms = []
    is_accepted = report.table["accepted"].to_numpy(bool)
    scores = dict.fromkeys(rule.score for rule in report.rules)
    order = list(STAGE_RULES)
    for score in scores:
        rules = [rule for rule in report.rules if rule.score == score]
        values = report.table[score].to_numpy()
        known = np.isfinite(values)
        thresholds = [rule.threshold for rule in rules]
        if known.any():
            low, high = np.percentile(values[known], (0.5, 99.5))
            edge = values[known].min(), values[known].max()
            low, high = min(low, *thresholds), max(high, *thresholds)
            # A threshold far outside of all values would squeeze them into one bin.
            spread = max(float(np.subtract(*np.percentile(values[known], (99.5, 0.5)))), 1e-9)
            low, high = max(low, edge[0] - spread), min(high, edge[1] + spread)
        else:
            low, high = 0.0, 1.0
        edges = np.linspace(low, high if high > low else low + 1, NUM_BINS + 1)
        clipped = np.clip(values, edges[0], edges[-1])
        histograms.append(
            {
                "score": score,
                "stage": rules[0].stage,
                "title": title(score),
                "edges": [float(edges[0]), float(edges[-1])],
                "counts": np.histogram(clipped[known], edges)[0].tolist(),
                "accepted": np.histogram(clipped[known & is_accepted], edges)[0].tolist(),
                "unknown": int((~known).sum()),
                "thresholds": [{"rule": rule.name, "value": rule.threshold, "setting": rule.setting} for rule in rules],
            }
        )
    return sorted(histograms, key=lambda entry: order.index(entry["stage"]))


def _sheet(annotated_dir: str | os.PathLike[str], table: pd.DataFrame, limit: int) -> str:
    """Contact sheet of clips as a data URI of a JPEG; empty text without any clip to show."""
    import cv2

    shown = table[table["mean_confidence"].notna()]
    if not len(shown):
        return ""
    image = thumbnails(annotated_dir, shown, limit, columns=SHEET_COLUMNS)
    is_encoded, jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert is_encoded
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"
