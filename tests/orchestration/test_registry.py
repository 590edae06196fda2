import json
from pathlib import Path

import dagster as dg
import pytest

from fourdnex import tracking
from fourdnex.cli import main
from fourdnex.model.adapter_files import AdapterInfo
from fourdnex.tracking.client import open_client
from orchestration.defs.registry.assets import have_comparable_reports

DIGESTS = {"good": "aaaa", "worse": "bbbb", "better": "cccc", "between": "dddd"}
ERRORS = {"good": 0.20, "worse": 0.21, "better": 0.15, "between": 0.17}
POLICY = "min_gain: {abs_rel: 0.1}\nrequired_checks: [challenger:adapter_learned]\n"


@pytest.fixture
def registry(tracked_project, load_defs, instance):
    """(propose, promote): record an adapter with its evaluation and register it; apply the policy to it."""
    project = tracked_project
    policy = Path(project.root) / "mlflow" / "promotion.yaml"
    policy.parent.mkdir()
    policy.write_text(POLICY)
    job = load_defs(project).resolve_implicit_global_asset_job_def()

    def propose(
        name: str, *, norm: float = 3.0, measured: str | None = None, base: str = "base", scoring: int = 2
    ) -> dg.ExecuteInProcessResult:
        folder = project.workspace.adapter(name)
        folder.mkdir(parents=True)
        info = AdapterInfo(rank=1, alpha=1.0, identity={"name": name})
        (folder / "adapter.json").write_text(json.dumps(info.to_json()))
        report = project.workspace.evaluation_of(DIGESTS[name]) / "report.json"
        report.parent.mkdir(parents=True)
        numbers = {"adapter": {"abs_rel": ERRORS[name]}, "gain": {"abs_rel": 1 - ERRORS[name] / 0.5}}
        settings = {"adapter_digest": DIGESTS[measured or name], "base_digest": base, "scoring": scoring}
        values = [ERRORS[name] * (1 + k % 3) * (1 + 0.02 * ((k * len(name)) % 5)) for k in range(16)]
        numbers["worlds"] = {f"w{k}": {"abs_rel": value, "chamfer": value} for k, value in enumerate(values)}
        report.write_text(json.dumps({"settings": settings, "num_worlds": 16, **numbers}))
        identity = {"adapter_digest": DIGESTS[name], "base_digest": base, "data_md5": "m.dir", "git_commit": "c0ffee"}
        for asset, metadata in (
            ("adapter", {"folder": dg.MetadataValue.path(str(folder)), "adapter_norm": norm, **identity}),
            ("evaluation_report", {"report": dg.MetadataValue.path(str(report))}),
        ):
            instance.report_runless_asset_event(dg.AssetMaterialization(asset, metadata=metadata))
        subset = job.get_subset(
            asset_selection={dg.AssetKey("challenger")},
            asset_check_selection={dg.AssetCheckKey(dg.AssetKey("challenger"), "adapter_learned")},
        )
        return subset.execute_in_process(instance=instance, raise_on_error=False)

    def promote() -> dg.ExecuteInProcessResult:
        return job.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey("champion")], raise_on_error=False
        )

    return propose, promote


def tags_of(project, version: str) -> dict[str, str]:
    return open_client(project.workspace).get_model_version(tracking.MODEL, version).tags


def champion_of(project):
    return tracking.resolve(tracking.CHAMPION, workspace=project.workspace)


def test_a_worse_challenger_is_refused_with_numbers_and_a_better_one_is_promoted(registry, tracked_project, instance):
    propose, promote = registry
    assert propose("good").success and promote().success
    first = champion_of(tracked_project)
    assert first is not None and first.adapter_digest == "aaaa"
    assert first.identity["git_commit"] == "c0ffee" and first.data_md5 == "m.dir"

    assert propose("worse").success
    result = promote()
    assert result.success and not result.get_asset_materialization_events()
    assert champion_of(tracked_project).version == first.version
    (observation,) = result.get_asset_observation_events()
    reason = observation.asset_observation_data.asset_observation.metadata["reason"].value
    assert reason.startswith("comparison: error +") and reason.endswith("16 worlds), required: all of it below 0%")
    compared = observation.asset_observation_data.asset_observation.metadata["compared_with"].value
    assert compared == "version 1, the best of 1 champions on this benchmark"

    assert propose("better").success and promote().success
    assert champion_of(tracked_project).adapter_digest == "cccc"
    tags = tags_of(tracked_project, champion_of(tracked_project).version)
    assert tags["promoted_by"].startswith("Dagster run") and "comparison: error -" in tags["promoted_why"]
    latest = instance.get_latest_materialization_event(dg.AssetKey("champion")).asset_materialization
    assert latest.metadata["former_version"].value == first.version
    assert latest.tags["dagster/data_version"].endswith("cccc")


def test_a_champion_of_another_base_is_not_compared(registry, tracked_project, instance):
    propose, promote = registry
    assert propose("good").success and promote().success
    assert propose("worse", base="another").success and promote().success
    assert champion_of(tracked_project).adapter_digest == "bbbb"
    latest = instance.get_latest_materialization_event(dg.AssetKey("champion")).asset_materialization
    compared_with = "none: the champion, version 1, has another base: base, not another"
    assert latest.metadata["compared_with"].value == compared_with


