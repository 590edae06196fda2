"""The declaration of a command, and what several commands share."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fourdnex.workspace import Workspace

ENGINE = "where shards are processed: on this machine, or on the Ray cluster that RAY_ADDRESS names"
WORKERS = "number of processes; each works on whole shards"
"""Help texts of options that several commands have."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Outcome of a command, for programs; the command prints the text for people itself."""

    data: Mapping[str, Any]
    """What `--json` prints. Dataclasses, paths and numpy scalars are converted; non-finite numbers become null."""
    status: int = 0
    """Exit status: 0, or 1 if there is no result to use."""

    def to_json(self) -> str:
        """The data as one JSON object on one line."""
        return json.dumps(_plain(self.data), allow_nan=False)


@dataclass(frozen=True)
class Command:
    """A function that the command line runs; its parameters are the options."""

    name: str
    """One word, or the name of a group and a word."""
    run: Callable[..., Result | int | None]
    """Returns a `Result`, or the exit status (None is 0)."""
    example: str
    configs: tuple[str, ...] = ()
    """Dataclasses as "module:class"; their fields are further options."""
    defaults: Callable[[], dict[str, Any]] = field(default=dict)
    """Returns defaults of those fields that apply to the command line only."""
    has_json: bool = False
    """Whether the command takes `--json`."""
    takes_parser: bool = False
    """Whether the function gets the parser with the options of all commands, as the keyword argument `parser`."""


def command(
    example: str,
    *configs: str,
    defaults: Callable[[], dict[str, Any]] = dict,
    has_json: bool = True,
    takes_parser: bool = False,
    group: str = "",
) -> Callable[[Callable[..., Result | int | None]], Command]:
    """Declare a function as the command of its name; `example` is the arguments of a typical call.

    With a `group`, it is called as `fourdnex GROUP NAME`.
    """

    def declare(function: Callable[..., Result | int | None]) -> Command:
        name = f"{group} {function.__name__.rstrip('_').replace('_', '-')}".lstrip()
        return Command(name, function, f"fourdnex {name} {example}".rstrip(), configs, defaults, has_json, takes_parser)

    return declare


def workspace_defaults(*names: str) -> Callable[[], dict[str, Any]]:
    """Paths in the workspace as defaults of fields; each field has the name of a property of `Workspace`."""
    return lambda: {name: getattr(Workspace.default(), name) for name in names}


def failures(failed: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    """The failed items of a report, for `Result.data`."""
    return [{"name": name, "reason": reason} for name, reason in failed]


def _plain(value: Any) -> Any:
    """`value` as types that JSON has."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):  # a scalar of numpy or torch
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
