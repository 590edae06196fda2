"""The two partition sets of the graph: shards of clips and collections of images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from orchestration.dagster_internals import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    version_tags,
)

shards = dg.DynamicPartitionsDefinition(name="shards")
collections = dg.DynamicPartitionsDefinition(name="collections")


def sync_shards(instance: dg.DagsterInstance, data_dir: Path) -> list[str]:
    """Make the shards of the manifest the partitions of the graph; returns the shards in the manifest's order.

    Raises:
        FileNotFoundError, ValueError: the manifest is missing or invalid.
    """
    from fourdnex.datasets.manifest import list_shards

    names = list_shards(data_dir)
    present = instance.get_dynamic_partitions("shards")
    for removed in set(present) - set(names):
        instance.delete_dynamic_partition("shards", removed)
    instance.add_dynamic_partitions("shards", [shard for shard in names if shard not in present])
    return names


def all_shards_tags(instance: dg.DagsterInstance) -> dict[str, str]:
    """Run tags that select every shard in one run.

    Raises:
        ValueError: no shard is known yet.
    """
    keys = instance.get_dynamic_partitions("shards")
    if not keys:
        raise ValueError("shards: expected at least one partition, found none: observe source_clips first")
    return partition_range_tags(keys, keys)


def partition_range_tags(keys: Sequence[str], selected: Sequence[str]) -> dict[str, str]:
    """Run tags that select the partitions from the first to the last of `selected`, in the order of `keys`."""
    if not selected:
        return {}
    positions = [keys.index(key) for key in selected]
    return {
        ASSET_PARTITION_RANGE_START_TAG: keys[min(positions)],
        ASSET_PARTITION_RANGE_END_TAG: keys[max(positions)],
    }


def for_each_partition(
    context: dg.AssetExecutionContext, work: Callable[[str], Mapping[str, Any]]
) -> Iterator[dg.AssetMaterialization | dg.MaterializeResult]:
    """Call `work` (partition -> metadata) for each partition of the run, one after the other.

    A run without partitions, such as a job that is started by hand, covers all of them.

    A finished partition is recorded immediately, so that a later crash does not lose it. A failed partition does not
    prevent the others from running. Dagster records all partitions again when the asset ends, which happens only if
    none failed.

    Raises:
        dagster.Failure: some partitions failed; it names each with the reason.
    """
    failed: dict[str, str] = {}
    keys = _partitions_of(context)
    for number, key in enumerate(keys, start=1):
        try:
            metadata = work(key)
        except Exception as error:
            context.log.exception(f"{key}: {error}")
            failed[key] = f"{type(error).__name__}: {error}"
            continue
        context.log.info(f"{key}: finished ({number} of {len(keys)})")
        if context.has_partition_key or context.has_partition_key_range:
            context.add_asset_metadata(metadata, partition_key=key)
        yield dg.AssetMaterialization(context.asset_key, partition=key, metadata=metadata, tags=version_tags(context))
    if failed:
        raise dg.Failure(
            f"{len(failed)} of {len(keys)} partitions failed, the others are kept: "
            + "; ".join(f"{key}: {reason}" for key, reason in failed.items()),
            metadata={key: dg.MetadataValue.text(reason) for key, reason in failed.items()},
            allow_retries=False,
        )
    yield dg.MaterializeResult()


def _partitions_of(context: dg.AssetExecutionContext) -> Sequence[str]:
    """The partitions of the run; all partitions of the asset if the run has none."""
    if context.has_partition_key or context.has_partition_key_range:
        return context.partition_keys
    definition = context.assets_def.partitions_def
    assert isinstance(definition, dg.DynamicPartitionsDefinition)
    return context.instance.get_dynamic_partitions(str(definition.name))
