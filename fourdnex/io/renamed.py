"""Former names in files of earlier versions, read with a DeprecationWarning. New files use the current names only."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

RECIPE_KEYS = {"normalisation": "normalization", "xyz_start": "xyz_init"}
RECIPE_VALUES = {"xyz_init": {"given": "pointmap"}, "statistics_from": {"public": "reference"}}
"""Field -> former value -> current value."""
TRAINING_KEYS = {"pure_noise": "sigma_one_prob"}
METHODS = {"still_sloped_plane": "static_sloped_plane"}
"""Baselines in evaluation reports."""
SCENE_KEYS = {
    "picture": "image",
    "picture_sha256": "image_sha256",
    "start_by": "geometry_network",
    "start_sha256": "geometry_sha256",
}
RENDER_KEYS = {"borrowed_share": "other_frames_share", "invented_share": "inpainted_share"}
COLUMNS = {"licence": "license", "annotator_licence": "annotator_license", "kept": "accepted"}


def renamed_keys(data: Mapping[str, Any], names: Mapping[str, str], *, source: str | Path) -> dict[str, Any]:
    """Rename the keys of `data`, keeping their order.

    Args:
        data: contents of a file.
        names: former name -> current name.
        source: the file, for the warning.

    A key that is present under both names keeps the value of the current one.
    """
    found = [former for former in names if former in data]
    if not found:
        return dict(data)
    _warn(found, names, source)
    return {
        names.get(key, key): value
        for key, value in data.items()
        if names.get(key, key) == key or names[key] not in data
    }


def renamed_columns(table: pd.DataFrame, *, source: str | Path) -> pd.DataFrame:
    """Rename the columns of a table, see `COLUMNS`."""
    found = {former: name for former, name in COLUMNS.items() if former in table and name not in table}
    if not found:
        return table
    _warn(list(found), COLUMNS, source)
    return table.rename(columns=found)


def renamed_recipe(data: Mapping[str, Any], *, source: str | Path) -> dict[str, Any]:
    """Rename the fields and values of a recipe; other entries of the same mapping are kept."""
    fields = renamed_keys(data, RECIPE_KEYS, source=source)
    return {
        key: RECIPE_VALUES.get(key, {}).get(value, value) if isinstance(value, str) else value
        for key, value in fields.items()
    }


def renamed_training(data: Mapping[str, Any], *, source: str | Path) -> dict[str, Any]:
    """Rename the fields and values of training settings, including those of the recipe."""
    return renamed_keys(renamed_recipe(data, source=source), TRAINING_KEYS, source=source)


def renamed_report(report: Mapping[str, Any], *, source: str | Path) -> dict[str, Any]:
    """Rename the baselines of an evaluation report."""
    if not isinstance(report.get("baselines"), Mapping):
        return dict(report)
    return {**report, "baselines": renamed_keys(report["baselines"], METHODS, source=source)}


def renamed_methods(table: pd.DataFrame, *, source: str | Path) -> pd.DataFrame:
    """Rename the baselines in the column `method` of an evaluation's table of worlds."""
    found = [former for former in METHODS if (table["method"] == former).any()]
    if not found:
        return table
    _warn(found, METHODS, source)
    return table.assign(method=table["method"].replace(METHODS))


def former_recipe(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `renamed_recipe`, so that digests and fingerprints, computed over former names, stay the same."""
    keys = {name: former for former, name in RECIPE_KEYS.items()}
    values = {name: {current: former for former, current in pairs.items()} for name, pairs in RECIPE_VALUES.items()}
    return {
        keys.get(key, key): values.get(key, {}).get(value, value) if isinstance(value, str) else value
        for key, value in fields.items()
    }


def _warn(found: list[str], names: Mapping[str, str], source: str | Path) -> None:
    """Warn about former names in a file."""
    pairs = ", ".join(f"{former} (now {names[former]})" for former in found)
    warnings.warn(f"{source}: former names: {pairs}", DeprecationWarning, stacklevel=3)
