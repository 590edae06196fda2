"""The code location: `dg dev`, `dg check defs`, `dagster-webserver -m orchestration.definitions`."""

from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    """Everything below `defs/`: assets and their checks, resources, jobs, schedules, sensors."""
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
