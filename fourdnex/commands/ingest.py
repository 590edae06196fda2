"""The command that converts public data sets."""

from pathlib import Path
from typing import Annotated, Literal

from fourdnex.commands.declaration import Result, command
from fourdnex.progress import write_line


@command("4dnex-10m 4DNeX-10M my-data --workers 8")
def ingest(
    source: Annotated[Literal["4dnex-10m"], "the public data set: 4dnex-10m"],
    folder: Annotated[Path, "the data set as it is distributed, all of it or some of its subsets"],
    output: Annotated[Path, "data set to create; an interrupted ingestion is resumed"],
    *,
    subsets: Annotated[tuple[str, ...], "subsets to convert (default: all that are present)"] = (),
    shard_size: Annotated[int, "clips per shard"] = 256,
    workers: Annotated[int, "number of processes"] = 1,
) -> Result:
    """Convert a public data set into shards of clips, and report what is missing or broken."""
    from fourdnex.datasets.ingest import ingest_4dnex10m

    reports = ingest_4dnex10m(
        folder, output, subsets=subsets, shard_size=shard_size, workers=workers, progress=write_line
    )
    for report in reports:
        print(
            f"{report.subset}: {report.clips} clips, {report.frames} frames, {report.without_caption} without caption, "
            f"{len(report.missing_rgb)} without RGB, {len(report.broken)} broken"
        )
        for path, reason in (*report.missing_rgb, *report.broken):
            write_line(f"failed: {path}: {reason}")
        for problem in report.caption_problems:
            write_line(f"warning: {problem}")
    clips = sum(report.clips for report in reports)
    print(f"{output}: {clips} clips")
    return Result(data={"output": output, "source": source, "clips": clips, "subsets": reports})
