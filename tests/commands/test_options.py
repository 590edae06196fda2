"""Options are generated from one declaration: the fields of a dataclass, the parameters of a function."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from fourdnex.commands.options import add_fields, add_parameters, field_docs


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to bake."""

    oven: Path
    """Where it is
    baked."""
    minutes: int = 30
    """Of 60; 50 % of an hour."""
    heat: float = 180.0
    steam: bool = False
    flour: Literal["rye", "wheat"] = "rye"
    sizes: tuple[int, ...] = (1, 2)
    span: tuple[float, float] = (0.0, 1.0)
    note: str | None = None


def parse(arguments, **settings):
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_fields(parser, Recipe, **settings)
    return vars(parser.parse_args(arguments))


def test_options_that_are_not_passed_are_absent():
    assert parse(["--oven", "a"]) == {"oven": Path("a")}
    assert Recipe(**parse(["--oven", "a"])).minutes == 30


def test_every_type():
    given = "--oven a --minutes 5 --heat 1e2 --steam --flour wheat --sizes 3 4 --span 0.5 1 --note hello".split()
    assert Recipe(**parse(given)) == Recipe(
        oven=Path("a"), minutes=5, heat=100.0, steam=True, flour="wheat", sizes=(3, 4), span=(0.5, 1.0), note="hello"
    )
    assert parse(["--oven", "a", "--no-steam"])["steam"] is False


def test_a_default_of_the_command_line_makes_a_field_optional():
    assert parse([], defaults={"oven": Path("there")}) == {"oven": Path("there")}


def test_errors_name_the_option():
    with pytest.raises(argparse.ArgumentError, match="--minutes: invalid int value: 'long'"):
        parse(["--oven", "a", "--minutes", "long"])
    with pytest.raises(argparse.ArgumentError, match="--span: expected 2 arguments"):
        parse(["--oven", "a", "--span", "1"])
    with pytest.raises(argparse.ArgumentError, match="--flour: invalid choice"):
        parse(["--oven", "a", "--flour", "oat"])


def test_help_is_the_docstring_of_the_field(capsys):
    assert field_docs(Recipe)["oven"] == "Where it is baked."
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "Of 60; 50 % of an hour (default: 30)" in text
    assert "(default: 1 2)" in text


def test_parameters_of_a_function():
    def bake(bread: Annotated[Path, "what"], *, minutes: Annotated[int, "how long"] = 3, **others: object) -> None: ...

    parser = argparse.ArgumentParser()
    add_parameters(parser, bake)
    assert vars(parser.parse_args(["loaf", "--minutes", "4"])) == {"bread": Path("loaf"), "minutes": 4}
    assert vars(parser.parse_args(["loaf"])) == {"bread": Path("loaf"), "minutes": 3}


def test_types_that_the_command_line_cannot_parse_are_rejected():
    def bad(*, table: dict) -> None: ...

    with pytest.raises(TypeError, match="table: expected a type that the command line can parse"):
        add_parameters(argparse.ArgumentParser(), bad)


@dataclass(frozen=True, kw_only=True)
class Feast(Recipe):
    """Recipe and guests."""

    guests: int = 4
    """Hungry ones."""


def test_inherited_fields_are_options_with_their_docstrings():
    assert field_docs(Feast) == {
        "oven": "Where it is baked.",
        "minutes": "Of 60; 50 % of an hour.",
        "guests": "Hungry ones.",
    }


def test_the_home_folder_is_expanded(monkeypatch):
    """Shells do not expand `--oven=~/a`; text options are expanded too, because some of their values are paths."""
    monkeypatch.setenv("HOME", "/home/cook")
    given = Recipe(**parse(["--oven=~/a", "--note=~/b"]))
    assert (given.oven, given.note) == (Path("/home/cook/a"), "/home/cook/b")

    def bake(bread: Path, *, pans: tuple[Path, ...] = (), note: str | None = None) -> None: ...

    parser = argparse.ArgumentParser()
    add_parameters(parser, bake)
    assert vars(parser.parse_args(["~/loaf", "--pans", "~/a", "b", "--note", "about ~/x, ~ 3 of them"])) == {
        "bread": Path("/home/cook/loaf"),
        "pans": (Path("/home/cook/a"), Path("b")),
        "note": "about ~/x, ~ 3 of them",
    }
