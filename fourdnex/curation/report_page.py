"""The page of a curation report: one HTML file without scripts, fonts or other requests."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

_STYLE = """
:root { --ink:#1d2330; --soft:#667085; --line:#e4e7ec; --paper:#fff; --page:#f6f7f9; --good:#12876b; --bad:#d1495b;
  --all:#c9d2e0; --track:#eef1f5; color-scheme: light dark }
@media (prefers-color-scheme: dark) { :root { --ink:#e6e9ef; --soft:#98a2b3; --line:#2b3240; --paper:#171b23;
  --page:#0f1218; --good:#35b391; --bad:#ef7183; --all:#3b4557; --track:#232936 } }
* { box-sizing:border-box }
body { margin:0; background:var(--page); color:var(--ink);
  font:15px/1.5 system-ui,-apple-system,Roboto,"Noto Sans","DejaVu Sans",sans-serif }
main { max-width:1120px; margin:0 auto; padding:40px 24px 80px }
h1 { font-size:28px; margin:0 0 4px; letter-spacing:-.02em }
h2 { font-size:19px; margin:44px 0 6px; letter-spacing:-.01em }
h3 { font-size:14px; margin:0 }
p { margin:0 0 14px; color:var(--soft); max-width:100ch }
.card { background:var(--paper); border:1px solid var(--line); border-radius:12px; padding:18px }
.facts { display:grid; grid-template-columns:repeat(4,1fr); gap:14px; margin:22px 0 16px }
.fact b { display:block; font-size:27px; line-height:1.2; font-variant-numeric:tabular-nums; letter-spacing:-.02em }
.fact span { color:var(--soft); font-size:13px }
.bar { height:10px; border-radius:5px; background:var(--track); overflow:hidden; display:flex; min-width:60px }
.bar i { display:block; height:100% }
.good { background:var(--good) }
.bad { background:var(--bad) }
.pale { background:var(--bad); opacity:.42 }
table { border-collapse:collapse; width:100% }
th { text-align:left; font-weight:600; font-size:12.5px; color:var(--soft); padding:0 10px 8px 0 }
td { padding:7px 10px 7px 0; border-top:1px solid var(--line); font-size:14px; vertical-align:middle }
.n { text-align:right; font-variant-numeric:tabular-nums; white-space:nowrap }
td.w { width:30% }
tr.zero td { color:var(--soft) }
.stage { font-size:12px; color:var(--soft); border:1px solid var(--line); border-radius:9px; padding:1px 8px }
.grid { display:grid; grid-template-columns:repeat(auto-fill,minmax(250px,1fr)); gap:14px }
.grid .card { padding:14px }
svg { display:block; width:100%; height:auto; margin-top:8px }
svg text { fill:var(--soft); font-size:11px }
.sheet { margin-top:14px }
.sheet img { display:block; max-width:100%; border-radius:6px; margin-top:8px }
.sheet span, .small { color:var(--soft); font-size:13px }
.two { display:grid; grid-template-columns:1fr 1fr; gap:14px }
@media (max-width:760px) { .facts,.two { grid-template-columns:1fr 1fr } .two { grid-template-columns:1fr } }
"""


def page_html(data: Mapping[str, Any], sheets: Mapping[str, str]) -> str:
    """The page.

    Args:
        data: from `report_data`.
        sheets: "accepted" or a rule -> image as a data URI.
    """
    parts = [_head(data), _rules(data), _histograms(data), _sets(data), _sheets(data, sheets)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>Curation report</title><style>{_STYLE}</style></head>\n'
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _head(data: Mapping[str, Any]) -> str:
    """Title and totals."""
    share = data["accepted"] / max(1, data["clips"])
    facts = (
        (f"{data['clips']:,}", f"clips in {_count(data['shards'], 'shard')}"),
        (f"{data['accepted']:,}", "accepted"),
        (f"{data['rejected']:,}", "rejected"),
        (f"{share:.1%}", "acceptance rate"),
    )
    cards = "".join(f'<div class="card fact"><b>{value}</b><span>{label}</span></div>' for value, label in facts)
    return (
        "<h1>Curation report</h1><p>Which clips are used for training, and why the others are not.</p>"
        f'<div class="facts">{cards}</div>{_bar((share, "good"), (1 - share, "bad"))}'
    )


def _rules(data: Mapping[str, Any]) -> str:
    """What each rule removes, alone and together."""
    clips = max(1, data["clips"])
    most = max((entry["rejected"] for entry in data["rules"]), default=1) or 1
    rows = []
    for entry in data["rules"]:
        bar = _bar((entry["only"] / most, "bad"), ((entry["rejected"] - entry["only"]) / most, "pale"))
        zero = "" if entry["rejected"] else ' class="zero"'
        rows.append(
            f'<tr{zero}><td>{escape(entry["title"])}</td><td><span class="stage">{escape(entry["stage"])}</span></td>'
            f'<td class="n">{_limit(entry)}</td><td class="w">{bar}</td><td class="n">{entry["rejected"]:,}</td>'
            f'<td class="n">{entry["rejected"] / clips:.1%}</td><td class="n">{entry["only"]:,}</td>'
            f'<td class="n">{entry["remaining"]:,}</td></tr>'
        )
    return (
        "<h2>Rules</h2><p>Alone: clips that violate the rule. Only: clips that no other rule rejects, which would "
        "return without it (dark part of the bar). Remaining: clips left after this rule and all above it.</p>"
        '<div class="card"><table><tr><th>Rule</th><th>Stage</th><th class="n">Threshold</th><th></th>'
        '<th class="n">Alone</th><th class="n">Share</th><th class="n">Only</th><th class="n">Remaining</th></tr>'
        f"{''.join(rows)}</table></div>"
    )


def _histograms(data: Mapping[str, Any]) -> str:
    """Small multiples of all scores with their thresholds."""
    cards = "".join(f'<div class="card">{_histogram(entry)}</div>' for entry in data["histograms"])
    return (
        "<h2>Scores</h2><p>All clips in gray, accepted clips in green, thresholds in red. Values beyond the axis are "
        f'in its first and last bin.</p><div class="grid">{cards}</div>'
    )


def _histogram(entry: Mapping[str, Any]) -> str:
    """One histogram as an SVG; the height of a bar is the square root of its count, so that rare values are visible."""
    width, height = 250, 84
    low, high = entry["edges"]
    top = max(*entry["counts"], 1) ** 0.5
    step = width / len(entry["counts"])
    bars = []
    for color, counts in (("var(--all)", entry["counts"]), ("var(--good)", entry["accepted"])):
        for position, count in enumerate(counts):
            if count:
                size = max(1.0, height * count**0.5 / top)
                bars.append(
                    f'<rect x="{position * step:.1f}" y="{height - size:.1f}" width="{step - 0.6:.1f}" '
                    f'height="{size:.1f}" fill="{color}"/>'
                )
    marks = []
    notes = []
    for threshold in entry["thresholds"]:
        side = "≥" if threshold["rule"].startswith("min_") else "≤"
        notes.append(f"{side} {_number(threshold['value'])}")
        if low <= threshold["value"] <= high:
            x = (threshold["value"] - low) / (high - low) * width
            marks.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height}" stroke="var(--bad)" stroke-width="1.6"/>'
            )
    unknown = f", {entry['unknown']:,} unknown" if entry["unknown"] else ""
    return (
        f'<h3>{escape(entry["title"])}</h3><span class="small">{" and ".join(notes)}{unknown}</span>'
        f'<svg viewBox="0 0 {width} {height + 16}" role="img">{"".join(bars)}{"".join(marks)}'
        f'<line x1="0" x2="{width}" y1="{height}" y2="{height}" stroke="var(--line)"/>'
        f'<text x="0" y="{height + 13}">{_number(low)}</text>'
        f'<text x="{width}" y="{height + 13}" text-anchor="end">{_number(high)}</text></svg>'
    )


def _sets(data: Mapping[str, Any]) -> str:
    """Tags, splits and subsets."""
    accepted = max(1, data["accepted"])
    rows = "".join(
        f'<tr><td>{entry["tag"]}</td><td class="w">{_bar((entry["accepted"] / accepted, "good"))}</td>'
        f'<td class="n">{entry["accepted"]:,}</td><td class="n">{entry["accepted"] / accepted:.1%}</td>'
        f'<td class="n">{_quota(entry["quota"])}</td></tr>'
        for entry in data["tags"]
    )
    tags = _table(("Tag", "", "Accepted", "Share", "Quota"), rows)
    rows = "".join(
        f'<tr><td>{entry["split"]}</td><td class="n">{entry["clips"]:,}</td>'
        f'<td class="n">{entry["clips"] / accepted:.1%}</td><td class="n">{entry["share"]:.1%}</td></tr>'
        for entry in data["splits"]
    )
    splits = _table(("Split", "Clips", "Share", "Set"), rows)
    rows = "".join(
        f'<tr><td>{escape(entry["subset"] or "none")}</td><td class="n">{entry["clips"]:,}</td>'
        f'<td class="n">{entry["accepted"]:,}</td></tr>'
        for entry in data["subsets"]
    )
    subsets = _table(("Subset", "Clips", "Accepted"), rows)
    return (
        f"<h2>Tags and splits</h2><p>A clip may have several tags; {_count(data['untagged'], 'accepted clip')} without "
        f'any. Clips of one video, one source file or one group of duplicates are in one split.</p><div class="two">'
        f'<div class="card">{tags}</div><div class="card">{splits}<div style="height:22px"></div>{subsets}</div></div>'
    )


def _sheets(data: Mapping[str, Any], sheets: Mapping[str, str]) -> str:
    """Contact sheets."""
    counts = {entry["rule"]: entry for entry in data["rules"]}
    parts = ["<h2>Contact sheets</h2><p>First frame, last frame, and depth of the first frame (red is near, gray is "
             "unknown).</p>"]  # fmt: skip
    for rule, image in sheets.items():
        if rule == "accepted":
            name, note = "Accepted", f"{data['accepted']:,} clips"
        else:
            entry = counts[rule]
            name = f"Rejected by: {entry['title']} {_limit(entry)}".rstrip()
            note = _count(entry["rejected"], "clip")
        parts.append(
            f'<div class="card sheet"><h3>{escape(name)}</h3><span>{note}</span>'
            f'<img src="{image}" alt="{escape(name)}"></div>'
        )
    return "".join(parts)


def _table(heads: tuple[str, ...], rows: str) -> str:
    """A table whose columns but the first are numbers."""
    cells = "".join(f"<th{' class=n' if position else ''}>{head}</th>" for position, head in enumerate(heads))
    return f"<table><tr>{cells}</tr>{rows}</table>"


def _bar(*parts: tuple[float, str]) -> str:
    """A horizontal bar of colored shares."""
    inner = "".join(f'<i class="{color}" style="width:{share:.2%}"></i>' for share, color in parts)
    return f'<div class="bar">{inner}</div>'


def _limit(entry: Mapping[str, Any]) -> str:
    """The threshold of a rule, with its percentile if it is set as one."""
    if entry["threshold"] is None:
        return ""
    side = "≥" if entry["rule"].startswith("min_") else "≤"
    percentile = f" ({escape(entry['setting'])})" if isinstance(entry["setting"], str) else ""
    return f"{side} {_number(entry['threshold'])}{percentile}"


def _quota(quota: float | None) -> str:
    """A quota as text."""
    if quota is None:
        return ""
    return f"{quota:.0%}" if quota < 1 else f"{quota:,.0f}"


def _number(value: float) -> str:
    """A number with three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _count(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
