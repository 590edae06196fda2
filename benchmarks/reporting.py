"""What every benchmark prints: the machine and one table in Markdown."""

import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fourdnex.cores import available_cores

PACKAGES = ("numpy", "torch", "diffusers")


def machine(packages: Sequence[str] = PACKAGES) -> str:
    """One line: cores this process may use, processor, Python and the versions of `packages`."""
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
    """Print a Markdown table with its title above, the machine and the notes below."""
    print(f"\n## {title}\n")
    print("| " + " | ".join(columns) + " |")
    print("| " + " | ".join(["---"] * len(columns)) + " |")
    for row in rows:
        print("| " + " | ".join(_cell(value) for value in row) + " |")
    print()
    for note in notes:
        print(note)
    print(f"Machine: {machine(packages)}", flush=True)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
