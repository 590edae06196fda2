"""Former names of options and values are accepted on the command line and in Dagster's settings, with a note."""

import argparse
import warnings

import pytest

from fourdnex.cli import build_parser, main
from fourdnex.commands.completion import subparsers
from fourdnex.commands.renamed_options import RENAMED_OPTIONS, RENAMED_VALUES, current_arguments, current_fields
from fourdnex.io.files import read_json
from fourdnex.io.renamed import RECIPE_KEYS, RECIPE_VALUES
from tests.docs.pages import ROOT

FORMER = read_json(ROOT / "tests" / "commands" / "former_options.json")
"""Command -> option -> choices, as of the versions before options were renamed."""


@pytest.mark.parametrize("command", sorted(FORMER))
def test_every_former_option_is_accepted(command):
    actions = subparsers(build_parser([command]))[command]._option_string_actions
    for option, choices in FORMER[command].items():
        (_, current), notes = current_arguments([command, option])
        assert current in actions, option
        assert bool(notes) == (current != option)
        for choice in choices:
            (_, _, value), _ = current_arguments([command, option, choice])
            assert value in {str(each) for each in actions[current].choices}, (option, choice)


def test_former_options_and_values_become_the_current_ones():
    former = "generate in out --starts depth --seed 1".split()
    arguments, notes = current_arguments(former)
    assert arguments == "generate in out --first-frame-geometry depth --seed 1".split()
    assert notes == ["note: --starts is deprecated, use --first-frame-geometry"]
    arguments, notes = current_arguments(["train", "--xyz-start=given", "--statistics-from", "public"])
    assert arguments == ["train", "--xyz-init=pointmap", "--statistics-from", "reference"]
    assert notes == [
        "note: --xyz-start is deprecated, use --xyz-init",
        "note: --xyz-init given is deprecated, use --xyz-init pointmap",
        "note: --statistics-from public is deprecated, use --statistics-from reference",
    ]


@pytest.mark.parametrize(
    "arguments", [["generate", "given", "public", "--prompt", "given"], ["a", "--", "--starts"], []]
)
def test_other_arguments_are_unchanged(arguments):
    assert current_arguments(arguments) == (arguments, [])


def test_the_note_goes_to_stderr(tmp_path, capsys):
    assert main(["videos", str(tmp_path / "none"), str(tmp_path / "out"), "--licence", "CC0-1.0"]) == 2
    assert capsys.readouterr().err.splitlines()[0] == "note: --licence is deprecated, use --license"


def test_a_former_name_may_be_current_in_another_command():
    assert current_arguments(["pretrain-depth", "--ema", "0.9"])[0] == ["pretrain-depth", "--ema-decay", "0.9"]
    assert current_arguments(["train", "--ema", "0.9"]) == (["train", "--ema", "0.9"], [])


def test_former_names_are_not_offered_by_help():
    parsers = subparsers(build_parser(FORMER))
    options = {action for parser in parsers.values() for action in parser._option_string_actions}
    assert not options & {f"--{name.replace('_', '-')}" for name in RENAMED_OPTIONS}


def test_former_fields_become_the_current_ones_with_a_warning():
    former = {"xyz_start": "given", "pure_noise": 0.1, "steps": 5}
    with pytest.warns(FutureWarning, match=r"SETTINGS: deprecated names: xyz_start \(now xyz_init\)"):
        current = current_fields(former, source="SETTINGS")
    assert current == {"xyz_init": "pointmap", "sigma_one_prob": 0.1, "steps": 5}


def test_a_field_under_both_names_keeps_the_current_value():
    with pytest.warns(FutureWarning, match="pure_noise"):
        assert current_fields({"sigma_one_prob": 0.2, "pure_noise": 0.1}, source="SETTINGS") == {"sigma_one_prob": 0.2}


def test_current_fields_give_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert current_fields({"xyz_init": "pointmap"}, source="SETTINGS") == {"xyz_init": "pointmap"}


def test_the_names_that_files_and_options_share_agree():
    assert RECIPE_KEYS.items() <= RENAMED_OPTIONS.items()
    assert {name: RENAMED_VALUES.get(name) for name in RECIPE_VALUES} == RECIPE_VALUES


def test_parsers_reject_former_names_themselves():
    """The translation happens before parsing, so that documentation cannot show a former name."""
    with pytest.raises((SystemExit, argparse.ArgumentError)):
        build_parser(["train"]).parse_args(["train", "--output", "out", "--pure-noise", "0.1"])
