"""Every call of the command line that the documentation shows is one that the parser takes."""

import argparse
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest

from fourdnex.cli import build_parser
from fourdnex.commands import COMMANDS
from tests.docs.pages import ROOT, TEXT, named, own_parser, shell_lines, spans, table

_COMMAND = re.compile(r"(?:^|[\s/])fourdnex ([a-z][a-z-]*)(.*)$")


def lenient_parser(command: str) -> argparse.ArgumentParser:
    """The command's own parser, which takes any part of a call: values are checked, what is missing is not."""
    parser = own_parser(command)
    for action in parser._actions:
        action.required = False
        if not action.option_strings:
            action.nargs = "?"
    for group in parser._mutually_exclusive_groups:
        group.required = False
    return parser


def mistake(parser: argparse.ArgumentParser, arguments: list[str], capsys: Any) -> str:
    """What the parser says against the arguments; empty where it takes them. The last option may go without value."""
    try:
        parser.parse_args(arguments)
    except SystemExit as ended:
        said = capsys.readouterr().err.strip()
        named_alone = re.search(r"expected (one|at least one|\d+) arguments?$", said) and arguments[-1][:2] == "--"
        return "" if ended.code == 0 or named_alone else said.splitlines()[-1]
    return ""


def filled(parser: argparse.ArgumentParser, arguments: list[str]) -> list[str]:
    """Arguments with values in the place of words such as FILE after an option: one of its choices, or 1."""
    values: list[str] = []
    for before, word in zip(["", *arguments], arguments, strict=False):
        action = parser._option_string_actions.get(before)
        values.append(str(next(iter(action.choices or [1]))) if action is not None and word.isupper() else word)
    return values


def called(text: str) -> tuple[str, list[str]] | None:
    """Command and arguments of a call of `fourdnex` in a line of shell, up to what it is piped into."""
    found = _COMMAND.search(text)
    return (found[1], shlex.split(re.split(r"[|;&>]", found[2])[0], comments=True)) if found else None


CALLS = [(page, line) for page in TEXT for line in shell_lines(page) if called(line) and not line.startswith("#")]


@pytest.mark.parametrize(("page", "line"), CALLS, ids=[f"{page}: {line[:60]}" for page, line in CALLS])
def test_every_call_in_a_code_block_parses(page, line, capsys):
    command, arguments = called(line)
    assert command in COMMANDS
    assert mistake(build_parser([command]), [command, *arguments], capsys) == ""


@pytest.mark.parametrize("page", TEXT)
def test_every_call_in_the_text_names_a_command_and_its_options(page, capsys):
    wrong = {}
    for span in spans(page):
        if (call := called(span)) and call[0] != "command" and span.split()[-1] != "COMMAND":
            if call[0] not in COMMANDS:
                wrong[span] = "no such command"
                continue
            parser = lenient_parser(call[0])
            wrong |= {span: said} if (said := mistake(parser, filled(parser, call[1]), capsys)) else {}
    assert wrong == {}


@pytest.mark.parametrize("page", TEXT)
def test_every_option_in_the_text_exists_and_takes_its_value(page, capsys):
    """An option without a command is one of some command, or of a benchmark; `train --shard-model` is one of train."""
    parsers = {command: lenient_parser(command) for command in COMMANDS}
    benchmarks = "\n".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    others = set(re.findall(r'"(--[\w-]+)"', benchmarks))
    wrong = {}
    for span in spans(page):
        words = shlex.split(span)
        asked = [words[0]] if words and words[0] in COMMANDS else list(COMMANDS)
        arguments = words[1:] if words and words[0] in COMMANDS else words
        if not arguments or not re.match(r"--[a-z]", arguments[0]) or arguments[0] in others:
            continue
        said = [mistake(parsers[command], filled(parsers[command], arguments), capsys) for command in asked]
        wrong |= {span: said} if all(said) else {}
    assert wrong == {}


def test_the_table_of_commands_is_complete(capsys):
    calls = [called(named(row[0])[0]) for row in table("README.md", "command", "does")]
    assert sorted(command for command, _ in calls) == sorted(COMMANDS)
    for command, arguments in calls:
        assert mistake(own_parser(command), filled(own_parser(command), arguments), capsys) == "", command


def benchmark_options() -> dict[str, set[str]]:
    """The options that a page shows with a call of a benchmark, by the benchmark."""
    shown: dict[str, set[str]] = {}
    for text in (text for page in TEXT for text in [*spans(page), *shell_lines(page)]):
        if found := re.search(r"benchmarks\.(\w+)(.*)", text):
            shown.setdefault(found[1], set()).update(re.findall(r"--[a-z][\w-]*", found[2]))
    return {module: options for module, options in shown.items() if options}


@pytest.mark.slow
@pytest.mark.parametrize(("module", "options"), benchmark_options().items())
def test_every_call_of_a_benchmark_has_options_of_that_benchmark(module, options):
    command = [sys.executable, "-m", f"benchmarks.{module}", "--help"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [option for option in sorted(options) if option not in said.stdout] == []
