"""Which runs a sensor starts: never one beside another for the same thing, and what failed again, but not forever."""

import dagster as dg
from dagster._core.storage.tags import PARTITION_NAME_TAG, RUN_KEY_TAG

ATTEMPTS = 3
_ENDED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
# Not NOT_STARTED: the daemon was killed between making such a run and starting it, and starts it when its key is asked
# for again.
_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def attempt_key(instance: dg.DagsterInstance, key: str) -> str | None:
    """The run key of the next attempt at `key`; None once `ATTEMPTS` runs of it failed or were ended.

    The daemon starts one run for a run key, whatever becomes of it: each attempt needs a key of its own. While a run
    is under way or after it succeeded the key stays as it is, and no other run is started.
    """
    keys = [f"{key} attempt {number}" for number in range(1, ATTEMPTS + 1)]
    ended = instance.get_runs_count(dg.RunsFilter(tags={RUN_KEY_TAG: keys}, statuses=_ENDED))
    return keys[ended] if ended < ATTEMPTS else None


def was_started(instance: dg.DagsterInstance, key: str) -> bool:
    """Whether the daemon has started the run of this key already."""
    return instance.get_runs_count(dg.RunsFilter(tags={RUN_KEY_TAG: key})) > 0


def runs_by_partition(instance: dg.DagsterInstance) -> dict[str, str]:
    """The runs that are queued or in progress, by the partition they are for.

    A sensor that leaves such a partition alone and compares again later coalesces requests and loses none: a queued
    run takes whatever is there when it starts, and what changes after that differs from what the run has made.
    """
    runs = instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY))
    return {run.tags[PARTITION_NAME_TAG]: run.run_id for run in runs if PARTITION_NAME_TAG in run.tags}


def run_of_job(instance: dg.DagsterInstance, job: str) -> str | None:
    """A run of `job` that is queued or in progress; None where there is none."""
    runs = instance.get_runs(dg.RunsFilter(job_name=job, statuses=_UNDER_WAY), limit=1)
    return runs[0].run_id if runs else None
