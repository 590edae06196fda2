"""Retraining on a clock."""

from datetime import datetime

import dagster as dg

from orchestration.partitions import all_shards, sync_shards
from orchestration.project import Project


@dg.schedule(
    job_name="retraining",
    cron_schedule="0 3 * * 1",
    execution_timezone="UTC",
    description="Mondays at 03:00 UTC: train again on the present data with the date as the seed.",
)
def weekly_retraining(context: dg.ScheduleEvaluationContext, project: Project) -> dg.RunRequest:
    sync_shards(context.instance, project.data_dir)
    when: datetime = context.scheduled_execution_time
    return dg.RunRequest(
        run_key=when.isoformat(),
        tags=all_shards(context.instance),
        # The same data with the same options would be the same adapter, and is not trained twice.
        run_config={"ops": {"adapter": {"config": {"options": {"seed": int(when.strftime("%Y%m%d"))}}}}},
    )