def test_a_champion_that_was_evaluated_with_other_settings_is_evaluated_again(registry, tracked_project):
    propose, promote = registry
    assert propose("good", scoring=1).success and promote().success
    assert propose("better").success
    (failure,) = [event.step_failure_data for event in promote().all_events if event.is_step_failure]
    assert "in evaluate" in failure.error.to_string(), "these files are not an adapter that can be evaluated"
    assert champion_of(tracked_project).adapter_digest == "aaaa"


def test_the_source_of_first_frame_geometry_counts_only_if_both_adapters_use_it():
    def report(**settings):
        return {"settings": {"scoring": 2, **settings}}

    plane, one, other = report(adapter_digest="a"), report(start_by="x", adapter_digest="b"), report(start_by="y")
    assert all(have_comparable_reports(*pair) for pair in ((plane, one), (one, plane), (one, one)))
    assert not have_comparable_reports(one, other)
    assert not have_comparable_reports(plane, report(scoring=1))


def test_an_untrained_adapter_fails_its_blocking_check_and_is_not_promoted(registry, tracked_project):
    propose, promote = registry
    assert not propose("good", norm=0.0).success
    result = promote()
    assert not result.get_asset_materialization_events()
    assert champion_of(tracked_project) is None
    (observation,) = result.get_asset_observation_events()
    reason = observation.asset_observation_data.asset_observation.metadata["reason"].value
    assert reason == "check challenger:adapter_learned: failed"


def test_an_adapter_is_not_registered_with_the_report_of_another(registry, tracked_project):
    propose, _ = registry
    result = propose("worse", measured="better")
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert "expected bbbb, got cccc: evaluate this adapter" in failure.error.to_string()
    assert tracking.resolve(tracking.CHALLENGER, workspace=tracked_project.workspace) is None


def test_a_check_of_an_earlier_challenger_does_not_count(registry, instance):
    propose, promote = registry
    assert propose("good").success
    instance.report_runless_asset_event(dg.AssetMaterialization("challenger", metadata={"adapter_norm": 1.0}))
    (observation,) = promote().get_asset_observation_events()
    reason = observation.asset_observation_data.asset_observation.metadata["reason"].value
    assert reason == "check challenger:adapter_learned: has not run"


def test_a_rollback_in_mlflow_is_followed(registry, tracked_project, load_defs, instance):
    propose, promote = registry
    for name in ("good", "better"):
        assert propose(name).success and promote().success
    sensor = load_defs(tracked_project).resolve_sensor_def("champion_alias")

    def tick():
        return sensor(dg.build_sensor_context(instance=instance, resources={"project": tracked_project}))

    weights = champion_of(tracked_project).adapter_dir / "adapter.json"
    content = weights.read_text()
    weights.write_text("tampered")
    assert isinstance(tick(), dg.SkipReason), "files are not read while the version is the recorded one"
    weights.write_text(content)
    tracking.promote("1", workspace=tracked_project.workspace)
    (event,) = tick().asset_events
    assert event.tags["dagster/data_version"] == "1-aaaa"
    assert event.metadata["version"].value == "1"


def test_the_best_champion_ever_is_the_reference(registry, tracked_project):
    """After a rollback to a worse version, a challenger between both is not promoted."""
    propose, promote = registry
    assert propose("good").success and promote().success
    assert propose("better").success and promote().success
    tracking.promote("1", workspace=tracked_project.workspace)
    assert propose("between").success
    (observation,) = promote().get_asset_observation_events()
    metadata = observation.asset_observation_data.asset_observation.metadata
    assert metadata["compared_with"].value == "version 2, the best of 2 champions on this benchmark"
    assert champion_of(tracked_project).version == "1"


def test_champions_are_moved_by_hand_with_a_reason(registry, tracked_project, monkeypatch, capsys):
    propose, promote = registry
    monkeypatch.setenv("FOURDNEX_WORKSPACE", tracked_project.workspace_dir)
    assert main(["rollback", "--why", "none"]) == 2 and "'former-champion', found none" in capsys.readouterr().err
    assert propose("good").success and promote().success
    assert propose("worse").success
    assert main(["promote", "2", "--why", " "]) == 2 and "expected a reason" in capsys.readouterr().err
    assert main(["promote", "7", "--why", "x"]) == 2 and "got '7'" in capsys.readouterr().err
    assert main(["promote", "2", "--why", "sharper on portraits"]) == 0
    assert champion_of(tracked_project).version == "2"
    tags = tags_of(tracked_project, "2")
    assert tags["promoted_why"] == "sharper on portraits" and tags["promoted_by"] and tags["promoted_at"]
    assert main(["rollback", "--why", "flickers"]) == 0
    assert champion_of(tracked_project).version == "1"
    assert capsys.readouterr().out.endswith("champion: version 1, before: version 2\n")


def test_the_former_champion_steps_in_for_a_deleted_one(registry, tracked_project, load_defs, instance):
    propose, promote = registry
    assert propose("good").success and promote().success
    assert propose("better").success and promote().success
    open_client(tracked_project.workspace).delete_model_version(tracking.MODEL, "2")
    sensor = load_defs(tracked_project).get_sensor_def("champion_alias")
    result = sensor(dg.build_sensor_context(instance=instance, resources={"project": tracked_project}))
    assert result.asset_events[0].metadata["version"].value == "1"
    assert champion_of(tracked_project).version == "1"
