import dagster as dg
import pytest

from orchestration.partitions import all_shards_tags, for_each_partition, partition_range_tags, shards, sync_shards
from orchestration.staleness import Outstanding

KEYS = ["s0", "s1", "s2"]


def chain(bad: set[str], source_version: str = "md5-1"):
    """source (observed) -> cut [shards] -> whole, where the partitions in `bad` fail."""

    @dg.multi_observable_source_asset(specs=[dg.AssetSpec("source")])
    def source():
        return dg.ObserveResult(asset_key="source", data_version=dg.DataVersion(source_version))

    @dg.asset(partitions_def=shards, backfill_policy=dg.BackfillPolicy.single_run(), deps=["source"], code_version="1")
    def cut(context: dg.AssetExecutionContext):
        def work(key: str):
            if key in bad:
                raise ValueError(f"{key} is broken")
            return {"partition": key}

        yield from for_each_partition(context, work)

    @dg.asset(deps=["cut"], code_version="1")
    def whole(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=dg.DataVersion("w"))

    return dg.Definitions(assets=[source, cut, whole])


def run(defs: dg.Definitions, instance: dg.DagsterInstance, *assets: str, tags=None) -> dg.ExecuteInProcessResult:
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey(a) for a in assets], tags=tags or {}, raise_on_error=False
    )


@pytest.fixture
def observed(instance):
    instance.add_dynamic_partitions("shards", KEYS)
    assert run(chain(set()), instance, "source").success
    return instance


def test_one_run_covers_all_shards_and_the_unpartitioned_asset_after_them(observed):
    defs = chain(set())
    assert run(defs, observed, "cut", "whole", tags=all_shards_tags(observed)).success
    assert set(observed.get_materialized_partitions(dg.AssetKey("cut"))) == set(KEYS)
    latest = observed.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey("cut"), asset_partitions=["s1"]), limit=1
    ).records[0]
    assert latest.asset_materialization.metadata["partition"].value == "s1"
    left = Outstanding(observed, defs)
    assert left.partitions("cut", KEYS) == [] and not left.is_due("whole")


def test_a_broken_shard_fails_the_run_but_the_others_are_recorded(observed):
    result = run(chain({"s1"}), observed, "cut", "whole", tags=all_shards_tags(observed))
    assert not result.success
    assert set(observed.get_materialized_partitions(dg.AssetKey("cut"))) == {"s0", "s2"}
    assert observed.get_latest_materialization_event(dg.AssetKey("whole")) is None
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert "1 of 3 partitions failed" in failure.user_failure_data.description
    assert "s1: ValueError: s1 is broken" in failure.user_failure_data.description


def test_after_a_failure_only_the_broken_shard_is_outstanding(observed):
    defs = chain({"s1"})
    run(defs, observed, "cut", tags=all_shards_tags(observed))
    due = Outstanding(observed, defs).partitions("cut", KEYS)
    assert due == ["s1"]
    mended = chain(set())
    assert run(mended, observed, "cut", tags=partition_range_tags(KEYS, due)).success
    assert Outstanding(observed, mended).partitions("cut", KEYS) == []


def test_shards_recorded_by_a_failed_run_are_stale_once_the_data_changes(observed):
    """Dagster writes version tags only when an asset succeeds; the events of single partitions must have them too."""
    run(chain({"s1"}), observed, "cut", tags=all_shards_tags(observed))
    changed = chain(set(), source_version="md5-2")
    run(changed, observed, "source")
    assert Outstanding(observed, changed).partitions("cut", KEYS) == KEYS


def test_observing_the_same_version_makes_nothing_stale(observed):
    defs = chain(set())
    run(defs, observed, "cut", "whole", tags=all_shards_tags(observed))
    run(defs, observed, "source")
    left = Outstanding(observed, defs)
    assert left.partitions("cut", KEYS) == [] and not left.is_due("whole")


def test_shards_follow_the_manifest(instance, tmp_path, write_manifest):
    write_manifest(tmp_path, {"a": 2, "b": 1})
    assert sync_shards(instance, tmp_path) == ["a", "b"]
    write_manifest(tmp_path, {"b": 1, "c": 1})
    assert sync_shards(instance, tmp_path) == ["b", "c"]
    assert instance.get_dynamic_partitions("shards") == ["b", "c"]


def test_a_range_covers_from_the_first_to_the_last():
    assert set(partition_range_tags(KEYS, ["s2", "s1"]).values()) == {"s1", "s2"}
    assert partition_range_tags(KEYS, []) == {}


def test_a_run_over_no_shards_is_rejected(instance):
    with pytest.raises(ValueError, match="observe source_clips first"):
        all_shards_tags(instance)


def test_a_run_without_partitions_covers_all_shards(observed):
    defs = chain(set())
    assert run(defs, observed, "cut", "whole").success
    assert set(observed.get_materialized_partitions(dg.AssetKey("cut"))) == set(KEYS)
    left = Outstanding(observed, defs)
    assert left.partitions("cut", KEYS) == [] and not left.is_due("whole")
    result = run(chain({"s1"}), observed, "cut")
    assert not result.success, "a broken shard fails this run too"
