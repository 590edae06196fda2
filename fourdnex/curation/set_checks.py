"""Checks of a table of curated clips before it is trained on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fourdnex.latents.held_out import SOURCE_COLUMNS, read_held_out, trained_on
from fourdnex.latents.selection import TRAINING_SPLITS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SetCheck:
    """Outcome of a check."""

    passed: bool
    message: str
    """What was found, in one sentence."""


def check_acceptance_rate(table: pd.DataFrame, least: float, most: float) -> SetCheck:
    """Whether the share of accepted clips is from `least` to `most`: outside, the rules or the data are suspect."""
    rate = float(table["accepted"].mean()) if len(table) else 0.0
    found = f"{int(table['accepted'].sum())} of {len(table)} clips accepted ({rate:.1%})"
    passed = least <= rate <= most
    return SetCheck(passed, found if passed else f"{found}: expected from {least:.0%} to {most:.0%}")


def check_tags(table: pd.DataFrame, quotas: Mapping[str, float]) -> SetCheck:
    """Whether every scenario tag that has a quota has accepted clips."""
    counts = table.loc[table["accepted"], "tags"].explode().value_counts()
    empty = [tag for tag, quota in quotas.items() if quota > 0 and not counts.get(tag, 0)]
    if empty:
        return SetCheck(False, f"no accepted clip has the tag {', '.join(empty)}, for which there is a quota")
    return SetCheck(True, f"{len(quotas)} tags with a quota have clips")


def check_held_out(table: pd.DataFrame, held_out: str | os.PathLike[str] | None) -> SetCheck:
    """Whether no training clip is a held-out world, or is of the video of a held-out clip.

    Args:
        table: the curated clips.
        held_out: held-out clips, see `fourdnex.latents.held_out.read_held_out`; None: the held-out worlds only.
    """
    from fourdnex.datasets.worlds import HELD_OUT_SEEDS, world_seed

    training = _training(table)
    found = {}
    for name, subset in zip(training["name"], training["subset"], strict=True):
        if subset == "worlds" and world_seed(name) in HELD_OUT_SEEDS:
            found[str(name)] = "a held-out world"
    if held_out is not None:
        sources = training.assign(**{column: "" for column in SOURCE_COLUMNS if column not in training})
        clips = read_held_out(held_out)
        reasons = trained_on(clips, sources)
        found |= {f"{name} of {held_out}": reason for name, reason in reasons.items()}
    if found:
        return SetCheck(False, f"{len(found)} held-out clips among the training clips: {_some(found)}")
    return SetCheck(True, f"none of {len(training)} training clips is held out")


def check_splits(table: pd.DataFrame) -> SetCheck:
    """Whether no video, source file or clip is in two splits."""
    accepted = table[table["accepted"]]
    if "split" not in accepted:
        return SetCheck(True, "there are no splits")
    leaks: dict[str, str] = {}
    for column in SOURCE_COLUMNS:
        if column in accepted:
            known = accepted[accepted[column].fillna("") != ""]
            splits = known.groupby(column)["split"].agg(lambda values: sorted(set(values)))
            for value, names in splits[splits.str.len() > 1].items():
                clip = known["name"][known[column] == value].iloc[0]
                leaks.setdefault(str(clip), f"its {column} is in {' and '.join(names)}")
    if leaks:
        return SetCheck(False, f"{len(leaks)} sources are in several splits: {_some(leaks)}")
    return SetCheck(True, f"{accepted['split'].nunique()} splits share no source")


def _training(table: pd.DataFrame) -> pd.DataFrame:
    """The accepted clips of the training split."""
    chosen = table["accepted"]
    if "split" in table:
        chosen = chosen & table["split"].fillna("").isin(TRAINING_SPLITS)
    return table[chosen]


def _some(reasons: Mapping[str, str]) -> str:
    """The first five clips with their reasons."""
    return "; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:5])
