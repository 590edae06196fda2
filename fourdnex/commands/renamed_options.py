"""Former names of options and their values: accepted on the command line and in Dagster's settings, with a note."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

RENAMED_OPTIONS = {
    "given": "imported",
    "licence": "license",
    "normalisation": "normalization",
    "pure_noise": "sigma_one_prob",
    "starts": "first_frame_geometry",
    "xyz_start": "xyz_init",
}
"""Former name -> current name. On the command line `xyz_start` is `--xyz-start`."""

RENAMED_OPTIONS_OF = {
    "pretrain-depth": {
        "ema": "ema_decay",
        "look": "degradation",
        "pool": "pool_size",
        "primitives": "primitives_share",
        "rate_max": "learning_rate",
    },
}
"""Command -> former name -> current name, for names that are current in other commands."""

RENAMED_VALUES = {
    "annotator": {"given": "imported"},
    "statistics_from": {"public": "reference"},
    "xyz_init": {"given": "pointmap"},
}
"""Option under its current name -> former value -> current value."""


def current_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Command-line arguments under the current names, and one note for each former name or value among them.

    Reads `--option value`, `--option=value` and `--no-option`. Arguments after `--` are left as they are.

    Args:
        arguments: the command and its arguments.
    """
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    renamed = RENAMED_OPTIONS | RENAMED_OPTIONS_OF.get(command, {})
    current: list[str] = []
    notes: list[str] = []
    option = ""  # of the argument before, whose value this one may be
    for position, argument in enumerate(arguments):
        if argument == "--":
            current += arguments[position:]
            break
        if not argument.startswith("--"):
            current.append(_value(option, argument, notes))
            option = ""
            continue
        flag, equals, value = argument.partition("=")
        negation = "--no-" if flag.startswith("--no-") else "--"
        option = flag.removeprefix(negation).replace("-", "_")
        if option in renamed:
            option = renamed[option]
            new = f"{negation}{option.replace('_', '-')}"
            notes.append(f"note: {flag} is deprecated, use {new}")
            flag = new
        current.append(f"{flag}={_value(option, value, notes)}" if equals else flag)
    return current, notes


def _value(option: str, value: str, notes: list[str]) -> str:
    """The current value of an option; adds a note for a former one."""
    new = RENAMED_VALUES.get(option, {}).get(value, value)
    if new != value:
        flag = f"--{option.replace('_', '-')}"
        notes.append(f"note: {flag} {value} is deprecated, use {flag} {new}")
    return new


def current_fields(options: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """Settings under the current names, from a JSON object or Dagster's configuration; `source` is named in the note.

    A setting that is there under both names keeps the value of the current one. Former names and values raise a
    `FutureWarning`.
    """
    current: dict[str, Any] = {}
    former: list[str] = []
    for name, value in options.items():
        new = RENAMED_OPTIONS.get(name, name)
        if new != name:
            former.append(f"{name} (now {new})")
            if new in options:
                continue
        new_value = RENAMED_VALUES.get(new, {}).get(value, value) if isinstance(value, str) else value
        if new_value != value:
            former.append(f"{new} {value!r} (now {new_value!r})")
        current[new] = new_value
    if former:
        warnings.warn(f"{source}: deprecated names: {', '.join(former)}", FutureWarning, stacklevel=2)
    return current
