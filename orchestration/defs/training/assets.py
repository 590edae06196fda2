"""From the curated clips to a trained adapter."""

import sys
from collections.abc import Iterator
from typing import Any

import dagster as dg

from fourdnex.datasets.versions import data_version
from fourdnex.identity import DAGSTER_RUN_VARIABLE, ROOT_VARIABLE
from fourdnex.io.files import read_json, sha256_file
from fourdnex.workspace import VARIABLE as WORKSPACE_VARIABLE
from orchestration import display
from orchestration.history import latest_observation
from orchestration.partitions import each_partition, shards
from orchestration.processes import run_process, without_most_progress
from orchestration.project import Project
from orchestration.training_run import (
    TrainingOptions,
    adapter_folder,
    code_version,
    command_line,
    encoding_options,
    options_of_every_run,
)

GROUP = "training"
OWNERS = ["team:training"]


@dg.multi_observable_source_asset(
    specs=[
        dg.AssetSpec(
            "base_model",
            description="The image-to-video base that adapters are trained on. Its version is the digest of its "
            "weights and configurations.",
            group_name=GROUP,
            owners=OWNERS,
            kinds={"pytorch", "safetensors"},
        )
    ]
)
def base_model(context: dg.AssetExecutionContext, project: Project) -> dg.ObserveResult:
    """Observe the base's version; refuses when the base is missing."""
    from fourdnex.model.presets import base_digest, get_preset

    preset = get_preset(project.model)
    digest = base_digest(preset.location)
    return dg.ObserveResult(
        asset_key="base_model",
        data_version=dg.DataVersion(digest),
        metadata={
            "base_model": preset.name,
            "base_digest": digest,
            "frames": preset.num_frames,
            "size": f"{preset.height}x{preset.width}",
        },
    )


@dg.asset(
    partitions_def=shards,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=["annotated_clips", "curated_manifest", "base_model"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pytorch", "safetensors"},
    code_version=code_version("2", encoding_options(options_of_every_run())),
    pool="gpu",
    description="Latents, text and image embeddings of the kept clips of a shard: training needs no VAE or text "
    "encoder in memory.",
)
def training_latents(
    context: dg.AssetExecutionContext, project: Project
) -> Iterator[dg.AssetMaterialization | dg.MaterializeResult]:
    from fourdnex.latents.encoding import encode_shard

    files = project.workspace
    way = encoding_options(project.training_options)

    def encode(shard: str) -> dict[str, Any]:
        report = encode_shard(files.annotated, shard, files.curated, files.latents, model=project.model, **way)
        return {**display.shard_report(report), "clips": display.parquet_summary(files.latents / f"{shard}.parquet")}

    yield from each_partition(context, encode)


@dg.asset(
    deps=["training_latents"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"json"},
    code_version="2",
    description="Mean and deviation of the XYZ latents over all shards, and the clips' median center and scale.",
)
def latent_statistics(context: dg.AssetExecutionContext, project: Project) -> dg.MaterializeResult:
    from fourdnex.latents.encoding import estimate_statistics

    files = project.workspace
    known = context.instance.get_dynamic_partitions("shards")
    # Training reads every shard of the folder: those of an earlier data set must not stay in it.
    for path in files.latents.glob("[!.]*.safetensors"):
        if path.stem not in known:
            context.log.warning(f"{path.stem}: no shard of the present data set, its latents are removed")
            path.unlink()
            path.with_suffix(".parquet").unlink(missing_ok=True)
            path.with_suffix(".data.json").unlink(missing_ok=True)
    summary = estimate_statistics(files.latents, sorted(known))
    channels = zip(summary.statistics.mean, summary.statistics.std, strict=True)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(sha256_file(files.latent_statistics)),
        metadata={
            "clips": summary.num_clips,
            "scale": summary.scale,
            "channels": display.table([{"channel": i, "mean": m, "std": s} for i, (m, s) in enumerate(channels)]),
        },
    )


@dg.asset(
    deps=["training_latents", "latent_statistics", "base_model"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pytorch", "mlflow"},
    code_version=code_version("1", options_of_every_run()),
    pool="gpu",
    description="The LoRA adapter, trained by accelerate in a process of its own; ending the run ends that process.",
)
def adapter(context: dg.AssetExecutionContext, config: TrainingOptions, project: Project) -> dg.MaterializeResult:
    from fourdnex.latents.shards import shard_names

    files = project.workspace
    options = project.training_options | config.options
    folder = adapter_folder(files, model=project.model, options=options)
    summary_path = folder / "training" / "summary.json"
    trained_before = summary_path.is_file()
    # The data that the latents were made of, also when the adapter was trained before: from the same latents. What
    # `data.dvc` names by now, or the graph saw last, may be another version. Where no latents tell, it is the latter.
    observed = latest_observation(context.instance, "source_clips").get("data_md5")
    version = data_version(files.latents, shard_names(files.latents), default=observed)
    known = project.identity(context.run.run_id, data_md5=version)
    if trained_before:
        context.log.info(f"{folder.name}: trained before from the same latents with the same options")
    else:
        command = command_line(files.latents, folder, model=project.model, options=options)
        context.log.info(" ".join(command))
        run_process(
            [sys.executable, *command],
            on_line=without_most_progress(context.log.info),
            with_output=False,  # its result as JSON, which lies in summary.json too
            environment={
                DAGSTER_RUN_VARIABLE: context.run.run_id,
                ROOT_VARIABLE: project.root,
                WORKSPACE_VARIABLE: str(files.root),
            },
        )
    summary = read_json(summary_path)
    trained = read_json(folder / "adapter.json")
    known |= {
        "adapter_digest": summary["adapter_digest"],
        "mlflow_run": summary["mlflow_run_id"],
        "base_digest": trained["base_digest"],
        "config_hash": trained["identity"].get("config_hash"),
    }
    return dg.MaterializeResult(
        data_version=dg.DataVersion(summary["adapter_digest"]),
        metadata={
            "folder": dg.MetadataValue.path(str(folder)),
            "steps": summary["steps"],
            "clips": summary["num_clips"],
            "loss": summary["loss"],
            "adapter_norm": summary["adapter_norm"],
            "seconds": round(summary["seconds"], 1),
            "trained_before": trained_before,
            "curves": display.image_file(folder / "training" / "curves.png"),
            "samples": display.contact_sheet(sorted((folder / "training" / "samples").glob("*.png")), tile=360),
            "options": dg.MetadataValue.json(options),
            **display.identity(known),
        },
    )
