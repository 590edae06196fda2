"""The table of accepted and rejected clips: rules on scores, duplicates, quotas, splits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fourdnex.curation.decisions import (
    Decisions,
    ResolvedRule,
    collect,
    other_decisions,
    resolve,
    rule_decisions,
    violations,
)
from fourdnex.curation.duplicates import best_of_groups, duplicate_groups
from fourdnex.curation.rules import Rules
from fourdnex.curation.score_tables import KEY, read_annotated_tables, read_score_tables
from fourdnex.curation.scores import FINGERPRINT, SCORES, STAGES
from fourdnex.curation.set_rules import SetRules
from fourdnex.curation.splits import leak_groups, over_quota, split_clips
from fourdnex.curation.tags import SEPARATOR, scenario_tags, tag_lists
from fourdnex.io.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd

METADATA = ("subset", "annotator", "annotator_version", "caption", "license", "video", "source_sha256", "fps")
_ANNOTATED = (*KEY, "shard", "reason", "tags", *(column for column in METADATA if column not in KEY))


@dataclass(frozen=True)
class CurationReport:
    """Result of curation."""

    accepted: int
    """Number of accepted clips."""
    rejected: int
    """Number of rejected clips."""
    table: pd.DataFrame
    """One row per clip: name, shard, accepted, reasons, decisions, tags, split, metadata and every score."""
    rules: tuple[ResolvedRule, ...] = ()
    """The rules on scores with their thresholds for this data set."""
    set_rules: SetRules = SetRules()  # noqa: RUF009 - frozen
    """The rules on the data set as a whole."""

    def reason_counts(self) -> dict[str, int]:
        """Rule -> number of clips that it rejects, most first."""
        counts = self.table["rules"].explode().value_counts()
        return {str(rule): int(count) for rule, count in counts.items()}


def curate(
    scores_dir: str | os.PathLike[str],
    annotated_dir: str | os.PathLike[str],
    out_path: str | os.PathLike[str] | None,
    rules: Rules | None = None,
    *,
    set_rules: SetRules | None = None,
    shards: Sequence[str] | None = None,
) -> CurationReport:
    """Apply the rules to every clip of the annotated shards and write the table to `out_path` (Parquet).

    Clips whose annotation failed are rejected with the annotator's reason. Clips that pass all rules on scores are
    then deduplicated and limited by quotas, and get a split. The output is deterministic.

    Args:
        scores_dir: directory of `score_shard`.
        annotated_dir: directory of annotated shards.
        out_path: table to write; None: nothing is written.
        rules: thresholds of the scores; None = the defaults.
        set_rules: duplicates, tags, quotas and splits; None = the defaults.
        shards: shards to curate; None = all in `annotated_dir`.

    Raises:
        FileNotFoundError: no shard is annotated, or an annotated shard has no scores.
        ValueError: a table is corrupt, or a quota cannot be met.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rules, set_rules = rules or Rules(), set_rules or SetRules()
    if shards is None:
        shards = sorted(path.stem for path in Path(annotated_dir).glob("[!.]*.parquet"))
    if not shards:
        raise FileNotFoundError(f"{annotated_dir}: expected annotated shards, found none: run `fourdnex annotate`")
    table, given_tags, failures = _joined(scores_dir, annotated_dir, shards)
    decisions, resolved, groups = _decide_on_clips(table, failures, rules, set_rules)
    rejected = np.zeros(len(table), bool)
    rejected[decisions.clips] = True
    tags = scenario_tags(given_tags, table["caption"], table, set_rules.tags)
    quality, names = table["mean_confidence"].fillna(-1.0).to_numpy(), table["name"].to_numpy(object)
    parts = [decisions]
    for tag, quota in set_rules.quotas.items():
        try:
            over = np.flatnonzero(over_quota(~rejected, tags[tag].to_numpy(bool), quota, quality, names))
        except ValueError as error:
            raise ValueError(f"quotas: {tag}: {error}") from error
        rejected[over] = True
        limit = f"{quota:.0%} of the clips" if quota < 1 else f"{quota:.0f} clips"
        reasons = [f"more {tag} clips than the quota of {limit}"] * len(over)
        parts.append(other_decisions(over, f"quota {tag}", "set", reasons, threshold=quota))
    decisions = collect(parts)
    leaks = leak_groups([table["video"].to_numpy(object), table["source_sha256"].to_numpy(object), groups])
    splits = split_clips(leaks, names, set_rules.splits)
    result = _result(table, decisions, ~rejected, np.where(rejected, "", splits), tag_lists(tags))
    if out_path is not None:
        with atomic_path(out_path) as temporary:
            pq.write_table(pa.Table.from_pandas(result, schema=_schema(result), preserve_index=False), temporary)
    accepted = int((~rejected).sum())
    return CurationReport(accepted, len(table) - accepted, result, tuple(resolved), set_rules)


