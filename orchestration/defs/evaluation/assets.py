"""The evaluation of the adapter."""

import dagster as dg

from fourdnex.identity import KEYS
from fourdnex.io.files import sha256_file
from orchestration import display
from orchestration.history import metadata_of_run
from orchestration.project import Project
from orchestration.training_run import code_version, depth_network_options


@dg.asset(
    deps=["adapter"],
    group_name="evaluation",
    owners=["team:training"],
    kinds={"pytorch", "json"},
    code_version=code_version("1", depth_network_options()),
    pool="gpu",
    description="Depth, pose, point and RGB errors on held-out worlds, compared to baselines: the base without "
    "adapter, and static first frames with the sloped plane, the mean point map of the training clips, or the depth "
    "network's point map.",
)
def evaluation_report(context: dg.AssetExecutionContext, project: Project) -> dg.MaterializeResult:
    """Evaluate the adapter of this run, or the latest one."""
    from fourdnex.evaluation.benchmark import Evaluation, evaluate

    trained = metadata_of_run(context, "adapter")
    files = project.workspace
    adapter = project.adapter_dir(trained)
    folder = files.evaluation_of(trained["adapter_digest"])
    identity = project.identity(
        context.run.run_id, **{key: trained.get(key) for key in KEYS if key not in ("git_commit", "dagster_run")}
    )
    config = Evaluation(
        adapter=adapter,
        out=folder,
        model=project.model,
        annotated=files.annotated,
        curated=files.curated,
        num_worlds=project.evaluation_worlds,
        depth_network=project.depth_network_for(adapter),
    )
    report = evaluate(config, identity=identity)
    methods = {"adapter": report["adapter"], **report["baselines"], "VAE floor": report["vae_floor"]}
    return dg.MaterializeResult(
        data_version=dg.DataVersion(sha256_file(folder / "report.json")),
        metadata={
            "report": dg.MetadataValue.path(str(folder / "report.json")),
            "held_out_worlds": report["num_worlds"],
            "errors": display.table([{"method": name, **numbers} for name, numbers in methods.items()]),
            **{f"gain {metric}": float(gain) for metric, gain in report["gain"].items()},
            "worlds": display.image_file(folder / "contact_sheet.png"),
            **display.identity(identity),
        },
    )
