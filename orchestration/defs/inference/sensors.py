"""New pictures and a new champion start runs."""

from collections.abc import Sequence
from pathlib import Path

import dagster as dg
from dagster._core.definitions.data_version import INPUT_DATA_VERSION_TAG_PREFIX

from orchestration.attempts import ATTEMPTS, attempt_key
from orchestration.inbox import Collection, scan
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
    description="A new or changed folder in workspace/inbox becomes a partition and one run; another champion starts "
    "one for each. A folder that is gone is no partition any more.",
)
def new_collections(context: dg.SensorEvaluationContext, project: Project) -> dg.SensorResult:
    inbox = scan(project.workspace.inbox)
    waiting = [f"{name}: {reason}" for name, reason in inbox.waiting]
    champion = _champion(context.instance)
    if inbox.ready and champion is None:
        names = ", ".join(collection.name for collection in inbox.ready)
        return dg.SensorResult(skip_reason=f"{names}: no champion to generate with yet")
    requests = []
    for collection in inbox.ready:
        made_of, run_id = _last_generated(context.instance, collection.name)
        if made_of == (collection.digest, champion):
            continue
        # The run is in the key: contents and champions that come back are generated again.
        state = f"by {champion} after {run_id}"
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


def _champion(instance: dg.DagsterInstance) -> str | None:
    event = instance.get_latest_materialization_event(dg.AssetKey("champion"))
    made = event.asset_materialization if event is not None else None
    return made.tags["dagster/data_version"] if made is not None and made.tags else None


def _last_generated(instance: dg.DagsterInstance, collection: str) -> tuple[tuple[str, str | None] | None, str | None]:
    """Digest of the contents and version of the champion that the collection's present point clouds were made of, as
    the graph knew them when the run began, and that run."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey("point_clouds"), asset_partitions=[collection])
    found = instance.fetch_materializations(wanted, limit=1).records
    event = found[0].asset_materialization if found else None
    if event is None:
        return None, None
    champion = (event.tags or {}).get(f"{INPUT_DATA_VERSION_TAG_PREFIX}/champion")
    return (str(event.metadata["inbox_digest"].value), champion), found[0].run_id


automation = dg.AutomationConditionSensorDefinition(
    "automation",
    target=dg.AssetSelection.all(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
)
