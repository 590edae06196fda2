"""Assets from the curated clips to a trained adapter."""

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
from orchestration.partitions import for_each_partition, shards
from orchestration.processes import run_process, throttle_progress
from orchestration.project import Project
from orchestration.training_run import (
    TrainingOptions,
    adapter_folder,
    code_version,
    default_training_options,
    encoding_options,
    train_arguments,
)

GROUP = "training"
OWNERS = ["team:training"]


@dg.multi_observable_source_asset(  # type: ignore[untyped-decorator]
    specs=[
        dg.AssetSpec(
            "base_model",
            description="The image-to-video base model that adapters are trained on. The version is the digest of its "
            "weights and configuration files.",
            group_name=GROUP,
            owners=OWNERS,
            kinds={"pytorch", "safetensors"},
        )
    ]
)
def base_model(context: dg.AssetExecutionContext, project: Project) -> dg.ObserveResult:
    """Observe the version of the base; fails if the base is missing."""
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
    code_version=code_version("2", encoding_options(default_training_options())),
    pool="gpu",
    description="Latents, text and image embeddings of the accepted clips of a shard, so that training needs no VAE or "
    "text encoder in memory.",
)
def training_latents(
    context: dg.AssetExecutionContext, project: Project
) -> Iterator[dg.AssetMaterialization | dg.MaterializeResult]:
    """Encode the shards of the run, each recorded when it is finished."""
    from fourdnex.latents.encoding import encode_shard

    files = project.workspace
    encoding = encoding_options(project.training_options)

    def encode(shard: str) -> dict[str, Any]:
        """Encode one shard; returns the metadata."""
        report = encode_shard(files.annotated, shard, files.curated, files.latents, model=project.model, **encoding)
        return {**display.shard_report(report), "clips": display.parquet_summary(files.latents / f"{shard}.parquet")}

    yield from for_each_partition(context, encode)


@dg.asset(
    deps=["training_latents"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"json"},
    code_version="2",
    description="Mean and standard deviation of the XYZ latents of all shards; median center and scale of the clips.",
)
def latent_statistics(context: dg.AssetExecutionContext, project: Project) -> dg.MaterializeResult:
    """Compute the statistics, after removing latents of shards that the data set no longer has."""
    from fourdnex.latents.encoding import estimate_statistics

    files = project.workspace
    shard_names = context.instance.get_dynamic_partitions("shards")
    # Training reads every shard in the folder, so shards of an earlier data set must be removed.
    for path in files.latents.glob("[!.]*.safetensors"):
        if path.stem not in shard_names:
            context.log.warning(f"{path.stem}: not a shard of the present data set: removing its latents")
            path.unlink()
            path.with_suffix(".parquet").unlink(missing_ok=True)
            path.with_suffix(".data.json").unlink(missing_ok=True)
    summary = estimate_statistics(files.latents, sorted(shard_names))
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
    code_version=code_version("1", default_training_options()),
    pool="gpu",
    description="The LoRA adapter, trained with accelerate in a separate process, which ends with the run.",
)
def adapter(context: dg.AssetExecutionContext, config: TrainingOptions, project: Project) -> dg.MaterializeResult:
    """Train an adapter, unless one was trained from the same latents with the same options."""
    from fourdnex.latents.shards import shard_names

    files = project.workspace
    options = project.training_options | config.options
    folder = adapter_folder(files, model=project.model, options=options)
    summary_path = folder / "training" / "summary.json"
    trained_before = summary_path.is_file()
    # The version of the data that the latents were encoded from. It may differ from what `data.dvc` names now and from
    # what the graph observed last, which is the fallback for latents without a version.
    observed = latest_observation(context.instance, "source_clips").get("data_md5")
    version = data_version(files.latents, shard_names(files.latents), default=observed)
    identity = project.identity(context.run.run_id, data_md5=version)
    if trained_before:
        context.log.info(f"{folder.name}: already trained from the same latents with the same options")
    else:
        arguments = train_arguments(files.latents, folder, model=project.model, options=options)
        context.log.info(" ".join(arguments))
        run_process(
            [sys.executable, *arguments],
            on_line=throttle_progress(context.log.info),
            with_stdout=False,  # the result as JSON, which is also in summary.json
            environment={
                DAGSTER_RUN_VARIABLE: context.run.run_id,
                ROOT_VARIABLE: project.root,
                WORKSPACE_VARIABLE: str(files.root),
            },
        )
    summary = read_json(summary_path)
    trained = read_json(folder / "adapter.json")
    identity |= {
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
            **display.identity(identity),
        },
    )
