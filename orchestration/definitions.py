"""The code location: `dg dev`, `dg check defs`, `dagster-webserver -m orchestration.definitions`."""

from pathlib import Path

import dagster as dg

from orchestration.dagster_internals import warn_if_untested


@dg.definitions
def defs() -> dg.Definitions:
    """All definitions in `defs/`: assets and their checks, resources, jobs, schedules, sensors."""
    warn_if_untested()
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
