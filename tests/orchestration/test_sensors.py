import shutil
from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from fourdnex.identity import data_md5
from orchestration import inbox


def tick(defs: dg.Definitions, name: str, instance: dg.DagsterInstance, project) -> dg.SensorResult | dg.SkipReason:
    sensor = defs.resolve_sensor_def(name)
    context = dg.build_sensor_context(instance=instance, resources={"project": project}, definitions=defs)
    return sensor(context)


def report(instance: dg.DagsterInstance, asset: str, metadata=None, partition=None, version=None) -> None:
    tags = {"dagster/data_version": version} if version else {}
    instance.report_runless_asset_event(
        dg.AssetMaterialization(asset, partition=partition, metadata=metadata or {}, tags=tags)
    )


def add_run(
    instance: dg.DagsterInstance, run_key: str, status: str, *, partition: str | None = None, job: str = "a job"
) -> str:
    """Add a run with this key and status, as the daemon launches it; returns its id."""
    tags = {"dagster/run_key": run_key} | ({"dagster/partition": partition} if partition is not None else {})
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("fourdnex"), "__repository__")
    origin = RemoteJobOrigin(repository, job)  # required for queued runs
    status = dg.DagsterRunStatus(status)
    return instance.add_run(dg.DagsterRun(job, tags=tags, status=status, remote_job_origin=origin)).run_id


def record_point_clouds(instance: dg.DagsterInstance, folder, *, by: str, used: str | None = None) -> None:
    """Record the point clouds of a collection with its present contents.

    Args:
        by: the champion's version that Dagster records as the input.
        used: the version that MLflow's alias named during the run, if it differs.
    """
    (champion,) = instance.fetch_materializations(dg.AssetKey("champion"), limit=1).records or [None]
    version, _, digest = (used or by).partition("-")
    inputs = {"input_data_version": by, "input_event_pointer": str(champion.storage_id if champion else None)}
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            "point_clouds",
            partition=folder.name,
            metadata={
                "inbox_digest": inbox.contents_digest(folder),
                "champion_version": version,
                "adapter_digest": digest,
            },
            tags={f"dagster/{name}/champion": value for name, value in inputs.items()},
        )
    )


def add_collection(project, name: str, *files: str) -> None:
    folder = project.workspace.inbox / name
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).write_bytes(b"image")


@pytest.fixture
def settled(monkeypatch):
    """The inbox takes the files of this test as complete at once."""
    monkeypatch.setattr(inbox.time, "time", lambda: datetime.now(UTC).timestamp() + 3600)


@pytest.mark.parametrize("trained_on", [{"data_md5": "an older one"}, {}])
def test_a_new_md5_requests_one_retraining_over_all_shards(orchestration_defs, instance, dvc_project, trained_on):
    project, md5 = dvc_project
    report(instance, "adapter", trained_on)
    result = tick(orchestration_defs, "changed_data", instance, project)
    (request,) = result.run_requests
    assert sorted(request.tags.values()) == ["worlds-0000", "worlds-0001"]
    assert request.run_key.startswith(md5)
    again = tick(orchestration_defs, "changed_data", instance, project)
    assert again.run_requests[0].run_key == request.run_key, "the daemon launches one run per key"


def test_a_failed_or_canceled_retraining_is_attempted_three_times(orchestration_defs, instance, dvc_project):
    project, md5 = dvc_project
    report(instance, "adapter", {"data_md5": "an older one"})
    key = f"{md5} after {instance.get_latest_materialization_event(dg.AssetKey('adapter')).run_id}"
    for number, status in enumerate(("CANCELED", "FAILURE"), start=1):
        add_run(instance, f"{key} attempt {number}", status)
    (request,) = tick(orchestration_defs, "changed_data", instance, project).run_requests
    assert request.run_key == f"{key} attempt 3"
    add_run(instance, request.run_key, "FAILURE")
    assert "3 runs failed" in tick(orchestration_defs, "changed_data", instance, project).skip_message


def test_data_is_not_checked_during_a_retraining(orchestration_defs, instance, project):
    """The check takes long, and would delete partitions of removed shards during the run."""
    report(instance, "adapter", {"data_md5": "an older one"})
    trained = instance.get_latest_materialization_event(dg.AssetKey("adapter"))
    add_run(instance, f"{data_md5(project.root)} after {trained.run_id} attempt 1", "STARTED")
    shutil.rmtree(project.data_dir)
    assert "has been launched" in tick(orchestration_defs, "changed_data", instance, project).skip_message


def test_an_unchanged_md5_requests_nothing(orchestration_defs, instance, project):
    report(instance, "adapter", {"data_md5": data_md5(project.root)})
    result = tick(orchestration_defs, "changed_data", instance, project)
    assert isinstance(result, dg.SkipReason) and "trained on the present data" in result.skip_message


def test_the_first_training_is_not_requested(orchestration_defs, instance, project):
    assert isinstance(tick(orchestration_defs, "changed_data", instance, project), dg.SkipReason)


