"""Sensor that retrains when the data set changes."""

import dagster as dg

from fourdnex.identity import data_md5_of
from orchestration.attempts import MAX_ATTEMPTS, active_run_of_job, attempt_key, was_launched
from orchestration.data_state import checked_data_md5
from orchestration.partitions import all_shards_tags, sync_shards
from orchestration.project import Project


@dg.sensor(
    job_name="retraining",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Retrains when the md5 in data.dvc differs from the one that the adapter was trained on.",
)
def changed_data(context: dg.SensorEvaluationContext, project: Project) -> dg.SensorResult | dg.SkipReason:
    """Request a retraining if the adapter was trained on another version of the data."""
    md5 = data_md5_of(project.data_dir, root=project.root)
    event = context.instance.get_latest_materialization_event(dg.AssetKey("adapter"))
    if event is None or event.asset_materialization is None:
        return dg.SkipReason("no adapter yet: start the job `retraining` (or `make demo`) once")
    # Absent if the latents are from several versions of the data, or from other data.
    trained_on = event.asset_materialization.metadata.get("data_md5")
    if md5 == (trained_on.value if trained_on is not None else None):
        return dg.SkipReason(f"the adapter was trained on the present data ({md5})")
    key = attempt_key(context.instance, f"{md5} after {event.run_id}")
    if key is None:
        return dg.SkipReason(f"{md5}: {MAX_ATTEMPTS} runs failed or were canceled: start `retraining` by hand")
    if was_launched(context.instance, key):  # do not change the partitions during the run
        return dg.SkipReason(f"{md5}: its retraining has been launched")
    if run := active_run_of_job(context.instance, "retraining"):
        return dg.SkipReason(f"{md5}: will be checked again when run {run} has ended")
    checked_data_md5(project.root)  # if the data is not there yet, the tick fails instead of a run
    sync_shards(context.instance, project.data_dir)
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=key, tags=all_shards_tags(context.instance))])
