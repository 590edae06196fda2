"""Measurements shared by the benchmarks: wall and CPU time, file sizes, depth error after median scaling."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

Name = TypeVar("Name", bound=str)


@dataclass(frozen=True)
class Timing:
    """Median duration of a piece of work in seconds."""

    wall: float
    cpu: float
    """Processor time of all threads of this process."""

    def seconds(self, *, cpu: bool) -> float:
        """CPU time, or wall time."""
        return self.cpu if cpu else self.wall


def time_work(work: Callable[[], object], *, repeats: int, warmup: int = 0) -> Timing:
    """Median time of `repeats` calls, after `warmup` calls that do not count."""
    return time_in_turns({"work": lambda _: work()}, repeats=repeats, warmup=warmup)["work"]


def time_in_turns(
    works: Mapping[Name, Callable[[int], object]], *, repeats: int, warmup: int = 1
) -> dict[Name, Timing]:
    """Median time of several pieces of work that take turns, so that all of them meet the same load.

    Args:
        works: called with the number of the round, which counts from 0 and includes the warm-up rounds.
        repeats: timed rounds.
        warmup: rounds before them that do not count.
    """
    wall: dict[Name, list[float]] = {name: [] for name in works}
    cpu: dict[Name, list[float]] = {name: [] for name in works}
    for number in range(warmup + repeats):
        for name, work in works.items():
            wall_start, cpu_start = time.perf_counter(), time.process_time()
            work(number)
            if number >= warmup:
                wall[name].append(time.perf_counter() - wall_start)
                cpu[name].append(time.process_time() - cpu_start)
    return {name: Timing(statistics.median(wall[name]), statistics.median(cpu[name])) for name in works}


def megabytes(path: Path) -> float:
    """Size of a file, or of all files in a folder, in MB."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def median_scaled_abs_rel(
    predicted: np.ndarray,  # [H, W]
    true: np.ndarray,  # [H, W]
) -> float:
    """Mean relative depth error after scaling the prediction by the median ratio."""
    return float(np.mean(np.abs(predicted * np.median(true / predicted) - true) / true))
