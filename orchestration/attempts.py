"""Run keys by which a sensor tries again what failed, but not for ever."""

import dagster as dg
from dagster._core.storage.tags import RUN_KEY_TAG

ATTEMPTS = 3
_ENDED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


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
