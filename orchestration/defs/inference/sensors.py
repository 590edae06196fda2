"""New images, a new champion and new scenes start runs; one collection has one run at a time."""

from collections.abc import Sequence
from pathlib import Path

import dagster as dg
from dagster._core.definitions.data_version import INPUT_DATA_VERSION_TAG_PREFIX, INPUT_EVENT_POINTER_TAG_PREFIX

from orchestration.attempts import ATTEMPTS, attempt_key, runs_by_partition
from orchestration.defs.inference.assets import MADE_OF
from orchestration.history import latest_of_partition, version_of
from orchestration.inbox import Collection, scan
from orchestration.project import Project

inference = dg.define_asset_job(
    "inference",
    selection=dg.AssetSelection.assets("image_collections", "point_clouds", "novel_views"),
    description="Scenes for one collection of images.",
)

render = dg.define_asset_job(
    "render",
    selection=dg.AssetSelection.assets("novel_views"),
    description="Novel views of the scenes of one collection.",
)


@dg.sensor(
    job=inference,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="A new or changed folder in workspace/inbox becomes a partition and one run; another champion starts "
    "one for each. A folder that is gone is no partition any more.",
)
def new_collections(context: dg.SensorEvaluationContext, project: Project) -> dg.SensorResult:
    inbox = scan(project.workspace.inbox)
    waiting = [f"{name}: {reason}" for name, reason in inbox.waiting]
    records = context.instance.fetch_materializations(dg.AssetKey("champion"), limit=1).records
    champion = records[0] if records else None
    if inbox.ready and champion is None:
        names = ", ".join(collection.name for collection in inbox.ready)
        return dg.SensorResult(skip_reason=f"{names}: no champion to generate with yet")
    requests, under_way = [], runs_by_partition(context.instance)
    for collection in inbox.ready:
        if run := under_way.get(collection.name):
            waiting.append(f"{collection.name}: compared again when run {run} has ended")
            continue
        assert champion is not None  # without one nothing is ready
        made = latest_of_partition(context.instance, "point_clouds", collection.name)
        if made is not None and _made_of(made, collection, champion):
            continue
        # What was made last is in the key: contents and champions that come back are generated again.
        state = f"by {version_of(champion)} after {made.storage_id if made is not None else None}"
        key = attempt_key(context.instance, f"{collection.name}:{collection.digest} {state}")
        if key is None:
            waiting.append(f"{collection.name}: {ATTEMPTS} runs failed or were ended: start `inference` by hand")
        else:
            requests.append(dg.RunRequest(run_key=key, partition_key=collection.name))
    for line in waiting:
        context.log.info(line)
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else "; ".join(waiting) or "nothing new in the inbox",
        dynamic_partitions_requests=_partitions(context.instance, project.workspace.inbox, inbox.ready),
    )


def _partitions(
    instance: dg.DagsterInstance, inbox: Path, ready: Sequence[Collection]
) -> list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest]:
    """Requests that make the folders that are ready partitions, and those that are gone none."""
    known = instance.get_dynamic_partitions("collections")
    new = [collection.name for collection in ready if collection.name not in known]
    gone = [name for name in known if not (inbox / name).is_dir()]
    return [
        *([dg.AddDynamicPartitionsRequest("collections", new)] if new else []),
        *([dg.DeleteDynamicPartitionsRequest("collections", gone)] if gone else []),
    ]


def _made_of(clouds: dg.EventLogRecord, collection: Collection, champion: dg.EventLogRecord) -> bool:
    """Whether point clouds were made of the collection as it is now, by the present champion."""
    made = clouds.asset_materialization
    tags = made.tags or {} if made is not None else {}
    metadata = {key: value.value for key, value in made.metadata.items()} if made is not None else {}
    # The alias in MLflow moves before the graph knows: a run may have used a later champion than it was told of.
    used = tags.get(f"{INPUT_DATA_VERSION_TAG_PREFIX}/champion")
    if "champion_version" in metadata:
        used = f"{metadata['champion_version']}-{metadata.get('adapter_digest')}"
    none_since = tags.get(f"{INPUT_EVENT_POINTER_TAG_PREFIX}/champion") == str(champion.storage_id)
    return metadata.get("inbox_digest") == collection.digest and (none_since or used == version_of(champion))


@dg.sensor(
    job=render,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Renders the novel views of a collection whose point clouds are others than those they show.",
)
def stale_novel_views(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    instance, requests, waiting = context.instance, [], []
    under_way = runs_by_partition(instance)
    for name in instance.get_dynamic_partitions("collections"):
        clouds = latest_of_partition(instance, "point_clouds", name)
        views = latest_of_partition(instance, "novel_views", name)
        if clouds is None or (views is not None and _shown(views) == version_of(clouds)):
            continue
        if run := under_way.get(name):
            waiting.append(f"{name}: compared again when run {run} has ended")
            continue
        after = views.storage_id if views is not None else None
        key = attempt_key(instance, f"{name}: novel views of {clouds.storage_id} after {after}")
        if key is None:
            waiting.append(f"{name}: {ATTEMPTS} runs failed or were ended: start `render` by hand")
        else:
            requests.append(dg.RunRequest(run_key=key, partition_key=name))
    for line in waiting:
        context.log.info(line)
    skip_reason = None if requests else "; ".join(waiting) or "novel views show the present point clouds"
    return dg.SensorResult(run_requests=requests, skip_reason=skip_reason)


def _shown(views: dg.EventLogRecord) -> str | None:
    """Version of the point clouds that novel views show; None of those made before it was recorded."""
    made = views.asset_materialization
    told = made.metadata.get(MADE_OF) if made is not None else None
    return str(told.value) if told is not None else None
