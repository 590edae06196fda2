"""The commands `fourdnex dataset ...`: check, describe, combine and migrate data sets."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from fourdnex.commands.declaration import ENGINE, WORKERS, Result
from fourdnex.commands.declaration import command as declare
from fourdnex.progress import write_line

command = partial(declare, group="dataset")
Data = Annotated[Path, "data set, a folder with manifest.parquet"]


@command("my-data --workers 8")
def check(
    data: Data,
    *,
    decode: Annotated[bool, "decode every video, beside comparing digests"] = True,
    engine: Annotated[Literal["local", "ray"], ENGINE] = "local",
    workers: Annotated[int, WORKERS] = 1,
) -> Result:
    """Check every shard, digest, video and value of a data set, and name what is broken."""
    from fourdnex.datasets.check import check_data

    report = check_data(data, decode=decode, engine=engine, workers=workers)
    for problem in report.problems:
        print(f"broken: {problem}")
    for note in report.notes:
        write_line(f"note: {note}")
    print(f"{data}: {report.clips} clips in {report.shards} shards, {len(report.problems)} problems")
    return Result(data=vars(report), status=1 if report.problems else 0)


@command("my-data")
def info(data: Data) -> Result:
    """Count clips, frames, hours, captions, and clips by subset, license, size, frame rate and tag."""
    from fourdnex.datasets.card import describe_data

    facts = describe_data(data)
    for key, value in facts.items():
        title = key.replace("_", " ")
        if isinstance(value, dict):
            value = ", ".join(f"{name} ({count:,})" for name, count in list(value.items())[:10])
        print(f"{title:20} {value:,}" if isinstance(value, int) else f"{title:20} {value}")
    return Result(data=facts)


@command("my-data card --title 'Kitchens'")
def card(
    data: Data,
    output: Annotated[Path, "folder of the card: README.md and samples.jpg"],
    *,
    annotated: Annotated[Path | None, "folder of annotated shards, to be counted too"] = None,
    title: Annotated[str | None, "name of the data set (default: that of its folder)"] = None,
) -> Result:
    """Write the data card: counts, licenses and sample frames, as Markdown for the Hugging Face Hub."""
    from fourdnex.datasets.card import write_card

    path = write_card(data, output, annotated_dir=annotated, title=title)
    print(path)
    return Result(data={"output": path})


@command("all-data my-data more-data")
def merge(
    output: Annotated[Path, "data set to create; the folder must not exist or be empty"],
    sources: Annotated[tuple[Path, ...], "data sets to merge, in this order"],
) -> Result:
    """Merge data sets into a new one; clips with equal videos are taken once."""
    from fourdnex.datasets.merge import merge_data

    return _added(output, vars(merge_data(sources, output)))


@command("my-data more-data")
def add(
    data: Data,
    sources: Annotated[tuple[Path, ...], "data sets to add, in this order"],
) -> Result:
    """Add the clips of other data sets to a data set, as new shards."""
    from fourdnex.datasets.merge import add_data

    return _added(data, vars(add_data(data, sources)))


@command("my-data")
def migrate(data: Data) -> Result:
    """Write the manifest of an earlier version again, at the current version."""
    from fourdnex.datasets.manifest import VERSION, manifest_version
    from fourdnex.datasets.merge import migrate_data

    before = manifest_version(data)
    if before < VERSION:
        migrate_data(data)
    print(f"{data}: version {before}" + (f", now {VERSION}" if before < VERSION else ", up to date"))
    return Result(data={"output": data, "from": before, "to": max(before, VERSION)})


def _added(data: Path, report: dict[str, object]) -> Result:
    """Print and return what was added."""
    for before, after in report["renamed"]:  # type: ignore[attr-defined]
        write_line(f"shard {before}: the name is taken; now {after}")
    for name in report["duplicates"]:  # type: ignore[attr-defined]
        write_line(f"left out: {name}: a clip with the same video is there")
    counts = f"{report['clips']} clips in {len(report['shards'])} shards"  # type: ignore[arg-type]
    print(f"{data}: {counts} added, {len(report['duplicates'])} duplicates left out")  # type: ignore[arg-type]
    return Result(data={"output": data, **report})
