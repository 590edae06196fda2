"""Former names in files that earlier versions wrote: read with a deprecation note; new files have today's names."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

RECIPE_KEYS = {"normalisation": "normalization", "xyz_start": "xyz_init"}
RECIPE_VALUES = {"xyz_init": {"given": "pointmap"}, "statistics_from": {"public": "reference"}}
"""Field -> former value -> today's."""
TRAINING_KEYS = {"pure_noise": "sigma_one_prob"}
METHODS = {"still_sloped_plane": "static_sloped_plane"}
"""Baselines in evaluation reports."""
SCENE_KEYS = {
    "picture": "image",
    "picture_sha256": "image_sha256",
    "start_by": "geometry_network",
    "start_sha256": "geometry_sha256",
}
COLUMNS = {"licence": "license", "annotator_licence": "annotator_license", "kept": "accepted"}


def renamed_keys(data: Mapping[str, Any], names: Mapping[str, str], *, source: str | Path) -> dict[str, Any]:
    """`data` under today's names, in its order; `names` maps former to today's, `source` is named in the note.

    A key that is there under both names keeps the value of today's.
    """
    found = [former for former in names if former in data]
    if not found:
        return dict(data)
    _note(found, names, source)
    return {
        names.get(key, key): value
        for key, value in data.items()
        if names.get(key, key) == key or names[key] not in data
    }


def renamed_columns(table: pd.DataFrame, *, source: str | Path) -> pd.DataFrame:
    """A table under today's column names, see `COLUMNS`."""
    found = {former: name for former, name in COLUMNS.items() if former in table and name not in table}
    if not found:
        return table
    _note(list(found), COLUMNS, source)
    return table.rename(columns=found)


def renamed_recipe(data: Mapping[str, Any], *, source: str | Path) -> dict[str, Any]:
    """The fields of a recipe, and whatever stands beside them, under today's names and with today's values."""
    fields = renamed_keys(data, RECIPE_KEYS, source=source)
    return {
        key: RECIPE_VALUES.get(key, {}).get(value, value) if isinstance(value, str) else value
        for key, value in fields.items()
    }


def renamed_training(data: Mapping[str, Any], *, source: str | Path) -> dict[str, Any]:
    """Training settings, a recipe among them, with current names and values."""
    return renamed_keys(renamed_recipe(data, source=source), TRAINING_KEYS, source=source)


def renamed_report(report: Mapping[str, Any], *, source: str | Path) -> dict[str, Any]:
    """An evaluation report with current names of baselines."""
    if not isinstance(report.get("baselines"), Mapping):
        return dict(report)
    return {**report, "baselines": renamed_keys(report["baselines"], METHODS, source=source)}


def renamed_methods(table: pd.DataFrame, *, source: str | Path) -> pd.DataFrame:
    """An evaluation's table of worlds with current names in the column `method`."""
    found = [former for former in METHODS if (table["method"] == former).any()]
    if not found:
        return table
    _note(found, METHODS, source)
    return table.assign(method=table["method"].replace(METHODS))


def former_recipe(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `renamed_recipe`: digests and fingerprints are taken of the former names, so that they stay."""
    keys = {name: former for former, name in RECIPE_KEYS.items()}
    values = {name: {today: former for former, today in pairs.items()} for name, pairs in RECIPE_VALUES.items()}
    return {
        keys.get(key, key): values.get(key, {}).get(value, value) if isinstance(value, str) else value
        for key, value in fields.items()
    }


def _note(found: list[str], names: Mapping[str, str], source: str | Path) -> None:
    pairs = ", ".join(f"{former} (now {names[former]})" for former in found)
    warnings.warn(f"{source}: former names: {pairs}", DeprecationWarning, stacklevel=3)
