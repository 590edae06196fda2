"""What is compared: named variants, each a difference to the default settings; built in, or read from a JSON file.

```json
{"name": "mask", "settings": {"rank": 32}, "variants": {"soft": {}, "full": {"xyz_mask": 1.0}}}
```
`settings` hold for all variants. The first variant is the one the others are compared with.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fourdnex.io.files import read_json
from fourdnex.model.recipe import REFERENCE_RECIPE, Recipe
from fourdnex.training.lora_settings import LoraTraining

Changes = dict[str, Any]

_OWN = ("latents", "output", "model", "steps", "seed", "num_samples", "track")
"""Fields of a training run that the ablation sets itself, equal for all variants."""

PUBLIC: Changes = {
    **{name: value for name, value in REFERENCE_RECIPE.choices().items() if value != getattr(Recipe(), name)},
    "xyz_weight": 1.0,
    "sigma_shift": 1.0,
    "sigma_one_prob": 0.0,
}
"""The public 4DNeX code, as far as it differs from our defaults."""


@dataclass(frozen=True, kw_only=True)
class AblationSpec:
    """A name and its variants; the first one is what the others are compared with.

    Raises:
        ValueError: fewer than two variants, or one that names a field that is none, or is the ablation's own, or has a
            value that training refuses; the message names variant and field.
    """

    name: str
    variants: dict[str, Changes]
    settings: Changes = field(default_factory=dict)
    """Differences to the defaults that all variants share."""

    def __post_init__(self) -> None:
        if len(self.variants) < 2:
            raise ValueError(f"{self.name}: variants: expected at least two to compare, got {list(self.variants)}")
        allowed = {name.name for name in fields(LoraTraining)} - set(_OWN)
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
        """The variant that the others are compared with."""
        return next(iter(self.variants))

    def settings_of(self, variant: str) -> Changes:
        """The variant's differences to the default settings."""
        changes = self.settings | self.variants[variant]
        return {key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}  # from JSON


def _one_by_one() -> dict[str, Changes]:
    """Ours, and ours with one choice changed at a time: to the public code's, then to what neither has."""
    others: list[tuple[str, Any]] = [("xyz_init", "pointmap"), ("xyz_mask", 0.0), ("xyz_mask", 1.0)]
    changes = [*PUBLIC.items(), *others, ("timesteps", "logit-normal")]
    return {"ours": {}} | {f"{name}={value}": {name: value} for name, value in changes}


def _fusions() -> dict[str, Changes]:
    """One variant for every function: with shared positions height, frame and batch-cross-modal are width's."""
    own: Changes = {"positions": "own"}
    return {name: {"fusion": name} for name in ("width", "batch", "channel")} | {
        f"{name}, own positions": {"fusion": name} | own for name in ("width", "height", "frame")
    }


def _each(name: str, *values: Any) -> dict[str, Changes]:
    """One variant for each value of a field."""
    return {str(value): {name: value} for value in values}


BUILT_IN: dict[str, dict[str, Changes]] = {
    "recipe": {"public": PUBLIC, "ours": {}, "ours, first point map given": {"xyz_init": "pointmap"}},
    "improvements": _one_by_one(),
    "fusion": _fusions(),
    "normalization": _each("normalization", "frame", "clip"),
    "decode": _each("decode", "joint", "apart"),
    "statistics": _each("statistics_from", "reference", "data"),
    "start": _each("xyz_init", "plane", "pointmap"),
    "mask": _each("xyz_mask", 0.5, 0.0, 1.0),
    "weight": _each("xyz_weight", 1.0, 2.0, 4.0),
    "timesteps": {
        "uniform": {"sigma_shift": 1.0},
        "uniform, shifted": {},
        "logit-normal": {"timesteps": "logit-normal", "sigma_shift": 1.0},
        "logit-normal, shifted": {"timesteps": "logit-normal"},
    },
}


def read_spec(spec: str | Path) -> AblationSpec:
    """The built-in ablation of that name, or the one in a JSON file.

    Raises:
        ValueError: no such name, or the file does not say what it should.
        FileNotFoundError: no such file.
    """
    if str(spec) in BUILT_IN:
        return AblationSpec(name=str(spec), variants=BUILT_IN[str(spec)])
    path = Path(spec)
    if path.suffix != ".json":
        raise ValueError(f"spec: expected a JSON file or one of {sorted(BUILT_IN)}, got {str(spec)!r}")
    data = read_json(path)
    needed = {"name", "variants"}
    if not isinstance(data, dict) or not needed <= set(data) <= {*needed, "settings"}:
        found = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise ValueError(f"{path}: expected an object with name, variants and maybe settings, got {found}")
    for key in ("variants", "settings"):
        if not isinstance(data.get(key, {}), dict):
            raise ValueError(f"{path}: {key}: expected an object, got {data[key]!r}")
    return AblationSpec(**data)
