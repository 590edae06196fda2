"""Scheduled retraining."""

from datetime import datetime

import dagster as dg

from orchestration.partitions import all_shards_tags, sync_shards
from orchestration.project import Project


@dg.schedule(
    job_name="retraining",
    cron_schedule="0 3 * * 1",
    execution_timezone="UTC",
    description="Mondays at 03:00 UTC: trains a new adapter on the present data, with the date as the seed.",
)
def weekly_retraining(context: dg.ScheduleEvaluationContext, project: Project) -> dg.RunRequest:
    """Request a run over all shards."""
    sync_shards(context.instance, project.data_dir)
    when: datetime = context.scheduled_execution_time
    return dg.RunRequest(
        run_key=when.isoformat(),
        tags=all_shards_tags(context.instance),
        # With the same data and options the adapter would be the same, and would not be trained again.
        run_config={"ops": {"adapter": {"config": {"options": {"seed": int(when.strftime("%Y%m%d"))}}}}},
    )
