"""From an adapter to point clouds, with a base and an adapter of random weights."""

import json
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from fourdnex import tracking
from fourdnex.lineage import trace
from fourdnex.scene import Scene4D


@pytest.fixture(params=["plane", "pointmap"])
def random_adapter(random_base, project, write_adapter, request) -> Path:
    return write_adapter(project.workspace.adapter("random"), random_base, xyz_init=request.param)


def images(folder: Path) -> None:
    from PIL import Image

    folder.mkdir(parents=True)
    values = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
    Image.fromarray(values).save(folder / "noise.png")
    (folder / "noise.txt").write_text("Noise.")
    (folder / "broken.jpg").write_text("this is a text file")


@pytest.mark.slow
def test_point_clouds_of_a_promoted_challenger_record_their_provenance(
    tracked_project, random_base, random_adapter, load_defs, instance
):
    from fourdnex.model.adapter import adapter_digest, read_adapter_info
    from fourdnex.model.presets import base_digest, get_preset

    needs_geometry = read_adapter_info(random_adapter).xyz_init == "pointmap"
    update = {"model": str(random_base), "depth_network": "tiny" if needs_geometry else None}
    project = tracked_project.model_copy(update=update)
    (Path(project.root) / "mlflow").mkdir()
    (Path(project.root) / "mlflow" / "promotion.yaml").write_text("{}\n")
    settings = {"adapter_digest": adapter_digest(random_adapter)}
    report = project.workspace.evaluation_of(settings["adapter_digest"]) / "report.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"settings": settings, "num_worlds": 1, "adapter": {}, "gain": {}}))
    with tracking.TrackingRun.start(workspace=project.workspace) as run:
        pass
    identity = {
        **settings,
        "base_digest": base_digest(get_preset(str(random_base)).location),
        "data_md5": "0123456789abcdef0123456789abcdef.dir",
        "mlflow_run": run.run_id,
    }
    metadata = {"folder": dg.MetadataValue.path(str(random_adapter)), "adapter_norm": 1.0, **identity}
    instance.report_runless_asset_event(dg.AssetMaterialization("adapter", metadata=metadata))
    report_metadata = {"report": dg.MetadataValue.path(str(report))}
    instance.report_runless_asset_event(dg.AssetMaterialization("evaluation_report", metadata=report_metadata))
    job = load_defs(project).resolve_implicit_global_asset_job_def()

    def materialize(asset: str, partition: str | None = None) -> dg.ExecuteInProcessResult:
        selection = [dg.AssetKey(asset)]
        return job.execute_in_process(
            instance=instance, asset_selection=selection, partition_key=partition, raise_on_error=False
        )

    checks = {check.check_name: check for check in materialize("challenger").get_asset_check_evaluations()}
    # Random weights give points, but not for every pixel, so the check itself may fail.
    assert checks["loads_and_generates"].metadata["points"].value > 1000
    assert materialize("champion").success

    images(project.workspace.inbox / "kitchen")
    instance.add_dynamic_partitions("collections", ["kitchen"])
    assert materialize("image_collections", "kitchen").success
    result = materialize("point_clouds", "kitchen")
    assert result.success
    (event,) = result.get_asset_materialization_events()
    assert event.step_materialization_data.materialization.tags["dagster/input_data_version/champion"].startswith("1-")
    shown = {key: value.value for key, value in event.step_materialization_data.materialization.metadata.items()}
    assert (shown["requested"], shown["done"], shown["failed"]) == (2, 1, 1)

    assert shown["open"].startswith("- [noise](http://127.0.0.1:8080/kitchen/noise/) or `fourdnex view ")
    assert shown["consistency_and_motion"].records[0].data["scene"] == "noise"
    assert len(list(project.workspace.mlflow_artifacts.rglob("scenes/kitchen.png"))) == 1

    (scene,) = (project.workspace.scenes / "kitchen").glob("*/scene.json")
    provenance = Scene4D.load(scene.parent).provenance
    champion = tracking.resolve(tracking.CHAMPION, workspace=project.workspace)
    assert provenance["adapter_digest"] == champion.adapter_digest == identity["adapter_digest"]
    assert provenance["mlflow_run"] == champion.run_id == run.run_id
    assert provenance["data_md5"] == identity["data_md5"]
    assert provenance["dagster_run"] == result.run_id
    assert provenance["prompt"] == "Noise."
    assert provenance["model_version"] == champion.version
    assert ("geometry_network" in provenance) == needs_geometry
    found = {link.kind: link.found for link in trace(scene.parent, workspace=project.workspace)}
    assert found["image"] and found["base"] and found["adapter"] and found["model"] and found["mlflow run"]

    again = materialize("point_clouds", "kitchen")
    (event,) = again.get_asset_materialization_events()
    assert event.step_materialization_data.materialization.metadata["done"].value == 0
    assert event.step_materialization_data.materialization.metadata["cached"].value == 1

    views = materialize("novel_views", "kitchen")
    assert views.success
    (event,) = views.get_asset_materialization_events()
    assert event.step_materialization_data.materialization.metadata["done"].value == 1
    assert len(list((project.workspace.novel_views / "kitchen").glob("*/swing.mp4"))) == 1
