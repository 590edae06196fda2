"""The command line: reads the arguments, runs one of `fourdnex.commands`, and says in one line what went wrong."""

import argparse
import importlib
import inspect
import logging
import os
import sys
import warnings
from collections.abc import Sequence

from fourdnex import __version__
from fourdnex.commands import COMMANDS
from fourdnex.commands.options import add_fields, add_parameters
from fourdnex.extras import explain


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 when nothing came of it, 2 for a mistake, 130 when ended."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _quieten("--debug" in arguments)  # before anything is imported that talks
    given = vars(_parser(arguments).parse_args(arguments))
    command, debug = COMMANDS[given.pop("command")], given.pop("debug")
    try:
        return command.run(**given) or 0
    except KeyboardInterrupt:
        print("ended", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        if debug:
            raise
        print(f"error: {_in_words(error)}", file=sys.stderr)
        return 2
    except ImportError as error:
        if debug or (named := explain(error)) is None:
            raise
        print(f"error: {named}", file=sys.stderr)
        return 2


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; only the command that is asked for gets its options, so that nothing else is imported."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show tracebacks and every warning")
    parser = argparse.ArgumentParser("fourdnex", description="Single images to 4D scenes, and the life of the model.")
    parser.add_argument("--version", action="version", version=f"fourdnex {__version__}")
    asked = next((argument for argument in arguments if not argument.startswith("-")), None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        about = (inspect.getdoc(command.run) or "").splitlines()[0]
        own = commands.add_parser(
            name,
            parents=[shared],
            allow_abbrev=False,
            help=about,
            description=about,
            epilog=f"example:\n  {command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == asked:
            add_parameters(own, command.run)
            for declared in command.configs:
                module, _, config = declared.partition(":")
                add_fields(own, getattr(importlib.import_module(module), config), defaults=command.defaults())
    return parser


def _quieten(debug: bool) -> None:
    """Our own messages go to stderr; the chatter of libraries is left out unless asked for."""
    logging.basicConfig(level=logging.INFO if debug else logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("fourdnex").setLevel(logging.INFO)
    if not debug:
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
        for library in ("TRANSFORMERS", "DIFFUSERS"):
            os.environ.setdefault(f"{library}_VERBOSITY", "error")
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.ERROR)


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
