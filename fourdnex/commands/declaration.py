"""How a command is declared, and what several of them share."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fourdnex.workspace import Workspace


@dataclass(frozen=True)
class Command:
    """A function and how it is called."""

    name: str
    run: Callable[..., int | None]
    """Returns the exit status; None is 0."""
    example: str
    configs: tuple[str, ...] = ()
    """"module:class" whose fields are options too."""
    defaults: Callable[[], dict[str, Any]] = dict
    """Defaults of those fields that only the command line has."""


def command(
    example: str, *configs: str, defaults: Callable[[], dict[str, Any]] = dict
) -> Callable[[Callable[..., int | None]], Command]:
    """Make a command of a function, under the function's name; `example` is the arguments of a typical call."""

    def declare(function: Callable[..., int | None]) -> Command:
        name = function.__name__.rstrip("_").replace("_", "-")
        return Command(name, function, f"fourdnex {name} {example}".rstrip(), configs, defaults)

    return declare


def workspace_defaults(*names: str) -> Callable[[], dict[str, Any]]:
    """Defaults that are places in the workspace: field -> the property of `Workspace` of that name."""
    return lambda: {name: getattr(Workspace.default(), name) for name in names}


def progress(line: str) -> None:
    """Say on stderr how far a command is: stdout is for its result."""
    print(line, file=sys.stderr)
