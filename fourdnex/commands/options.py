"""Command-line options from existing declarations: the fields of a dataclass, the parameters of a function."""

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
    """Add one option for each field of the dataclass `config`; the docstring under the field is the help text.

    An option that is not passed is absent from the namespace, so that the dataclass's own default applies.

    Args:
        defaults: values for fields without a default, or with another default on the command line.
        skip: fields that get no option.
    """
    hints, docs = typing.get_type_hints(config), field_docs(config)
    defaults = defaults or {}
    for field in dataclasses.fields(config):
        if field.name in skip:
            continue
        default: Any = _REQUIRED
        if field.name in defaults:
            default = defaults[field.name]
        elif field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        help_text, set_default = docs.get(field.name, ""), field.name in defaults
        _add(parser, field.name, hints[field.name], default, help_text, set_default=set_default)


def add_parameters(parser: argparse.ArgumentParser, function: Callable[..., Any]) -> None:
    """Add the parameters of `function`: keyword-only ones as options, the others as positional arguments.

    The help text is the string in `Annotated[type, "help"]`. A `**options` parameter is skipped.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        hint, help_text = hints[name], ""
        if typing.get_origin(hint) is typing.Annotated:
            hint, help_text = typing.get_args(hint)[:2]
        default = _REQUIRED if parameter.default is inspect.Parameter.empty else parameter.default
        positional = parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        _add(parser, name, hint, default, help_text, set_default=True, positional=positional)


def field_docs(config: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, inherited fields included, on one line."""
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


def takes_path(action: argparse.Action) -> bool:
    """Whether the values of an option or argument are paths."""
    return action.type is _path


def _add(
    parser: argparse.ArgumentParser,
    name: str,
    hint: Any,
    default: Any,
    help_text: str,
    *,
    set_default: bool,
    positional: bool = False,
) -> None:
    """Add one option or positional argument."""
    settings = _argparse_settings(name, hint)
    required = default is _REQUIRED
    if not required and default not in (None, ()):
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        help_text = f"{help_text.rstrip('.')} (default: {shown})".strip()
    settings["help"] = (help_text or " ").replace("%", "%%")  # argparse formats the text with %
    if positional:
        if not required:
            settings |= {"nargs": "?", "default": default}
        parser.add_argument(name, metavar=name.upper(), **settings)
        return
    if settings.get("action", _StoreTuple) is _StoreTuple and "choices" not in settings:
        settings["metavar"] = name.split("_per_")[0].rsplit("_", 1)[-1].upper()
    settings["default"] = default if set_default and not required else argparse.SUPPRESS
    parser.add_argument(f"--{name.replace('_', '-')}", dest=name, required=required, **settings)


def _argparse_settings(name: str, hint: Any) -> dict[str, Any]:
    """Arguments of `add_argument` for a type: bool, int, float, str, Path, Literal, tuple[X, ...], tuple[X, X] or one
    of these with `| None`."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        alternatives = [part for part in parts if part is not type(None)]
        return _argparse_settings(name, Path if Path in alternatives else alternatives[0])
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if origin is typing.Literal:
        return {"choices": parts, "type": type(parts[0])}
    if origin is tuple:
        if len(parts) == 2 and parts[1] is ...:
            return _argparse_settings(name, parts[0]) | {"action": _StoreTuple, "nargs": "+"}
        if set(parts) == {parts[0]}:
            return _argparse_settings(name, parts[0]) | {"action": _StoreTuple, "nargs": len(parts)}
    if hint in (str, Path):
        return {"type": _expand_user if hint is str else _path}
    if hint in (int, float):
        return {"type": hint}
    raise TypeError(f"{name}: expected a type that the command line can parse, got {hint}")


def _expand_user(value: str) -> str:
    """Expand `~/` and `~user/` at the start, which shells do not expand in `--option=~/folder`.

    Text is expanded as well as paths, because models, adapters and networks are given by name or by path.
    """
    return os.path.expanduser(value)


def _path(value: str) -> Path:
    """A path with the home folder expanded."""
    return Path(_expand_user(value))


class _StoreTuple(argparse.Action):
    """Stores the values of an option as a tuple."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, tuple(values))