def test_the_schedule_trains_with_the_date_as_the_seed(orchestration_defs, project, tmp_path):
    instance = dg.DagsterInstance.local_temp(str(tmp_path))  # a schedule opens the instance by its reference
    schedule = orchestration_defs.resolve_schedule_def("weekly_retraining")
    context = dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=datetime(2026, 3, 2, 3, tzinfo=UTC),
        resources={"project": project},
    )
    (request,) = schedule.evaluate_tick(context).run_requests
    assert request.run_config["ops"]["adapter"]["config"]["options"] == {"seed": 20260302}
    assert "worlds-0001" in request.tags.values()
    job = orchestration_defs.resolve_job_def("retraining")
    assert dg.validate_run_config(job, request.run_config)


def test_a_new_collection_becomes_a_partition_and_one_run(orchestration_defs, instance, project, settled):
    report(instance, "champion", version="1-a")
    add_collection(project, "kitchen", "a.jpg")
    add_collection(project, "empty")
    result = tick(orchestration_defs, "new_collections", instance, project)
    (request,) = result.run_requests
    assert request.partition_key == "kitchen"
    (added,) = result.dynamic_partitions_requests
    assert (added.partitions_def_name, list(added.partition_keys)) == ("collections", ["kitchen"])
    assert tick(orchestration_defs, "new_collections", instance, project).run_requests[0].run_key == request.run_key


def test_a_generated_collection_is_not_requested_until_it_changes(orchestration_defs, instance, project, settled):
    report(instance, "champion", version="1-a")
    add_collection(project, "kitchen", "a.jpg")
    folder = project.workspace.inbox / "kitchen"
    record_point_clouds(instance, folder, by="1-a")
    result = tick(orchestration_defs, "new_collections", instance, project)
    assert not result.run_requests and result.skip_reason
    (folder / "b.jpg").write_bytes(b"another")
    assert len(tick(orchestration_defs, "new_collections", instance, project).run_requests) == 1


def test_a_failed_collection_is_attempted_again_and_by_the_next_champion(
    orchestration_defs, instance, project, settled
):
    report(instance, "champion", version="1-a")
    add_collection(project, "kitchen", "a.jpg")
    keys = []
    for _ in range(3):
        (request,) = tick(orchestration_defs, "new_collections", instance, project).run_requests
        keys.append(request.run_key)
        add_run(instance, request.run_key, "FAILURE")
    result = tick(orchestration_defs, "new_collections", instance, project)
    assert not result.run_requests and result.skip_reason.skip_message.startswith("kitchen: 3 runs failed")
    report(instance, "champion", version="2-b")
    (request,) = tick(orchestration_defs, "new_collections", instance, project).run_requests
    assert len({*keys, request.run_key}) == 4


def test_contents_that_return_are_generated_again(orchestration_defs, instance, project, settled):
    report(instance, "champion", version="1-a")
    add_collection(project, "kitchen", "a.jpg")
    folder = project.workspace.inbox / "kitchen"
    keys, more = [], folder / "b.jpg"
    for change in (lambda: None, lambda: more.write_bytes(b"another"), more.unlink):
        change()
        (request,) = tick(orchestration_defs, "new_collections", instance, project).run_requests
        keys.append(request.run_key)
        add_run(instance, request.run_key, "SUCCESS")
        record_point_clouds(instance, folder, by="1-a")
    assert len(set(keys)) == 3


def test_a_deleted_collection_loses_its_partition_until_it_returns(orchestration_defs, instance, project, settled):
    report(instance, "champion", version="1-a")
    instance.add_dynamic_partitions("collections", ["kitchen", "garden"])
    add_collection(project, "kitchen", "a.jpg")
    folder = project.workspace.inbox / "kitchen"
    record_point_clouds(instance, folder, by="1-a")
    result = tick(orchestration_defs, "new_collections", instance, project)
    (request,) = result.dynamic_partitions_requests
    assert isinstance(request, dg.DeleteDynamicPartitionsRequest) and list(request.partition_keys) == ["garden"]
    instance.delete_dynamic_partition("collections", "kitchen")
    added, _ = tick(orchestration_defs, "new_collections", instance, project).dynamic_partitions_requests
    assert isinstance(added, dg.AddDynamicPartitionsRequest) and list(added.partition_keys) == ["kitchen"]


def test_an_empty_collection_is_skipped_with_the_reason(orchestration_defs, instance, project, settled):
    report(instance, "champion", version="1-a")
    add_collection(project, "empty")
    result = tick(orchestration_defs, "new_collections", instance, project)
    assert not result.run_requests
    assert result.skip_reason.skip_message == "empty: no images in this folder"


def test_collections_wait_for_the_first_champion(orchestration_defs, instance, project, settled):
    add_collection(project, "kitchen", "a.jpg")
    result = tick(orchestration_defs, "new_collections", instance, project)
    assert not result.run_requests and "no champion yet" in result.skip_reason.skip_message


