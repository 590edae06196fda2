"""New pictures start runs, a new champion starts runs."""

import dagster as dg

from orchestration.inbox import scan
from orchestration.project import Project

inference = dg.define_asset_job(
    "inference",
    selection=dg.AssetSelection.assets("image_collections", "point_clouds", "novel_views"),
    description="Scenes for one collection of pictures.",
)


@dg.sensor(
    job=inference,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="A new or changed folder in workspace/inbox becomes a partition and one run.",
)
def new_collections(context: dg.SensorEvaluationContext, project: Project) -> dg.SensorResult:
    inbox = scan(project.workspace.inbox)
    waiting = [f"{name}: {reason}" for name, reason in inbox.waiting]
    if inbox.ready and context.instance.get_latest_materialization_event(dg.AssetKey("champion")) is None:
        names = ", ".join(collection.name for collection in inbox.ready)
        return dg.SensorResult(skip_reason=f"{names}: no champion to generate with yet")
    requests = [
        # The key holds the contents: a collection is generated once, and again only when it changes.
        dg.RunRequest(run_key=f"{collection.name}:{collection.digest}", partition_key=collection.name)
        for collection in inbox.ready
        if _generated_from(context.instance, collection.name) != collection.digest
    ]
    known = context.instance.get_dynamic_partitions("collections")
    new = [str(request.partition_key) for request in requests if request.partition_key not in known]
    for line in waiting:
        context.log.info(line)
    if not requests:
        return dg.SensorResult(skip_reason="; ".join(waiting) or "nothing new in the inbox")
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[dg.AddDynamicPartitionsRequest("collections", new)] if new else [],
    )


def _generated_from(instance: dg.DagsterInstance, collection: str) -> str | None:
    """Digest of the contents that the collection's present point clouds were made of."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey("point_clouds"), asset_partitions=[collection])
    found = instance.fetch_materializations(wanted, limit=1).records
    event = found[0].asset_materialization if found else None
    return str(event.metadata["inbox_digest"].value) if event is not None else None


automation = dg.AutomationConditionSensorDefinition(
    "automation",
    target=dg.AssetSelection.all(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
)
