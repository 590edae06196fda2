"""The command line: parses the arguments, runs one of `fourdnex.commands`, and reports errors in one line."""

import argparse
import importlib
import inspect
import json
import logging
import os
import sys
import warnings
from collections.abc import Collection, Sequence
from contextlib import nullcontext, redirect_stdout

from fourdnex import __version__
from fourdnex.commands import COMMANDS, GROUPS, Command, Result
from fourdnex.commands.options import add_fields, add_parameters
from fourdnex.commands.renamed_options import current_arguments
from fourdnex.extras import explain
from fourdnex.progress import show_progress, write_line


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0 for success, 1 if there is no result, 2 for an error, 130 if the command was interrupted.
    """
    arguments, notes = current_arguments(sys.argv[1:] if argv is None else argv)
    _configure_logging("--debug" in arguments)  # before libraries are imported, which log and warn at import
    requested = next((argument for argument in arguments if not argument.startswith("-")), None)
    try:
        parser = build_parser([requested] if requested else [])
    except ImportError as error:  # importing the configuration of the command may need an extra
        if "--debug" in arguments or (missing := explain(error)) is None:
            raise
        return _fail(str(missing), as_json="--json" in arguments)
    parsed = vars(parser.parse_args(arguments))
    name = " ".join(filter(None, (parsed.pop("command"), parsed.pop("member", None))))
    command, debug = COMMANDS[name], parsed.pop("debug")
    as_json = parsed.pop("json", False)
    if command.takes_parser:
        parsed["parser"] = build_parser([name.split()[0] for name in COMMANDS])
    for note in notes:
        write_line(note)
    try:
        # With --json, stdout holds the JSON object alone: whatever the command prints for people goes to stderr.
        with show_progress(), redirect_stdout(sys.stderr) if as_json else nullcontext():
            result = command.run(**parsed)
    except KeyboardInterrupt:
        return _fail("interrupted", status=130, as_json=as_json, prefix="")
    except (ValueError, OSError) as error:
        if debug:
            raise
        return _fail(_describe(error), as_json=as_json)
    except ImportError as error:
        if debug or (missing := explain(error)) is None:
            raise
        return _fail(str(missing), as_json=as_json)
    if not isinstance(result, Result):
        return result or 0
    if as_json:
        print(result.to_json())
    return result.status


def build_parser(with_options: Collection[str]) -> argparse.ArgumentParser:
    """The parser of the command line.

    Args:
        with_options: commands and groups that get their options; a command's options may import large packages.
    """
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show tracebacks and all warnings")
    parser = argparse.ArgumentParser(
        "fourdnex", description="Turn single images into 4D scenes, and train, evaluate and manage the model behind it."
    )
    parser.add_argument("--version", action="version", version=f"fourdnex {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    groups = {"": commands}
    for name, command in COMMANDS.items():
        summary = (inspect.getdoc(command.run) or "").splitlines()[0]
        group, _, word = name.rpartition(" ")
        if group not in groups:
            members = commands.add_parser(group, help=GROUPS[group], description=GROUPS[group])
            groups[group] = members.add_subparsers(dest="member", metavar="COMMAND", required=True)
        subparser = groups[group].add_parser(
            word,
            parents=[shared],
            allow_abbrev=False,
            help=summary,
            description=summary,
            epilog=f"example:\n  {command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if (group or name) in with_options:
            _add_options(subparser, command)
    return parser


def _add_options(parser: argparse.ArgumentParser, command: Command) -> None:
    """Add the options and arguments of a command."""
    if command.has_json:
        parser.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout")
    add_parameters(parser, command.run)
    for declared in command.configs:
        module, _, config = declared.partition(":")
        add_fields(parser, getattr(importlib.import_module(module), config), defaults=command.defaults())


def _configure_logging(debug: bool) -> None:
    """Log messages of fourdnex to stderr; silence other libraries unless `debug`."""
    logging.basicConfig(level=logging.INFO if debug else logging.WARNING, handlers=[_StderrHandler()])
    logging.getLogger("fourdnex").setLevel(logging.INFO)
    if not debug:
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
        for library in ("TRANSFORMERS", "DIFFUSERS"):
            os.environ.setdefault(f"{library}_VERBOSITY", "error")
        for library in ("mlflow", "alembic"):
            logging.getLogger(library).setLevel(logging.ERROR)


class _StderrHandler(logging.Handler):
    """Writes messages above a progress bar, if one is displayed."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        write_line(self.format(record))


def _fail(message: str, *, as_json: bool, status: int = 2, prefix: str = "error: ") -> int:
    """Report an error on stderr, and with --json on stdout too; returns the exit status."""
    write_line(f"{prefix}{message}")
    if as_json:
        print(json.dumps({"error": message}))
    return status


def _describe(error: Exception) -> str:
    """An error in one line, without the number of an `OSError`."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
