"""Which runs sensors request: one at a time per target, and a limited number of retries after failures."""

import dagster as dg

from orchestration.dagster_internals import PARTITION_NAME_TAG, RUN_KEY_TAG

MAX_ATTEMPTS = 3
_FAILED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
# Without NOT_STARTED: a run has this status if the daemon was killed between creating and launching it. The daemon
# launches it when its run key is requested again.
_ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def attempt_key(instance: dg.DagsterInstance, key: str) -> str | None:
    """The run key of the next attempt at `key`; None after `MAX_ATTEMPTS` failed or canceled runs.

    The daemon launches one run per run key, whatever its outcome, so each attempt needs its own key. While a run is
    active, and after it succeeded, the key does not change and no other run is launched.
    """
    keys = [f"{key} attempt {number}" for number in range(1, MAX_ATTEMPTS + 1)]
    failed = instance.get_runs_count(dg.RunsFilter(tags={RUN_KEY_TAG: keys}, statuses=_FAILED))
    return keys[failed] if failed < MAX_ATTEMPTS else None


def was_launched(instance: dg.DagsterInstance, key: str) -> bool:
    """Whether the daemon has already launched the run of this key."""
    return instance.get_runs_count(dg.RunsFilter(tags={RUN_KEY_TAG: key})) > 0


def active_runs_by_partition(instance: dg.DagsterInstance) -> dict[str, str]:
    """Partition -> id of the run that is queued or in progress for it.

    A sensor that skips such a partition and compares again later coalesces requests without losing any: a queued run
    uses whatever is there when it starts, and later changes differ from what the run has recorded.
    """
    runs = instance.get_runs(dg.RunsFilter(statuses=_ACTIVE))
    return {run.tags[PARTITION_NAME_TAG]: run.run_id for run in runs if PARTITION_NAME_TAG in run.tags}


def active_run_of_job(instance: dg.DagsterInstance, job: str) -> str | None:
    """Id of a run of `job` that is queued or in progress; None if there is none."""
    runs = instance.get_runs(dg.RunsFilter(job_name=job, statuses=_ACTIVE), limit=1)
    return runs[0].run_id if runs else None
