"""Time and memory of `make demo`, run twice: `python -m benchmarks.demo CLONE [--workspace DIR]`

Installation (`make install`) runs first and does not count. Memory is the sum of the resident sizes of all processes of
a run; it is an upper bound, since shared pages count in each process.
"""

import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.reporting import argument_parser, print_table

STEP = re.compile(r"^  (\S+) +(\d+\.\d) s  ?(.*)$")
"""A line that the demo prints for a finished step: name, seconds, message."""
GIB = 2**30


@dataclass
class Run:
    """Measurements of one `make demo`."""

    seconds: float = 0.0
    status: int = 0
    steps: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    peak_processes: int = 0


def main() -> None:
    """Run the demo and print one row per step."""
    parser = argument_parser(__doc__)
    parser.add_argument("clone", type=Path, help="clone of the repository")
    parser.add_argument("--workspace", type=Path, help="empty or missing folder (default: CLONE/workspace)")
    parser.add_argument("--runs", type=int, default=2, help="number of runs (default: 2)")
    options = parser.parse_args()
    clone = options.clone.resolve()
    workspace = (options.workspace or clone / "workspace").resolve()
    if not (clone / "Makefile").is_file():
        parser.error(f"clone: expected a folder with a Makefile, got {clone}")
    if workspace.is_dir() and any(workspace.iterdir()):
        parser.error(
            f"workspace: expected an empty or missing folder, got {workspace}, where the first run would skip steps"
        )
    subprocess.run(["make", "install"], cwd=clone, check=True)
    runs = [measure(["make", "demo", f"WORKSPACE={workspace}"], clone) for _ in range(options.runs)]
    names = list(dict.fromkeys(name for run in runs for name in run.steps))
    rows: list[tuple[object, ...]] = [(name, *(run.steps.get(name) for run in runs)) for name in names]
    rows.append(("total, with startup", *(round(run.seconds, 1) for run in runs)))
    rows.append(("peak memory, GiB", *(run.peak_bytes / GIB for run in runs)))
    rows.append(("processes at the peak", *(run.peak_processes for run in runs)))
    rows.append(("exit status", *(run.status for run in runs)))
    print_table(
        "make demo after installation: seconds per step (empty: up to date, not run)",
        ("step", *(f"run {number}" for number in range(1, len(runs) + 1))),
        rows,
        notes=["Targets on two cores: first run 900 s and 8 GiB, second run 60 s."],
        packages=("torch", "dagster", "mlflow", "dvc"),
    )
    sys.exit(max(run.status for run in runs))


def measure(command: list[str], folder: Path, *, interval: float = 0.5) -> Run:
    """Run a command, print its output, and sample the memory of its process tree every `interval` seconds."""
    run = Run()
    started = time.monotonic()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FOURDNEX_")}
    environment["PYTHONUNBUFFERED"] = "1"
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    ended = threading.Event()
    sampler = threading.Thread(target=_sample_memory, args=(run, process.pid, ended, interval))
    sampler.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if match := STEP.match(line.rstrip("\n")):
                run.steps[match[1]] = float(match[2])
        run.status = process.wait()
    finally:
        ended.set()
        sampler.join()
    run.seconds = time.monotonic() - started
    return run


def _sample_memory(run: Run, pid: int, ended: threading.Event, interval: float) -> None:
    """Record the peak memory of a process tree until `ended` is set."""
    while not ended.wait(interval):
        sizes = list(_resident_sizes(pid))
        if sum(sizes) > run.peak_bytes:
            run.peak_bytes, run.peak_processes = sum(sizes), len(sizes)


def _resident_sizes(pid: int) -> list[int]:
    """Resident bytes of a process and its descendants, except those that end meanwhile."""
    sizes = []
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    for process in tree:
        try:
            sizes.append(process.memory_info().rss)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return sizes


if __name__ == "__main__":
    main()
