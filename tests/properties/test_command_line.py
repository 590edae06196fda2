"""Every option of every command: the text of a value is parsed to the value."""

import argparse
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourdnex.cli import build_parser
from fourdnex.commands import COMMANDS
from fourdnex.commands.completion import subparsers
from fourdnex.commands.options import takes_path

texts = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=12)
plain_texts = texts.filter(lambda text: text[0] not in "-~")  # as users type values of lists and of arguments


def value_strategy(action: argparse.Action, text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Values of one option or argument."""
    if action.choices is not None:
        return st.sampled_from(list(action.choices))
    if takes_path(action):
        return text.map(Path)
    if action.type is int:
        return st.integers()
    if action.type is float:
        return st.floats(allow_nan=False)
    assert callable(action.type), action.dest
    return text


def example(action: argparse.Action) -> list[str]:
    """A valid value of a required option or argument."""
    if action.choices is not None:
        return [str(next(iter(action.choices)))]
    return ["1"]


def required(actions: list[argparse.Action], without: argparse.Action) -> list[str]:
    """Command-line arguments for everything that is required, except for one option or argument."""
    given_values = []
    for action in actions:
        if action is not without and action.option_strings and action.required:
            given_values += [action.option_strings[0], *example(action)]
    return given_values


@pytest.fixture(scope="module", params=COMMANDS)
def command(request) -> tuple[str, argparse.ArgumentParser, argparse.ArgumentParser]:
    """Name, the parser of the command line, and the parser of the command."""
    parser = build_parser(request.param.split()[:1])
    return request.param, parser, subparsers(parser)[request.param]


@settings(max_examples=5)
@given(data=st.data())
def test_the_text_of_a_value_is_parsed_to_the_value(command, data):
    name, parser, subparser = command
    actions = [action for action in subparser._actions if not isinstance(action, argparse._HelpAction)]
    positional = [action for action in actions if not action.option_strings]
    arguments = [argument for action in positional if action.nargs != "?" for argument in example(action)]
    for action in actions:
        if action in positional:
            value = data.draw(value_strategy(action, plain_texts), label=action.dest)
            fill = [[str(value)] if each is action else example(each) for each in positional]
            words = [word for each in fill[: positional.index(action) + 1] for word in each]
            words += [word for each, part in zip(positional, fill, strict=True) for word in part
                      if positional.index(each) > positional.index(action) and each.nargs != "?"]  # fmt: skip
        elif isinstance(action, argparse.BooleanOptionalAction):
            value = data.draw(st.booleans(), label=action.dest)
            words = [*arguments, action.option_strings[0 if value else 1]]
        elif action.nargs == 0:
            value, words = True, [*arguments, action.option_strings[0]]
        elif action.nargs is None:
            value = data.draw(value_strategy(action, texts.filter(lambda text: text[0] != "~")), label=action.dest)
            words = [*arguments, f"{action.option_strings[0]}={value}"]
        else:
            count = action.nargs if isinstance(action.nargs, int) else data.draw(st.integers(1, 3))
            elements = value_strategy(action, plain_texts)
            if action.choices is None and not takes_path(action) and action.type in (int, float):
                elements = elements.filter(lambda number: number >= 0)
            value = tuple(data.draw(st.lists(elements, min_size=count, max_size=count), label=action.dest))
            words = [*arguments, action.option_strings[0], *map(str, value)]
        parsed = vars(parser.parse_args([*name.split(), *words, *required(actions, action)]))
        expected = (value,) if action in positional and action.nargs == "+" else value
        assert parsed[action.dest] == expected, words


def test_every_command_has_options_or_arguments(command):
    _, _, subparser = command
    assert len(subparser._actions) > 1