def test_a_new_champion_generates_every_collection_again_with_retries(orchestration_defs, instance, project, settled):
    folders = [project.workspace.inbox / name for name in ("garden", "kitchen")]
    for folder in folders:
        add_collection(project, folder.name, "a.jpg")

    def requested() -> dict[str, str]:
        requests = tick(orchestration_defs, "new_collections", instance, project).run_requests or []
        return {request.partition_key: request.run_key for request in requests}

    def promoted(version: str) -> list[dict[str, str]]:
        """The requests until every collection is generated; the first run for the kitchen fails."""
        report(instance, "champion", version=version)
        first = requested()
        record_point_clouds(instance, folders[0], by=version)
        add_run(instance, first["kitchen"], "FAILURE")
        second = requested()
        assert list(second) == ["kitchen"] and second != first
        record_point_clouds(instance, folders[1], by=version)
        assert requested() == {}
        report(instance, "champion", version=version)
        assert requested() == {}, "promoting the same version again changes nothing"
        return [first, second]

    # The last version is a rollback by hand, which the sensor `champion_alias` records as a materialization.
    seen = [requests for version in ("1-a", "2-b", "1-a") for requests in promoted(version)]
    keys = [key for requests in seen for key in requests.values()]
    assert len(set(keys)) == len(keys) == 9


def test_only_sensors_start_runs(orchestration_defs):
    """Automation conditions such as `eager()` lose an update in the tick after a request."""
    graph = orchestration_defs.resolve_asset_graph()
    assert [key for key in graph.get_all_asset_keys() if graph.get(key).automation_condition] == []


@pytest.mark.parametrize("status", ["QUEUED", "STARTING", "STARTED", "CANCELING"])
def test_a_collection_has_one_run_at_a_time_and_another_for_later_changes(
    orchestration_defs, instance, project, settled, status
):
    report(instance, "champion", version="1-a")
    add_collection(project, "kitchen", "a.jpg")
    add_collection(project, "garden", "a.jpg")
    folder = project.workspace.inbox / "kitchen"
    requests = tick(orchestration_defs, "new_collections", instance, project).run_requests
    run = add_run(instance, requests[1].run_key, status, partition="kitchen")
    (folder / "b.jpg").write_bytes(b"another")
    report(instance, "champion", version="2-b")
    for _ in range(2):
        result = tick(orchestration_defs, "new_collections", instance, project)
        assert [request.partition_key for request in result.run_requests] == ["garden"]
    record_point_clouds(instance, folder, by="2-b")  # the run began after both changes
    instance.report_run_canceled(instance.get_run_by_id(run))
    add_run(instance, "garden's", "SUCCESS", partition="garden")
    record_point_clouds(instance, project.workspace.inbox / "garden", by="2-b")
    result = tick(orchestration_defs, "new_collections", instance, project)
    assert not result.run_requests and result.skip_reason.skip_message == "nothing new in the inbox"
    (folder / "c.jpg").write_bytes(b"a third")
    (request,) = tick(orchestration_defs, "new_collections", instance, project).run_requests
    assert request.partition_key == "kitchen"


def test_the_reason_for_waiting_names_the_run(orchestration_defs, instance, project, settled):
    report(instance, "champion", version="1-a")
    add_collection(project, "kitchen", "a.jpg")
    run = add_run(instance, "by hand", "STARTED", partition="kitchen")
    result = tick(orchestration_defs, "new_collections", instance, project)
    assert result.skip_reason.skip_message == f"kitchen: will be checked again when run {run} has ended"


def test_a_run_that_the_daemon_created_but_did_not_launch_is_requested_again(
    orchestration_defs, instance, project, settled
):
    """The daemon launches it only if the sensor requests the same key."""
    report(instance, "champion", version="1-a")
    add_collection(project, "kitchen", "a.jpg")
    (request,) = tick(orchestration_defs, "new_collections", instance, project).run_requests
    add_run(instance, request.run_key, "NOT_STARTED", partition="kitchen")
    (again,) = tick(orchestration_defs, "new_collections", instance, project).run_requests
    assert again.run_key == request.run_key


def test_a_champion_that_generated_before_the_graph_recorded_it_does_not_generate_again(
    orchestration_defs, instance, project, settled
):
    """Moved by hand in MLflow: runs use it at once, the graph records it at the next tick of champion_alias."""

    def num_requests() -> int:
        return len(tick(orchestration_defs, "new_collections", instance, project).run_requests or [])

    report(instance, "champion", version="1-a")
    add_collection(project, "kitchen", "a.jpg")
    record_point_clouds(instance, project.workspace.inbox / "kitchen", by="1-a", used="2-b")
    assert num_requests() == 0, "the graph has not recorded another champion"
    report(instance, "champion", version="2-b")
    assert num_requests() == 0, "already generated by it"
    report(instance, "champion", version="1-a")
    assert num_requests() == 1, "moved back: the scenes are by the other version"


def test_a_retraining_waits_for_the_active_one(orchestration_defs, instance, dvc_project):
    """The partitions must not change while it runs."""
    project, _ = dvc_project
    report(instance, "adapter", {"data_md5": "an older one"})
    run = add_run(instance, "of another md5", "STARTED", job="retraining")
    result = tick(orchestration_defs, "changed_data", instance, project)
    assert isinstance(result, dg.SkipReason) and run in result.skip_message
    instance.report_run_canceled(instance.get_run_by_id(run))
    assert len(tick(orchestration_defs, "changed_data", instance, project).run_requests) == 1
