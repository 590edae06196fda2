"""Ablation specs: named variants, each a set of changes to the default settings; built in, or read from a JSON file.

```json
{"name": "mask", "settings": {"rank": 32}, "variants": {"soft": {}, "full": {"xyz_mask": 1.0}}}
```
`settings` apply to all variants. The first variant is the baseline of the comparison.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fourdnex.io.files import read_json
from fourdnex.io.renamed import renamed_training
from fourdnex.model.recipe import REFERENCE_RECIPE, Recipe
from fourdnex.training.lora_settings import LoraTraining

Changes = dict[str, Any]

_SET_BY_ABLATION = ("latents", "output", "model", "steps", "seed", "num_samples", "track")
"""Training settings that the ablation sets itself; variants cannot change them."""

REFERENCE: Changes = {
    **{name: value for name, value in REFERENCE_RECIPE.choices().items() if value != getattr(Recipe(), name)},
    "xyz_weight": 1.0,
    "sigma_shift": 1.0,
    "sigma_one_prob": 0.0,
}
"""Settings of the reference 4DNeX implementation that differ from the defaults."""


@dataclass(frozen=True, kw_only=True)
class AblationSpec:
    """A name and its variants; the first variant is the baseline.

    Raises:
        ValueError: if there are fewer than two variants, or a variant has an unknown field, a field that the ablation
            sets itself, or an invalid value; the message names variant and field.
    """

    name: str
    variants: dict[str, Changes]
    settings: Changes = field(default_factory=dict)
    """Changes to the default settings that apply to all variants."""

    def __post_init__(self) -> None:
        if len(self.variants) < 2:
            raise ValueError(f"{self.name}: variants: expected at least two to compare, got {list(self.variants)}")
        allowed = {name.name for name in fields(LoraTraining)} - set(_SET_BY_ABLATION)
        for variant, changes in self.variants.items():
            if not isinstance(changes, dict):
                raise ValueError(f"{self.name}: {variant}: expected an object, got {changes!r}")
            if unknown := sorted({*self.settings, *changes} - allowed):
                raise ValueError(f"{self.name}: {variant}: expected some of {sorted(allowed)}, got {unknown}")
            try:
                LoraTraining(latents=Path(), output=Path(), **self.settings_of(variant))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{self.name}: {variant}: {error}") from error

    @property
    def baseline(self) -> str:
        """Name of the variant that the others are compared with."""
        return next(iter(self.variants))

    def settings_of(self, variant: str) -> Changes:
        """The variant's changes to the default settings, including the shared ones."""
        changes = self.settings | self.variants[variant]
        return {key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}  # from JSON


def _one_change_each() -> dict[str, Changes]:
    """The defaults, and the defaults with one field changed: to the reference's value, then to other values."""
    others: list[tuple[str, Any]] = [("xyz_init", "pointmap"), ("xyz_mask", 0.0), ("xyz_mask", 1.0)]
    changes = [*REFERENCE.items(), *others, ("timesteps", "logit-normal")]
    return {"fourdnex": {}} | {f"{name}={value}": {name: value} for name, value in changes}


def _fusions() -> dict[str, Changes]:
    """One variant per distinct function: with shared positions, height, frame and batch-cross-modal equal width."""
    own: Changes = {"positions": "own"}
    return {name: {"fusion": name} for name in ("width", "batch", "channel")} | {
        f"{name}, own positions": {"fusion": name} | own for name in ("width", "height", "frame")
    }


def _each(name: str, *values: Any) -> dict[str, Changes]:
    """One variant per value of a field."""
    return {str(value): {name: value} for value in values}


BUILT_IN: dict[str, dict[str, Changes]] = {
    "recipe": {"reference": REFERENCE, "fourdnex": {}, "fourdnex, first-frame point map": {"xyz_init": "pointmap"}},
    "improvements": _one_change_each(),
    "fusion": _fusions(),
    "normalization": _each("normalization", "frame", "clip"),
    "decode": _each("decode", "joint", "apart"),
    "statistics": _each("statistics_from", "reference", "data"),
    "xyz-init": _each("xyz_init", "plane", "pointmap"),
    "mask": _each("xyz_mask", 0.5, 0.0, 1.0),
    "weight": _each("xyz_weight", 1.0, 2.0, 4.0),
    "timesteps": {
        "uniform": {"sigma_shift": 1.0},
        "uniform, shifted": {},
        "logit-normal": {"timesteps": "logit-normal", "sigma_shift": 1.0},
        "logit-normal, shifted": {"timesteps": "logit-normal"},
    },
}
"""Built-in ablations: name -> variants."""
FORMER_NAMES = {"start": "xyz-init"}
"""Former names of built-in ablations, still accepted."""


def read_spec(spec: str | Path) -> AblationSpec:
    """Return the built-in ablation of that name, or read a JSON file.

    Raises:
        ValueError: if there is no built-in ablation of that name, or the file is invalid.
        FileNotFoundError: if there is no such file.
    """
    name = str(spec)
    if name in FORMER_NAMES:
        warnings.warn(f"spec: {name!r} is now named {FORMER_NAMES[name]!r}", DeprecationWarning, stacklevel=2)
        name = FORMER_NAMES[name]
    if name in BUILT_IN:
        return AblationSpec(name=name, variants=BUILT_IN[name])
    path = Path(spec)
    if path.suffix != ".json":
        raise ValueError(f"spec: expected a JSON file or one of {sorted(BUILT_IN)}, got {name!r}")
    data = read_json(path)
    required = {"name", "variants"}
    if not isinstance(data, dict) or not required <= set(data) <= {*required, "settings"}:
        found = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise ValueError(f"{path}: expected an object with name, variants and optional settings, got {found}")
    for key in ("variants", "settings"):
        if not isinstance(data.get(key, {}), dict):
            raise ValueError(f"{path}: {key}: expected an object, got {data[key]!r}")
    variants = {
        variant: renamed_training(changes, source=path) if isinstance(changes, dict) else changes
        for variant, changes in data["variants"].items()
    }
    settings = renamed_training(data.get("settings", {}), source=path)
    return AblationSpec(name=data["name"], variants=variants, settings=settings)
