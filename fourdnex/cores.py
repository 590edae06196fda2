"""Number of available CPU cores."""

import os


def available_cores() -> int:
    """Cores that this process may run on: its CPU affinity where the system reports it, else all cores."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
