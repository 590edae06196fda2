"""Assets from the versioned clips to the curated manifest."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from fourdnex.io.files import sha256_file
from orchestration import display
from orchestration.data_state import checked_data_md5
from orchestration.partitions import for_each_partition, shards, sync_shards
from orchestration.project import Project

GROUP = "dataset"
OWNERS = ["team:data"]


@dg.multi_observable_source_asset(  # type: ignore[untyped-decorator]
    specs=[
        dg.AssetSpec(
            "source_clips",
            description="Source clips in `data/`, versioned by DVC. The version is the md5 in `data.dvc`.",
            group_name=GROUP,
            owners=OWNERS,
            kinds={"dvc", "parquet"},
        )
    ]
)
def source_clips(context: dg.AssetExecutionContext, project: Project) -> dg.ObserveResult:
    """Observe the version of the data set; fails if `data/` is missing or is not that version."""
    from fourdnex.datasets.manifest import read_manifest

    md5 = checked_data_md5(project.root)
    names = sync_shards(context.instance, project.data_dir)
    manifest = read_manifest(project.data_dir)
    subsets = manifest.groupby("subset").agg(clips=("name", "size"), frames=("num_frames", "sum")).reset_index()
    return dg.ObserveResult(
        asset_key="source_clips",
        data_version=dg.DataVersion(md5),
        metadata={
            "data_md5": md5,
            "clips": len(manifest),
            "shards": len(names),
            "subsets": display.table(subsets.to_dict("records")),
            "examples": display.table(manifest[["name", "subset", "caption", "license"]].head(8).to_dict("records")),
        },
    )


@dg.asset(
    partitions_def=shards,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=["source_clips"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"opencv", "safetensors"},
    code_version="1",
    pool="gpu",
    description="Depth, cameras, confidence and dynamic mask of every clip of a shard. Clips that cannot be annotated "
    "are listed as failed, with the reason.",
)
def annotated_clips(
    context: dg.AssetExecutionContext, project: Project
) -> Iterator[dg.AssetMaterialization | dg.MaterializeResult]:
    """Annotate the shards of the run, each recorded when it is finished."""
    from fourdnex.annotation import annotate_shard
    from fourdnex.curation import thumbnails
    from fourdnex.datasets.annotated import read_annotated_table

    identity = display.identity(project.identity(context.run.run_id))

    def annotate(shard: str) -> dict[str, Any]:
        """Annotate one shard; returns the metadata."""
        report = annotate_shard(project.data_dir, shard, project.workspace.annotated)
        table = read_annotated_table(project.workspace.annotated, shard)
        annotated = table[table["reason"] == ""].assign(mean_confidence=1.0)  # `thumbnails` shows scored clips
        return {
            **display.shard_report(report),
            "annotators": ", ".join(sorted(annotated["annotator"].unique())),
            "examples": display.inline_image(thumbnails(project.workspace.annotated, annotated, limit=6)),
            **identity,
        }

    yield from for_each_partition(context, annotate)


@dg.asset(
    partitions_def=shards,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=["annotated_clips"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "parquet"},
    code_version="1",
    description="Scores of every annotated clip of a shard: image quality, motion, geometry, camera path.",
)
def curation_scores(
    context: dg.AssetExecutionContext, project: Project
) -> Iterator[dg.AssetMaterialization | dg.MaterializeResult]:
    """Score the shards of the run, each recorded when it is finished."""
    from fourdnex.curation import score_shard

    files = project.workspace

    def score(shard: str) -> dict[str, Any]:
        """Score one shard; returns the metadata."""
        report = score_shard(files.annotated, shard, files.scores)
        return {**display.shard_report(report), "scores": display.parquet_summary(files.scores / f"{shard}.parquet")}

    yield from for_each_partition(context, score)


@dg.asset(
    deps=["curation_scores"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"parquet"},
    code_version="1",
    description="Clips accepted for training, and rejected clips with the reasons.",
)
def curated_manifest(context: dg.AssetExecutionContext, project: Project) -> dg.MaterializeResult:
    """Apply the curation rules to the scores of all shards."""
    from fourdnex.curation import curate, thumbnails, write_report

    files = project.workspace
    shard_names = context.instance.get_dynamic_partitions("shards")
    rules, set_rules = project.curation_rules()
    report = curate(files.scores, files.annotated, files.curated, rules, set_rules=set_rules, shards=shard_names)
    rejected = report.table[~report.table["accepted"]]
    counts = report.reason_counts()
    if report.accepted == 0:
        raise dg.Failure(f"curation rejected all {report.rejected} clips: {counts}")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(sha256_file(files.curated)),
        metadata={
            "accepted": report.accepted,
            "rejected": report.rejected,
            "accepted_clips": display.inline_image(thumbnails(files.annotated, report.table[report.table["accepted"]])),
            "rejected_images": display.inline_image(thumbnails(files.annotated, rejected)),
            "rejected_clips": display.table(
                [{"name": row["name"], "reasons": "; ".join(row["reasons"])} for _, row in rejected.head(50).iterrows()]
            ),
            "report": dg.MetadataValue.path(write_report(report, files.annotated, files.curated.parent)),
            "tags": display.table([{"tag": tag, "clips": count} for tag, count in _tag_counts(report.table)]),
            "reasons": display.table([{"rule": rule, "clips": count} for rule, count in counts.items()]),
            **display.identity(project.identity(context.run.run_id)),
        },
    )


def _tag_counts(table: Any) -> list[tuple[str, int]]:
    """Tags of the accepted clips with their counts, most frequent first."""
    counts = table.loc[table["accepted"], "tags"].explode().dropna().value_counts()
    return [(str(tag), int(count)) for tag, count in counts.items()]