def _joined(
    scores_dir: str | os.PathLike[str], annotated_dir: str | os.PathLike[str], shards: Sequence[str]
) -> tuple[pd.DataFrame, pd.Series, list[str]]:
    """Every annotated clip with its scores (NaN without), the joined tags, and why a clip has no scores."""
    import pandas as pd
    import pyarrow.compute as pc

    annotated = read_annotated_tables(annotated_dir, shards, _ANNOTATED).combine_chunks()
    given_tags = pc.binary_join(annotated.column("tags"), SEPARATOR).to_pandas().fillna("")
    scores = read_score_tables(scores_dir, shards).combine_chunks()
    found = pc.index_in(annotated.column("name"), value_set=scores.column("name"))
    scores = scores.take(found)  # one row per annotated clip, null without scores
    is_scored = pc.is_valid(found)
    for column in ("shard", *KEY):
        is_scored = pc.and_(is_scored, pc.fill_null(pc.equal(annotated.column(column), scores.column(column)), False))
    for stage in STAGES:
        if not stage.is_optional:
            current = pc.equal(scores.column(stage.version_column), stage.version)
            is_scored = pc.and_(is_scored, pc.fill_null(current, False))
    scored = is_scored.to_numpy().astype(bool)
    table = annotated.drop_columns(["tags"]).to_pandas()
    table = pd.concat([table, scores.select([*SCORES, FINGERPRINT, "failure"]).to_pandas()], axis=1)
    for column in ("caption", "license", "video", "source_sha256", "subset"):
        table[column] = table[column].fillna("")
    not_annotated = (table["reason"] != "").to_numpy(bool)
    failures = [""] * len(table)
    for position in np.flatnonzero(not_annotated | ~scored):
        if not_annotated[position]:
            failures[position] = f"not annotated: {table['reason'].iat[position]}"
        else:
            failure = table["failure"].iat[position]
            failures[position] = f"not scored: {failure}" if isinstance(failure, str) and failure else "not scored"
    table.loc[not_annotated, list(SCORES)] = np.nan
    return table, given_tags, failures


def _decide_on_clips(
    table: pd.DataFrame, failures: list[str], rules: Rules, set_rules: SetRules
) -> tuple[Decisions, list[ResolvedRule], np.ndarray]:
    """Decisions of the rules on scores and of duplicates, the resolved rules, and the duplicate groups."""
    failed = np.array([failure != "" for failure in failures])
    positions = np.flatnonzero(failed)
    stages = [failures[position].split(":")[0].removeprefix("not ") for position in positions]
    parts = [
        other_decisions(
            positions[[stage == kind for stage in stages]],
            f"not {kind}",
            "annotation" if kind == "annotated" else "scores",
            [failures[position] for position, stage in zip(positions, stages, strict=True) if stage == kind],
        )
        for kind in ("annotated", "scored")
    ]
    resolved = resolve(rules, table)
    violated = violations(resolved, table)
    violated[:, failed] = False
    parts.append(rule_decisions(resolved, violated, table))
    fingerprints = [data if isinstance(data, bytes) else None for data in table[FINGERPRINT].tolist()]
    groups = duplicate_groups(fingerprints, set_rules.duplicates)
    passed = ~failed & ~violated.any(axis=0)
    quality = table["mean_confidence"] + table["finite_share"] / 1e3 + table["sharpness"].fillna(0) / 1e4
    quality = np.where(passed, quality.fillna(0), -np.inf)
    names = table["name"].to_numpy(object)
    kept = best_of_groups(groups, quality, names)
    duplicates = np.flatnonzero(passed & (kept != np.arange(len(table))))
    reasons = [f"duplicate of {names[kept[position]]}" for position in duplicates]
    distance = float("nan") if set_rules.duplicates.max_distance is None else set_rules.duplicates.max_distance
    parts.append(other_decisions(duplicates, "duplicate", "set", reasons, threshold=distance))
    return collect(parts), resolved, groups


def _result(
    table: pd.DataFrame, decisions: Decisions, accepted: np.ndarray, splits: np.ndarray, tags: list[list[str]]
) -> pd.DataFrame:
    """The curated table."""
    import pandas as pd

    count = len(table)
    columns: dict[str, Any] = {
        "name": table["name"],
        "shard": table["shard"],
        "accepted": accepted,
        "reasons": decisions.per_clip(decisions.reasons, count),
        "rules": decisions.per_clip(decisions.rules, count),
        "stages": decisions.per_clip(decisions.stages, count),
        "values": decisions.per_clip(decisions.values, count),
        "thresholds": decisions.per_clip(decisions.thresholds, count),
        "tags": tags,
        "split": pd.Series(splits, dtype="str"),
    }
    columns |= {column: table[column] for column in (*METADATA, *SCORES)}
    return pd.DataFrame(columns)


def _schema(table: pd.DataFrame) -> Any:
    """Arrow schema of the curated table."""
    import pyarrow as pa

    texts, numbers = pa.list_(pa.string()), pa.list_(pa.float64())
    kinds = dict.fromkeys(("reasons", "rules", "stages", "tags"), texts) | dict.fromkeys(
        ("values", "thresholds"), numbers
    )
    kinds |= dict.fromkeys((*SCORES, "fps"), pa.float64()) | {"accepted": pa.bool_()}
    return pa.schema([(column, kinds.get(column, pa.string())) for column in table])
