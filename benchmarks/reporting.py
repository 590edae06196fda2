"""Command line and output shared by the benchmarks: options, the machine, and Markdown tables."""

import argparse
import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd

from fourdnex.cores import available_cores

PACKAGES = ("numpy", "torch", "diffusers")


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose `--help` shows the docstring of a benchmark with its line breaks."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """Add `--model`, the base model that a benchmark loads."""
    parser.add_argument("--model", default="tiny", help="preset or folder of the base model (default: tiny)")


def add_cpu_time_option(parser: argparse.ArgumentParser) -> None:
    """Add `--cpu-time`, which reports CPU time instead of wall time."""
    parser.add_argument(
        "--cpu-time", action="store_true", help="report CPU time instead of wall time, for a machine under load"
    )


def machine(packages: Sequence[str] = PACKAGES) -> str:
    """One line: available cores, processor, load, Python version and the versions of `packages`."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    cores = f"{available_cores()} of {os.cpu_count()} cores"
    return f"{cores}, {_processor()}{load}; Python {platform.python_version()}, {versions}"


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    notes: Sequence[str] = (),
    packages: Sequence[str] = PACKAGES,
) -> None:
    """Print a Markdown table with its title above it, and the notes and the machine below it."""
    print(f"\n## {title}\n")
    print("| " + " | ".join(columns) + " |")
    print("| " + " | ".join(["---"] * len(columns)) + " |")
    for row in rows:
        print("| " + " | ".join(_cell(value) for value in row) + " |")
    print()
    for note in notes:
        print(note)
    print(f"Machine: {machine(packages)}", flush=True)


def median_and_range(row: pd.Series, metric: str) -> str:
    """A metric of an ablation's summary: the median over seeds, with the range where there is more than one seed."""
    text = f"{row[metric]:.4g}"
    return text if row["seeds"] == 1 else f"{text} ({row[metric + '_low']:.4g} to {row[metric + '_high']:.4g})"


def _cell(value: object) -> str:
    """A table cell: floats with four significant digits, None as an empty cell."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _version(name: str) -> str:
    """Version of an installed package, or "missing"."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _processor() -> str:
    """Model name of the CPU."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
