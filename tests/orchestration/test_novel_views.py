"""Novel views are rendered again whenever the point clouds change: real runs of the asset, on a real scene."""

import dagster as dg
import pytest

import fourdnex.rendering.render_collection as rendering
from fourdnex.datasets.worlds import render_world
from fourdnex.generation.collections import scenes_digest
from fourdnex.scene import Scene4D
from orchestration.history import latest_of_partition

NAME = "kitchen"


class Collection:
    """A collection of one scene in an instance, and the sensor that checks it."""

    def __init__(self, project, defs: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self.project, self.defs, self.instance, self.seed = project, defs, instance, 0
        instance.add_dynamic_partitions("collections", [NAME])

    def make_point_clouds(self) -> None:
        """Another scene, recorded as the asset `point_clouds` records it."""
        self.seed += 1
        clip = render_world(self.seed, num_frames=2, height=16, width=24)
        folder = self.project.workspace.scenes / NAME
        Scene4D(rgb=clip.rgb, depth=clip.depth, intrinsics=clip.intrinsics, camera_to_world=clip.camera_to_world).save(
            folder / "coffee"
        )
        self.record_point_clouds()

    def record_point_clouds(self) -> None:
        version = scenes_digest(self.project.workspace.scenes / NAME)
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization("point_clouds", partition=NAME, tags={"dagster/data_version": version})
        )

    def tick(self) -> list[dg.RunRequest]:
        context = dg.build_sensor_context(instance=self.instance, definitions=self.defs)
        return list(self.defs.resolve_sensor_def("stale_novel_views")(context).run_requests or [])

    def run(self, request: dg.RunRequest | None = None) -> dg.ExecuteInProcessResult:
        tags = {"dagster/run_key": request.run_key} if request is not None and request.run_key else {}
        job = self.defs.resolve_job_def("render")
        return job.execute_in_process(instance=self.instance, partition_key=NAME, tags=tags, raise_on_error=False)

    def shows_the_scenes(self) -> bool:
        views, clouds = (latest_of_partition(self.instance, asset, NAME) for asset in ("novel_views", "point_clouds"))
        shown = views.asset_materialization.metadata["point_clouds_version"].value
        return shown == clouds.asset_materialization.tags["dagster/data_version"]


@pytest.fixture
def collection(project, load_defs, instance) -> Collection:
    return Collection(project, load_defs(project), instance)


def test_an_update_in_the_tick_after_a_request_is_not_lost(collection):
    collection.make_point_clouds()
    (first,) = collection.tick()
    assert collection.run(first).success and collection.shows_the_scenes()
    collection.make_point_clouds()  # before the next tick
    (second,) = collection.tick()
    assert second.partition_key == NAME and second.run_key != first.run_key
    assert collection.run(second).success and collection.shows_the_scenes()
    assert collection.tick() == collection.tick() == []


def test_point_clouds_that_change_during_rendering_are_rendered_again(collection, monkeypatch):
    collection.make_point_clouds()
    render, changes = rendering.render_collection, [collection.make_point_clouds]

    def render_while_they_change(*arguments, **options):
        report = render(*arguments, **options)
        while changes:
            changes.pop()()
        return report

    monkeypatch.setattr(rendering, "render_collection", render_while_they_change)
    assert collection.run().success and not collection.shows_the_scenes()
    (request,) = collection.tick()
    assert collection.run(request).success and collection.shows_the_scenes()
    assert collection.tick() == []


def test_scenes_that_a_killed_run_left_partially_changed_are_requested_once(collection):
    """The scenes changed, but no point clouds were recorded: they are neither the old nor the new version."""
    collection.make_point_clouds()
    (collection.project.workspace.scenes / NAME / "coffee" / "scene.json").open("a").write("\n")
    (request,) = collection.tick()
    assert collection.run(request).success
    assert collection.tick() == []
    collection.record_point_clouds()
    (request,) = collection.tick()
    assert collection.run(request).success and collection.tick() == []


def test_unchanged_point_clouds_are_not_rendered_again(collection):
    collection.make_point_clouds()
    assert collection.run().success
    collection.record_point_clouds()
    assert collection.tick() == []


def test_a_failed_rendering_is_attempted_three_times(collection):
    collection.make_point_clouds()
    (collection.project.workspace.scenes / NAME / "coffee" / "depth.mkv").write_bytes(b"")
    keys = []
    for _ in range(3):
        (request,) = collection.tick()
        keys.append(request.run_key)
        assert not collection.run(request).success
    assert len(set(keys)) == 3 and collection.tick() == []
    collection.make_point_clouds()
    (request,) = collection.tick()
    assert collection.run(request).success and collection.tick() == []


def test_views_wait_while_a_run_of_their_collection_is_active(collection):
    collection.make_point_clouds()
    run = dg.DagsterRun("inference", tags={"dagster/partition": NAME}, status=dg.DagsterRunStatus.STARTED)
    collection.instance.add_run(run)
    assert collection.tick() == []
    collection.instance.report_run_canceled(run)
    assert len(collection.tick()) == 1


def test_a_deleted_collection_is_ignored(collection):
    collection.make_point_clouds()
    collection.instance.delete_dynamic_partition("collections", NAME)
    assert collection.tick() == []
