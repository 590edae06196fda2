"""Retraining when the data set changes."""

import dagster as dg

from fourdnex.identity import data_md5_of
from orchestration.attempts import ATTEMPTS, attempt_key, run_of_job, was_started
from orchestration.data_state import checked_data_md5
from orchestration.partitions import all_shards, sync_shards
from orchestration.project import Project


@dg.sensor(
    job_name="retraining",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Retrains when the md5 in data.dvc is not the one that the adapter was trained on, and not otherwise.",
)
def changed_data(context: dg.SensorEvaluationContext, project: Project) -> dg.SensorResult | dg.SkipReason:
    md5 = data_md5_of(project.data_dir, root=project.root)
    event = context.instance.get_latest_materialization_event(dg.AssetKey("adapter"))
    if event is None or event.asset_materialization is None:
        return dg.SkipReason("nothing was trained yet: start the job `retraining` (or `make demo`) once")
    told = event.asset_materialization.metadata.get("data_md5")  # not there: of several versions, or of other data
    if md5 == (told.value if told is not None else None):
        return dg.SkipReason(f"the adapter was trained on the present data ({md5})")
    key = attempt_key(context.instance, f"{md5} after {event.run_id}")
    if key is None:
        return dg.SkipReason(f"{md5}: {ATTEMPTS} runs failed or were ended: start `retraining` by hand")
    if was_started(context.instance, key):  # the partitions stay as they are while it runs
        return dg.SkipReason(f"{md5}: its retraining was started")
    if run := run_of_job(context.instance, "retraining"):
        return dg.SkipReason(f"{md5}: compared again when run {run} has ended")
    checked_data_md5(project.root)  # a run on data that is not there yet would fail: the tick fails with the reason
    sync_shards(context.instance, project.data_dir)
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=key, tags=all_shards(context.instance))])
