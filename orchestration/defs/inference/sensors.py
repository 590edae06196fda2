"""Sensors that start runs for new images, a new champion and new scenes; one run per collection at a time."""

from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from orchestration.attempts import MAX_ATTEMPTS, active_runs_by_partition, attempt_key
from orchestration.dagster_internals import INPUT_DATA_VERSION_TAG_PREFIX, INPUT_EVENT_POINTER_TAG_PREFIX
from orchestration.defs.inference.assets import POINT_CLOUDS_VERSION
from orchestration.history import data_version_of, latest_of_partition
from orchestration.inbox import Collection, scan
from orchestration.project import Project

inference = dg.define_asset_job(
    "inference",
    selection=dg.AssetSelection.assets("image_collections", "point_clouds", "novel_views"),
    description="Generates and renders the scenes of one collection of images.",
)

render = dg.define_asset_job(
    "render",
    selection=dg.AssetSelection.assets("novel_views"),
    description="Renders novel views of the scenes of one collection.",
)


@dg.sensor(
    job=inference,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Adds a partition and starts a run for each new or changed folder in workspace/inbox, and a run for "
    "every collection when the champion changes. Removes the partitions of deleted folders.",
)
def new_collections(context: dg.SensorEvaluationContext, project: Project) -> dg.SensorResult:
    """Request a run for each collection whose point clouds are missing or outdated."""
    inbox = scan(project.workspace.inbox)
    waiting = [f"{name}: {reason}" for name, reason in inbox.waiting]
    records = context.instance.fetch_materializations(dg.AssetKey("champion"), limit=1).records
    champion = records[0] if records else None
    if inbox.ready and champion is None:
        names = ", ".join(collection.name for collection in inbox.ready)
        return dg.SensorResult(skip_reason=f"{names}: no champion yet")
    requests, active = [], active_runs_by_partition(context.instance)
    for collection in inbox.ready:
        if run := active.get(collection.name):
            waiting.append(f"{collection.name}: will be checked again when run {run} has ended")
            continue
        assert champion is not None  # checked above
        clouds = latest_of_partition(context.instance, "point_clouds", collection.name)
        if clouds is not None and _are_current(clouds, collection, champion):
            continue
        # The key includes the latest result, so that contents and champions that return are generated again.
        state = f"by {data_version_of(champion)} after {clouds.storage_id if clouds is not None else None}"
        key = attempt_key(context.instance, f"{collection.name}:{collection.digest} {state}")
        if key is None:
            waiting.append(f"{collection.name}: {MAX_ATTEMPTS} runs failed or were canceled: start `inference` by hand")
        else:
            requests.append(dg.RunRequest(run_key=key, partition_key=collection.name))
    for line in waiting:
        context.log.info(line)
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else "; ".join(waiting) or "nothing new in the inbox",
        dynamic_partitions_requests=_partition_requests(context.instance, project.workspace.inbox, inbox.ready),
    )


def _partition_requests(
    instance: dg.DagsterInstance, inbox: Path, ready: Sequence[Collection]
) -> list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest]:
    """Requests that add a partition for each ready folder, and remove the partitions of deleted folders."""
    present = instance.get_dynamic_partitions("collections")
    new = [collection.name for collection in ready if collection.name not in present]
    deleted = [name for name in present if not (inbox / name).is_dir()]
    return [
        *([dg.AddDynamicPartitionsRequest("collections", new)] if new else []),
        *([dg.DeleteDynamicPartitionsRequest("collections", deleted)] if deleted else []),
    ]


def _are_current(clouds: dg.EventLogRecord, collection: Collection, champion: dg.EventLogRecord) -> bool:
    """Whether point clouds were generated from the present contents of the collection by the present champion."""
    event = clouds.asset_materialization
    tags = event.tags or {} if event is not None else {}
    metadata = {key: value.value for key, value in event.metadata.items()} if event is not None else {}
    # The alias in MLflow may move before the graph records it, so the run may have used a later champion.
    used = tags.get(f"{INPUT_DATA_VERSION_TAG_PREFIX}/champion")
    if "champion_version" in metadata:
        used = f"{metadata['champion_version']}-{metadata.get('adapter_digest')}"
    champion_unchanged = tags.get(f"{INPUT_EVENT_POINTER_TAG_PREFIX}/champion") == str(champion.storage_id)
    return metadata.get("inbox_digest") == collection.digest and (
        champion_unchanged or used == data_version_of(champion)
    )


@dg.sensor(
    job=render,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Renders the novel views of collections whose point clouds have changed since they were rendered.",
)
def stale_novel_views(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Request a run for each collection whose novel views are missing or outdated."""
    instance, requests, waiting = context.instance, [], []
    active = active_runs_by_partition(instance)
    for name in instance.get_dynamic_partitions("collections"):
        clouds = latest_of_partition(instance, "point_clouds", name)
        views = latest_of_partition(instance, "novel_views", name)
        if clouds is None or (views is not None and _rendered_version(views) == data_version_of(clouds)):
            continue
        if run := active.get(name):
            waiting.append(f"{name}: will be checked again when run {run} has ended")
            continue
        after = views.storage_id if views is not None else None
        key = attempt_key(instance, f"{name}: novel views of {clouds.storage_id} after {after}")
        if key is None:
            waiting.append(f"{name}: {MAX_ATTEMPTS} runs failed or were canceled: start `render` by hand")
        else:
            requests.append(dg.RunRequest(run_key=key, partition_key=name))
    for line in waiting:
        context.log.info(line)
    skip_reason = None if requests else "; ".join(waiting) or "all novel views are up to date"
    return dg.SensorResult(run_requests=requests, skip_reason=skip_reason)


def _rendered_version(views: dg.EventLogRecord) -> str | None:
    """Data version of the point clouds that novel views were rendered from; None if it was not recorded."""
    event = views.asset_materialization
    version = event.metadata.get(POINT_CLOUDS_VERSION) if event is not None else None
    return str(version.value) if version is not None else None
