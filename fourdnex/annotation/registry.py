"""Annotators by name: the built-in ones, and those of installed packages (entry points of `fourdnex.annotators`)."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from fourdnex.annotation.base import Annotator
from fourdnex.extras import PACKAGES, is_installed, require

GROUP = "fourdnex.annotators"
"""Group of entry points; the name of an entry point is that of its annotator, its value the annotator's class."""
BUILT_IN = {
    "exact": "fourdnex.annotation.exact:ExactAnnotator",
    "sfm": "fourdnex.annotation.sfm:SfmAnnotator",
    "depth": "fourdnex.annotation.video_depth:VideoDepthAnnotator",
    "imported": "fourdnex.annotation.imported_geometry:GeometryAnnotator",
}
"""Name -> class of the annotators of this package."""
_TEXTS = ("name", "version", "license")


class PluginError(ValueError):
    """An annotator of an installed package cannot be used; the message names the package and the reason."""


@dataclass(frozen=True)
class AnnotatorInfo:
    """What is known of an annotator without creating it."""

    name: str
    package: str
    """Distribution that it comes from."""
    version: str = ""
    license: str = ""
    needs: tuple[str, ...] = ()
    """Modules that it imports."""
    missing: tuple[str, ...] = ()
    """Those of `needs` that are not installed, as what to install: an extra of `fourdnex`, or the module's name."""
    problem: str = ""
    """Why it cannot be used; empty for a working annotator."""


def create_annotator(name: str, **options: Any) -> Annotator:
    """Create an annotator by name.

    Args:
        name: a built-in annotator, or that of an installed package.
        options: keyword arguments of its constructor; those that are None are left out.

    Raises:
        ValueError: there is no such annotator, or it does not take an option, or it expects one that is missing.
        PluginError: the annotator of an installed package cannot be loaded, or lacks a required attribute.
        MissingExtraError: a package that the annotator needs is not installed.
    """
    found = _entry_points(name)
    if name not in BUILT_IN and not found:
        known = sorted({*BUILT_IN, *(point.name for point in entry_points(group=GROUP))})
        raise ValueError(f"annotator: expected one of {', '.join(known)}, got {name!r}")
    kind = _load_built_in(name) if name in BUILT_IN else _load_plugin(found)
    options = {option: value for option, value in options.items() if value is not None}
    accepted = inspect.signature(kind).parameters
    for option in options:
        if option not in accepted:
            raise ValueError(f"annotator {name}: takes no --{option.replace('_', '-')}")
    for option, parameter in accepted.items():
        if parameter.default is parameter.empty and parameter.kind not in _VARIADIC and option not in options:
            raise ValueError(f"annotator {name}: expected --{option.replace('_', '-')}, got none")
    for module in kind.needs:
        _require(module, name)
    created: Annotator = kind(**options)
    return created


def list_annotators() -> list[AnnotatorInfo]:
    """All annotators, built-in ones first; of one that cannot be used, the problem."""
    listed = [_info(_load_built_in(name), name, "fourdnex") for name in BUILT_IN]
    for name in sorted({point.name for point in entry_points(group=GROUP)}):
        found = _entry_points(name)
        package = ", ".join(_package(point) for point in found)
        try:
            if name in BUILT_IN:
                raise PluginError(f"{package}: the name {name} is that of a built-in annotator")
            listed.append(_info(_load_plugin(found), name, package))
        except PluginError as error:
            listed.append(AnnotatorInfo(name, package, problem=str(error)))
    return listed


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _entry_points(name: str) -> list[EntryPoint]:
    """Entry points of a name."""
    return list(entry_points(group=GROUP, name=name))


def _load_built_in(name: str) -> Any:
    """Class of a built-in annotator."""
    module, attribute = BUILT_IN[name].split(":")
    return getattr(import_module(module), attribute)


def _load_plugin(found: Sequence[EntryPoint]) -> Any:
    """Class of the annotator of an installed package."""
    point = found[0]
    if len(packages := {_package(each) for each in found}) > 1:
        raise PluginError(f"annotator {point.name}: expected one package, got {', '.join(sorted(packages))}")
    where = f"annotator {point.name} of the package {_package(point)}"
    try:
        kind = point.load()
    except Exception as error:  # code of another package may raise any exception
        raise PluginError(f"{where}: cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(kind, type):
        raise PluginError(f"{where}: expected a class, got {type(kind).__name__}")
    for field in _TEXTS:
        if not (isinstance(value := getattr(kind, field, None), str) and value):
            raise PluginError(f"{where}: {field}: expected a text, got {value!r}")
    if kind.name != point.name:  # type: ignore[attr-defined]  # just checked
        raise PluginError(f"{where}: name: expected {point.name!r}, as its entry point, got {kind.name!r}")  # type: ignore[attr-defined]
    needs = getattr(kind, "needs", None)
    if not (isinstance(needs, tuple) and all(isinstance(module, str) for module in needs)):
        raise PluginError(f"{where}: needs: expected a tuple of module names, got {needs!r}")
    if not callable(getattr(kind, "annotate_video", None)):
        raise PluginError(f"{where}: annotate_video: expected a method, got none")
    return kind


def _info(kind: Any, name: str, package: str) -> AnnotatorInfo:
    """Description of a class."""
    missing = [module for module in kind.needs if not is_installed(module)]
    install = tuple(f"fourdnex[{PACKAGES[module][1]}]" if module in PACKAGES else module for module in missing)
    return AnnotatorInfo(name, package, kind.version, kind.license, kind.needs, tuple(dict.fromkeys(install)))


def _require(module: str, name: str) -> None:
    """Raise an error that names what to install where a module is missing."""
    if module in PACKAGES:
        require(module, feature=f"annotator {name}")
    elif not is_installed(module):
        raise PluginError(f"annotator {name}: needs the module {module}, which is not installed")


def _package(point: EntryPoint) -> str:
    """Name of the distribution of an entry point."""
    return point.dist.name if point.dist is not None else "unknown"
