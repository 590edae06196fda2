"""Reads an asset's past materializations, observations and checks from the Dagster instance."""

from typing import Any

import dagster as dg

from orchestration.dagster_internals import DATA_VERSION_TAG

RunContext = dg.AssetExecutionContext | dg.AssetCheckExecutionContext
_RECENT = 50
"""Number of the latest materializations among which that of the present run is sought."""


def latest_metadata(instance: dg.DagsterInstance, asset: str) -> dict[str, Any]:
    """The plain metadata values of the latest materialization.

    Raises:
        dagster.Failure: the asset was never materialized.
    """
    event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    if event is None or event.asset_materialization is None:
        raise dg.Failure(f"{asset}: expected a materialization, found none: materialize it first")
    return {key: value.value for key, value in event.asset_materialization.metadata.items()}


def metadata_of_run(context: RunContext, asset: str) -> dict[str, Any]:
    """The plain metadata values of the materialization in the present run, else of the latest one.

    A run that materializes several assets must not take up what another run has materialized in the meantime.

    Raises:
        dagster.Failure: the asset was never materialized.
    """
    instance, run_id = context.instance, context.run.run_id
    filter_ = dg.AssetRecordsFilter(dg.AssetKey(asset))
    for record in instance.fetch_materializations(filter_, limit=_RECENT).records:
        if record.run_id == run_id and record.asset_materialization is not None:
            return {key: value.value for key, value in record.asset_materialization.metadata.items()}
    return latest_metadata(instance, asset)


def latest_observation(instance: dg.DagsterInstance, asset: str) -> dict[str, Any]:
    """The plain metadata values of the latest observation; empty if there is none."""
    found = instance.fetch_observations(dg.AssetKey(asset), limit=1).records
    observation = found[0].asset_observation if found else None
    return {key: value.value for key, value in observation.metadata.items()} if observation is not None else {}


def latest_of_partition(instance: dg.DagsterInstance, asset: str, partition: str) -> dg.EventLogRecord | None:
    """The latest materialization of one partition of an asset; None if there is none."""
    records_filter = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[partition])
    records = instance.fetch_materializations(records_filter, limit=1).records
    return records[0] if records else None


def data_version_of(record: dg.EventLogRecord) -> str:
    """Data version of a materialization; its number in the event log if it was reported without one."""
    event = record.asset_materialization
    return (event.tags if event and event.tags else {}).get(DATA_VERSION_TAG) or str(record.storage_id)


def latest_checks(instance: dg.DagsterInstance, names: tuple[str, ...]) -> dict[str, bool | None]:
    """For each "asset:check", whether its latest result for the asset's latest materialization passed.

    None: the check has not run since the asset was last materialized.
    """
    keys = {name: dg.AssetCheckKey(dg.AssetKey(name.partition(":")[0]), name.partition(":")[2]) for name in names}
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(keys.values()))
    return {name: _passed(instance, records.get(key)) for name, key in keys.items()}


def _passed(instance: dg.DagsterInstance, record: Any) -> bool | None:
    """Whether a check passed for the latest materialization of its asset; None if it has not run for it."""
    evaluation = record.evaluation if record is not None else None
    if evaluation is None:
        return None
    latest = instance.get_latest_materialization_event(evaluation.asset_key)
    target = evaluation.target_materialization_data
    if latest is None or target is None or target.timestamp < latest.timestamp:
        return None
    return evaluation.passed
