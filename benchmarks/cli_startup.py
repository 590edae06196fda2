"""Start-up time of the command line, against prototypes that parse the same options with tyro.

Each row is a fresh Python process: wall-clock and CPU time, median of the repeats. tyro is not a dependency: if it is
not installed, its rows are skipped. To measure it without installing it into the environment:

    pip install --target /tmp/tyro tyro
    PYTHONPATH=/tmp/tyro python -m benchmarks.cli_startup
"""

import importlib.util
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median

from benchmarks.reporting import argument_parser, print_table

COMMANDS = ("generate", "train", "curate", "export")
"""Of which the options need no imports, or numpy (`curate` and `export`)."""

PROTOTYPE = """
import importlib, inspect, sys
import tyro
from fourdnex.commands import COMMANDS

def call(**settings): pass

command = COMMANDS[sys.argv[1]]
keyword, parameters = inspect.Parameter.KEYWORD_ONLY, []
for name, parameter in inspect.signature(command.run).parameters.items():
    if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
        kind = keyword if parameter.kind is keyword else inspect.Parameter.POSITIONAL_ONLY
        parameters.append(parameter.replace(kind=kind))
for number, declared in enumerate(command.configs):
    module, _, config = declared.partition(":")
    annotation = getattr(importlib.import_module(module), config)
    parameters.append(inspect.Parameter(f"config_{number}", keyword, annotation=annotation))
call.__signature__ = inspect.Signature(parameters)
call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
tyro.cli(call, prog=f"fourdnex {command.name}", args=["--help"], config=(tyro.conf.OmitArgPrefixes,))
"""
"""Prints the help of a command, with the options that it has today, by tyro."""


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=7, help="processes per row (default: %(default)s)")
    repeats = parser.parse_args().repeats
    cases = {"python -c pass": ["-c", "pass"], "fourdnex --version": ["-m", "fourdnex", "--version"]}
    cases |= {f"fourdnex {command} --help": ["-m", "fourdnex", command, "--help"] for command in COMMANDS}
    if importlib.util.find_spec("tyro") is None:
        print("tyro is not installed, its rows are skipped; --help shows how to include them", file=sys.stderr)
    else:
        cases["import tyro"] = ["-c", "import tyro"]
        cases |= {f"tyro prototype of {command} --help": ["-c", PROTOTYPE, command] for command in COMMANDS}
    rows = []
    for name, arguments in cases.items():
        wall, cpu = zip(*(measure(arguments) for _ in range(repeats)), strict=True)
        rows.append([name, f"{median(wall):.2f}", f"{median(cpu):.2f}"])
    print_table(f"Start-up, median of {repeats}", ["process", "wall-clock s", "CPU s"], rows, packages=("tyro",))


def measure(arguments: Sequence[str]) -> tuple[float, float]:
    """Wall-clock and CPU seconds of a Python process."""
    before, started = _child_seconds(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=os.environ, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started, _child_seconds() - before


def _child_seconds() -> float:
    """CPU seconds of finished child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
