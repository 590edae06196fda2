"""The two ways the graph is cut: by shard of clips and by collection of images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import compute_logical_data_version
from dagster._core.execution.plan.execute_step import (
    _build_data_version_tags,
    _get_code_version,
    _get_input_provenance_data,
)
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

shards = dg.DynamicPartitionsDefinition(name="shards")
collections = dg.DynamicPartitionsDefinition(name="collections")


def sync_shards(instance: dg.DagsterInstance, data_dir: Path) -> list[str]:
    """Make the shards of the manifest the partitions of the graph; the shards, in the manifest's order.

    Raises:
        FileNotFoundError, ValueError: the manifest is missing or is not one.
    """
    from fourdnex.datasets.manifest import read_manifest

    wanted = list(dict.fromkeys(read_manifest(data_dir)["shard"]))
    present = instance.get_dynamic_partitions("shards")
    for gone in set(present) - set(wanted):
        instance.delete_dynamic_partition("shards", gone)
    instance.add_dynamic_partitions("shards", [shard for shard in wanted if shard not in present])
    return wanted


def all_shards(instance: dg.DagsterInstance) -> dict[str, str]:
    """Tags that let one run cover every shard.

    Raises:
        ValueError: no shard is known yet.
    """
    keys = instance.get_dynamic_partitions("shards")
    if not keys:
        raise ValueError("shards: expected at least one partition, got none: observe source_clips first")
    return partition_range(keys, keys)


def partition_range(keys: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """Tags that let one run cover the partitions from the first to the last of `wanted`, in the order of `keys`."""
    if not wanted:
        return {}
    positions = [keys.index(key) for key in wanted]
    return {
        ASSET_PARTITION_RANGE_START_TAG: keys[min(positions)],
        ASSET_PARTITION_RANGE_END_TAG: keys[max(positions)],
    }


def each_partition(
    context: dg.AssetExecutionContext, work: Callable[[str], Mapping[str, Any]]
) -> Iterator[dg.AssetMaterialization | dg.MaterializeResult]:
    """Call `work` (partition -> metadata) for each partition of the run, one after the other.

    A finished partition is recorded at once, so that a crash later in the run does not lose it, and a failed one
    does not keep the others from being tried. The framework records all partitions again when the asset ends,
    which it does only when none failed.

    Raises:
        dagster.Failure: some partitions failed; it names each with its reason.
    """
    failed: dict[str, str] = {}
    for number, key in enumerate(context.partition_keys, start=1):
        try:
            metadata = work(key)
        except Exception as error:
            context.log.exception(f"{key}: {error}")
            failed[key] = f"{type(error).__name__}: {error}"
            continue
        context.log.info(f"{key}: finished ({number} of {len(context.partition_keys)})")
        context.add_asset_metadata(metadata, partition_key=key)
        yield dg.AssetMaterialization(context.asset_key, partition=key, metadata=metadata, tags=_provenance(context))
    if failed:
        raise dg.Failure(
            f"{len(failed)} of {len(context.partition_keys)} partitions failed, the others are kept: "
            + "; ".join(f"{key}: {reason}" for key, reason in failed.items()),
            metadata={key: dg.MetadataValue.text(reason) for key, reason in failed.items()},
            allow_retries=False,
        )
    yield dg.MaterializeResult()


def _provenance(context: dg.AssetExecutionContext) -> dict[str, str]:
    """The version tags that the framework writes when an asset ends, for an event that must not wait until then.

    Without them Dagster could not tell that the partition is stale once the data set changes.
    """
    step = context.get_step_execution_context()
    code_version = _get_code_version(context.asset_key, step)
    inputs = _get_input_provenance_data(context.asset_key, step)
    version = compute_logical_data_version(code_version, {key: read["data_version"] for key, read in inputs.items()})
    return _build_data_version_tags(version, code_version, inputs, False)
