"""Assets, job and sensor that turn new videos into a new version of the data set."""

import dagster as dg

from orchestration import display
from orchestration.attempts import active_run_of_job
from orchestration.data_version import add_batch, commit_data, find_batches
from orchestration.defs.dataset.assets import GROUP, OWNERS
from orchestration.project import Project

POOL = "data"


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"ffmpeg", "parquet"},
    code_version="1",
    pool=POOL,
    check_specs=[
        dg.AssetCheckSpec(
            "every_video_was_read", asset="new_clips", description="No folder or video failed, and none is waiting."
        )
    ],
    description="New shards of `data/`: the clips of each folder of videos in `workspace/videos` that is not in the "
    "data set yet. Present shards stay as they are.",
)
def new_clips(context: dg.AssetExecutionContext, project: Project) -> dg.MaterializeResult:
    """Add every batch that is ready; a batch that fails does not prevent the others."""
    batches = find_batches(project.workspace.videos, project.data_dir)
    rows, failed = [], list(batches.waiting)
    for batch in batches.ready:
        try:
            counts = add_batch(batch, project.data_dir, progress=context.log.info)
        except (ValueError, OSError) as error:
            failed.append((batch.name, str(error)))
            continue
        files = counts.pop("failed")
        rows.append({"batch": batch.name, **counts, "failed": len(files)})  # type: ignore[arg-type]
        failed += [(f"{batch.name}/{file}", reason) for file, reason in files]  # type: ignore[attr-defined]
    check = dg.AssetCheckResult(
        check_name="every_video_was_read",
        passed=not failed,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(f"{name}: {reason}" for name, reason in failed[:5]) or "nothing failed",
    )
    metadata = {"batches": display.table(rows), "failures": display.failures(failed)}
    return dg.MaterializeResult(metadata=metadata, check_results=[check])


@dg.asset(
    deps=[new_clips],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"dvc", "git"},
    code_version="1",
    pool=POOL,
    description="The present contents of `data/` as a version: `dvc add`, `dvc push`, and a commit of `data.dvc`.",
)
def dataset_version(context: dg.AssetExecutionContext, project: Project) -> dg.MaterializeResult:
    """Record the data set, with its data card as metadata."""
    from pathlib import Path

    from fourdnex.datasets.card import card_markdown, describe_data, sample_sheet
    from fourdnex.datasets.manifest import read_manifest

    facts = describe_data(project.data_dir)
    md5, commit = commit_data(Path(project.root), f"Data set of {facts['clips']} clips in {facts['shards']} shards")
    card = card_markdown(facts, title="Data set").split("---\n", 2)[2]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(md5),
        metadata={
            "data_md5": md5,
            "commit": commit or "nothing to commit",
            "clips": facts["clips"],
            "samples": display.inline_image(sample_sheet(project.data_dir, read_manifest(project.data_dir))),
            "card": dg.MetadataValue.md(card),
        },
    )


add_videos = dg.define_asset_job(
    "add_videos",
    selection=dg.AssetSelection.assets("new_clips", "dataset_version"),
    description="Adds the folders of videos in `workspace/videos` to the data set, and records it as a new version.",
)


@dg.sensor(
    job_name="add_videos",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Adds new folders of videos in workspace/videos to the data set. Off by default: it commits to Git.",
)
def new_videos(context: dg.SensorEvaluationContext, project: Project) -> dg.RunRequest | dg.SkipReason:
    """Request a run for the batches that are ready."""
    batches = find_batches(project.workspace.videos, project.data_dir)
    if not batches.ready:
        waiting = "; ".join(f"{name}: {reason}" for name, reason in batches.waiting)
        return dg.SkipReason(waiting or f"no new folder in {project.workspace.videos}")
    if run := active_run_of_job(context.instance, "add_videos"):
        return dg.SkipReason(f"will be checked again when run {run} has ended")
    newest = max(path.stat().st_ctime_ns for batch in batches.ready for path in (batch, *batch.iterdir()))
    return dg.RunRequest(run_key=f"{' '.join(batch.name for batch in batches.ready)} {newest}")
