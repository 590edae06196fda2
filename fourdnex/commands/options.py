"""Command line options out of what is declared already: the fields of a dataclass, the parameters of a function."""

import argparse
import ast
import dataclasses
import inspect
import os
import textwrap
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_REQUIRED = object()


def add_fields(
    parser: argparse.ArgumentParser,
    config: type,
    *,
    defaults: Mapping[str, Any] | None = None,
    skip: Sequence[str] = (),
) -> None:
    """Add one option for each field of the dataclass `config`; its docstring is the help.

    An option that is not given is left out of the namespace, so that the dataclass's own default holds.

    Args:
        defaults: values for fields that have none of their own, or another one on the command line.
        skip: fields that are no options.
    """
    hints, docs = typing.get_type_hints(config), field_docs(config)
    for field in dataclasses.fields(config):
        if field.name in skip:
            continue
        default: Any = _REQUIRED
        if defaults is not None and field.name in defaults:
            default = defaults[field.name]
        elif field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        own = defaults is not None and field.name in defaults
        _add(parser, field.name, hints[field.name], default, docs.get(field.name, ""), set_default=own)


def add_parameters(parser: argparse.ArgumentParser, function: Callable[..., Any]) -> None:
    """Add the parameters of `function`: keyword-only ones as options, the others as positional arguments.

    Help is the string in `Annotated[type, "help"]`. What collects others (`**options`) is left out.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        hint, doc = hints[name], ""
        if typing.get_origin(hint) is typing.Annotated:
            hint, doc = typing.get_args(hint)[:2]
        default = _REQUIRED if parameter.default is inspect.Parameter.empty else parameter.default
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        positional = parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        _add(parser, name, hint, default, doc, set_default=True, positional=positional)


def field_docs(config: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, its own and those it inherits, on one line."""
    docs: dict[str, str] = {}
    for base in config.__bases__:
        if dataclasses.is_dataclass(base):
            docs |= field_docs(base)
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(config))).body
    assert isinstance(body, ast.ClassDef)
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            if isinstance(text.value, ast.Constant) and isinstance(text.value.value, str):
                docs[field.target.id] = " ".join(text.value.value.split())
    return docs


def _add(
    parser: argparse.ArgumentParser,
    name: str,
    hint: Any,
    default: Any,
    doc: str,
    *,
    set_default: bool,
    positional: bool = False,
) -> None:
    settings = _of_type(name, hint)
    required = default is _REQUIRED
    if not required and default not in (None, ()):
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        doc = f"{doc.rstrip('.')} (default: {shown})".strip()
    # argparse reads % as a format
    settings["help"] = (doc or " ").replace("%", "%%")
    if positional:
        if not required:
            settings |= {"nargs": "?", "default": default}
        parser.add_argument(name, metavar=name.upper(), **settings)
        return
    if settings.get("action", _Tuple) is _Tuple and "choices" not in settings:
        settings["metavar"] = name.split("_per_")[0].rsplit("_", 1)[-1].upper()
    settings["default"] = default if set_default and not required else argparse.SUPPRESS
    parser.add_argument(f"--{name.replace('_', '-')}", dest=name, required=required, **settings)


def _of_type(name: str, hint: Any) -> dict[str, Any]:
    """What argparse needs for a type: bool, int, float, str, Path, Literal, tuple[X, ...], tuple[X, X], X | None."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        kinds = [part for part in parts if part is not type(None)]
        return _of_type(name, Path if Path in kinds else kinds[0])
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if origin is typing.Literal:
        return {"choices": parts, "type": type(parts[0])}
    if origin is tuple:
        if len(parts) == 2 and parts[1] is ...:
            return _of_type(name, parts[0]) | {"action": _Tuple, "nargs": "+"}
        if set(parts) == {parts[0]}:
            return _of_type(name, parts[0]) | {"action": _Tuple, "nargs": len(parts)}
    if hint in (str, Path):
        return {"type": _expanded if hint is str else _path}
    if hint in (int, float):
        return {"type": hint}
    raise TypeError(f"{name}: expected a type that a command line can give, got {hint}")


def _expanded(value: str) -> str:
    """`~/` and `~user/` in the beginning are home folders: shells leave them as they are in `--option=~/folder`.

    Text counts as well as paths, for a model, an adapter or a network is named by either.
    """
    return os.path.expanduser(value)


def _path(value: str) -> Path:
    return Path(_expanded(value))


class _Tuple(argparse.Action):
    """Give the values of an option as a tuple."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, tuple(values))
