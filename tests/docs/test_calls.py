"""Every command line in the documentation is accepted by the parser."""

import argparse
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest

from fourdnex.cli import build_parser
from fourdnex.commands import COMMANDS, GROUPS
from tests.docs.pages import ROOT, TEXT, command_parser, inline_code, shell_lines, spans, table

_COMMAND = re.compile(r"(?:^|[\s/])fourdnex ([a-z][a-z-]*)(.*)$")


def lenient_parser(command: str) -> argparse.ArgumentParser:
    """Parser of a command that checks values, but accepts calls with missing arguments."""
    parser = command_parser(command)
    for action in parser._actions:
        action.required = False
        if not action.option_strings:
            action.nargs = "*" if action.nargs == "+" else "?"
    for group in parser._mutually_exclusive_groups:
        group.required = False
    return parser


def parser_error(parser: argparse.ArgumentParser, arguments: list[str], capsys: Any) -> str:
    """The parser's error message; empty if it accepts the arguments. The last option may lack its value."""
    try:
        parser.parse_args(arguments)
    except SystemExit as ended:
        message = capsys.readouterr().err.strip()
        lacks_value = re.search(r"expected (one|at least one|\d+) arguments?$", message) and arguments[-1][:2] == "--"
        return "" if ended.code == 0 or lacks_value else message.splitlines()[-1]
    return ""


def with_example_values(parser: argparse.ArgumentParser, arguments: list[str]) -> list[str]:
    """Arguments with metavariables such as FILE or SHELL replaced by one of their choices, or by 1 after an option."""
    by_metavar = {action.metavar: action for action in parser._actions if not action.option_strings and action.choices}
    values: list[str] = []
    for before, word in zip(["", *arguments], arguments, strict=False):
        action = parser._option_string_actions.get(before) or by_metavar.get(word)
        values.append(str(next(iter(action.choices or [1]))) if action is not None and word.isupper() else word)
    return values


def fourdnex_call(text: str) -> tuple[str, list[str]] | None:
    """Command and arguments of a `fourdnex` call in a shell line, up to a pipe or redirection; None without a call."""
    if not (match := _COMMAND.search(text)):
        return None
    words = [match[1], *shlex.split(re.split(r"[|;&>]", match[2])[0], comments=True)]
    command = " ".join(words[: 2 if words[0] in GROUPS else 1])
    return command, words[len(command.split()) :]


CALLS = [
    (page, line) for page in TEXT for line in shell_lines(page) if fourdnex_call(line) and not line.startswith("#")
]


@pytest.mark.parametrize(("page", "line"), CALLS, ids=[f"{page}: {line[:60]}" for page, line in CALLS])
def test_calls_in_code_blocks_parse(page, line, capsys):
    command, arguments = fourdnex_call(line)
    assert command in COMMANDS
    assert parser_error(build_parser(command.split()[:1]), [*command.split(), *arguments], capsys) == ""


@pytest.mark.parametrize("page", TEXT)
def test_calls_in_inline_code_name_a_command_and_its_options(page, capsys):
    wrong = {}
    for span in spans(page):
        if (call := fourdnex_call(span)) and call[0] != "command" and span.split()[-1] != "COMMAND":
            if call[0] not in COMMANDS:
                wrong[span] = "unknown command"
                continue
            parser = lenient_parser(call[0])
            wrong |= (
                {span: error} if (error := parser_error(parser, with_example_values(parser, call[1]), capsys)) else {}
            )
    assert wrong == {}


@pytest.mark.parametrize("page", TEXT)
def test_options_in_inline_code_exist_and_accept_their_value(page, capsys):
    """An option alone belongs to any command or benchmark; `train --shard-model` belongs to train."""
    parsers = {command: lenient_parser(command) for command in COMMANDS}
    benchmarks = "\n".join(path.read_text() for path in (ROOT / "benchmarks").rglob("*.py"))
    benchmark_flags = set(re.findall(r'"(--[\w-]+)"', benchmarks))
    wrong = {}
    for span in spans(page):
        words = shlex.split(span)
        candidates = [words[0]] if words and words[0] in COMMANDS else list(COMMANDS)
        arguments = words[1:] if words and words[0] in COMMANDS else words
        if not arguments or not re.match(r"--[a-z]", arguments[0]) or arguments[0] in benchmark_flags:
            continue
        errors = [
            parser_error(parsers[command], with_example_values(parsers[command], arguments), capsys)
            for command in candidates
        ]
        wrong |= {span: errors} if all(errors) else {}
    assert wrong == {}


def test_table_of_commands_is_complete(capsys):
    calls = [fourdnex_call(inline_code(row[0])[0]) for row in table("README.md", "command", "does")]
    assert sorted(command for command, _ in calls) == sorted(COMMANDS)
    for command, arguments in calls:
        assert (
            parser_error(command_parser(command), with_example_values(command_parser(command), arguments), capsys) == ""
        ), command


def benchmark_options() -> dict[str, set[str]]:
    """Options in the documented calls of benchmarks, by benchmark."""
    shown: dict[str, set[str]] = {}
    for text in (text for page in TEXT for text in [*spans(page), *shell_lines(page)]):
        if match := re.search(r"benchmarks\.(\w+)(.*)", text):
            shown.setdefault(match[1], set()).update(re.findall(r"--[a-z][\w-]*", match[2]))
    return {module: options for module, options in shown.items() if options}


@pytest.mark.slow
@pytest.mark.parametrize(("module", "options"), benchmark_options().items())
def test_calls_of_benchmarks_use_existing_options(module, options):
    command = [sys.executable, "-m", f"benchmarks.{module}", "--help"]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [option for option in sorted(options) if option not in output.stdout] == []
