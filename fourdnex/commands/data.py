"""Commands that build, annotate, curate and encode a data set."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fourdnex.commands.declaration import ENGINE, WORKERS, Result, command, failures
from fourdnex.progress import write_line
from fourdnex.workspace import Workspace

if TYPE_CHECKING:
    from fourdnex.annotation import Annotator, AnnotatorInfo
    from fourdnex.datasets.reports import ShardReport
    from fourdnex.engine import Engine


@command("my-data --num-worlds 128")
def worlds(
    output: Annotated[Path, "data set to create; the folder must not exist or be empty"],
    *,
    num_worlds: Annotated[int, "number of worlds"] = 256,
    first_seed: Annotated[int, "seed of the first world; seeds of held-out worlds are skipped"] = 100_000,
    families: Annotated[
        tuple[str, ...], "world families: any of primitives, rooms, clutter, corridor, terrain, street, jumble"
    ] = ("primitives",),
    primitives: Annotated[
        float | None, "share of the family `primitives` among several (default: equal shares)"
    ] = None,
    ratios: Annotated[
        tuple[str, ...], "aspect ratios, such as 3:2 2:3 1:1, each at about the area of height x width"
    ] = (),
    num_frames: Annotated[int, "frames per world; the large bases require 49"] = 17,
    height: Annotated[int, "height in pixels"] = 64,
    width: Annotated[int, "width in pixels"] = 96,
    with_real: Annotated[bool, "add the real clips, downloaded from Debian's archive"] = False,
    downloads: Annotated[Path | None, "folder that caches the downloads"] = None,
) -> Result:
    """Render procedural worlds into a data set: shards of clips and a manifest."""
    from fourdnex.datasets.build import build_data

    count = build_data(
        output,
        num_worlds=num_worlds,
        with_real=with_real,
        first_seed=first_seed,
        families=families,
        primitives=primitives,
        ratios=ratios,
        num_frames=num_frames,
        height=height,
        width=width,
        downloads=downloads,
        progress=write_line,
    )
    print(f"{output}: {count} clips")
    return Result(data={"output": output, "clips": count})


@command("my-videos my-data --fps 10")
def videos(
    folder: Annotated[Path, "folder of videos, searched recursively; NAME.txt holds the caption of NAME.mp4"],
    output: Annotated[Path, "data set to create; the folder must not exist or be empty"],
    *,
    num_frames: Annotated[int, "frames per clip, 4k+1; the large bases require 49"] = 17,
    max_size: Annotated[int, "longer side in pixels to which larger videos are scaled down"] = 1280,
    height: Annotated[int | None, "height of all clips; with --width, frames are center-cropped to it"] = None,
    width: Annotated[int | None, "width of all clips"] = None,
    keep_ratio: Annotated[bool, "keep each video's aspect ratio, at about the area of height x width"] = False,
    fps: Annotated[float | None, "frames per second of the clips, sampled by timestamp (default: all frames)"] = None,
    cuts: Annotated[bool, "end clips at cuts"] = True,
    crop_bars: Annotated[bool, "crop black bars"] = True,
    skip_static: Annotated[bool, "skip windows in which nothing changes"] = True,
    clips_per_video: Annotated[int | None, "max clips per video (default: as many as fit without overlap)"] = None,
    license: Annotated[str | None, "license recorded for every clip"] = None,
    name: Annotated[str | None, "beginning of the names of shards (default: the name of the output folder)"] = None,
    shard_size: Annotated[int, "clips per shard"] = 64,
) -> Result:
    """Cut videos into clips, as a data set that can be annotated."""
    from fourdnex.datasets.videos import build_from_videos

    report = build_from_videos(
        folder,
        output,
        num_frames=num_frames,
        max_size=max_size,
        height=height,
        width=width,
        keep_ratio=keep_ratio,
        fps=fps,
        find_cuts=cuts,
        crop_bars=crop_bars,
        skip_static=skip_static,
        clips_per_video=clips_per_video,
        license=license or "",
        name=name,
        shard_size=shard_size,
        progress=write_line,
    )
    print(f"{output}: {report.clips} clips of {report.videos} videos, {len(report.failed)} failed")
    for reason, number in report.skipped.items():
        print(f"skipped: {number} windows: {reason}")
    counts = {"output": output, "clips": report.clips, "videos": report.videos, "skipped": report.skipped}
    return Result(data={**counts, "failed": failures(report.failed)})


@command("--data data --shards worlds-0000")
def annotate(
    *,
    data: Annotated[Path, "data set, a folder with manifest.parquet"] = Path("data"),
    output: Annotated[Path | None, "folder of annotated shards (default: in the workspace)"] = None,
    shards: Annotated[tuple[str, ...], "shards to annotate (default: all)"] = (),
    annotator: Annotated[
        str | None, "name of an annotator, see --list-annotators (default: exact for procedural worlds, else sfm)"
    ] = None,
    max_pixels: Annotated[
        int | None, "max height x width of annotated clips (default: the annotator's own; sfm: 86400, others: no limit)"
    ] = None,
    depth_network: Annotated[
        str | None, "depth network of --annotator depth: tiny, a folder, a hub id, or an ONNX file (default: tiny)"
    ] = None,
    geometry: Annotated[Path | None, "folder of geometry by other tools, for --annotator imported"] = None,
    geometry_fps: Annotated[
        float | None, "frames per second of a video's imported geometry (default: those of the clip)"
    ] = None,
    imported: Annotated[Path | None, "4DNeX-10M folder whose own geometry is used instead of estimated"] = None,
    list_annotators: Annotated[bool, "list the annotators, built in and of installed packages, and do nothing else"] = (
        False
    ),
    engine: Annotated[Literal["local", "ray"], ENGINE] = "local",
    workers: Annotated[int, WORKERS] = 1,
) -> Result:
    """Estimate depth, cameras, confidence and dynamic masks of the clips of a data set."""
    from fourdnex import annotation
    from fourdnex.datasets.manifest import list_shards

    if list_annotators:
        return _print_annotators(annotation.list_annotators())
    if imported is not None and annotator is not None:
        raise ValueError(f"--imported: expected no --annotator beside it, got {annotator}")
    chosen: Annotator | None = None
    options = {"depth_network": depth_network, "geometry": geometry, "geometry_fps": geometry_fps}
    if annotator is not None:
        chosen = annotation.create_annotator(annotator, **options)
    elif lost := [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]:
        raise ValueError(f"{', '.join(lost)}: expected --annotator beside it")
    elif imported is not None:
        chosen = annotation.ImportedAnnotator(imported)
    out = output or Workspace.default().annotated
    names = shards or tuple(list_shards(data))
    work = partial(
        annotation.annotate_shard, data, out_dir=out, annotator=chosen, max_pixels=max_pixels, progress=write_line
    )
    reports = _map_shards(work, names, engine, workers)
    return Result(data={"output": out, "shards": _shard_data(reports)}, status=_status(reports))


@command("", "fourdnex.curation.rules:Rules")
def curate(
    *,
    annotated: Annotated[Path | None, "folder of annotated shards (default: in the workspace)"] = None,
    scores: Annotated[Path | None, "folder of score tables (default: in the workspace)"] = None,
    output: Annotated[Path | None, "table of accepted and rejected clips (default: in the workspace)"] = None,
    rules: Annotated[Path | None, "TOML file of rules; options of single thresholds replace its values"] = None,
    write_rules: Annotated[Path | None, "write the rules to a new TOML file, and do nothing else"] = None,
    explain: Annotated[str | None, "print every rule, value and verdict of one clip, and write no table"] = None,
    report: Annotated[bool, "write report.html and report.json beside the table"] = True,
    engine: Annotated[Literal["local", "ray"], ENGINE] = "local",
    workers: Annotated[int, WORKERS] = 1,
    **thresholds: Any,
) -> Result:
    """Score annotated clips, and accept or reject each by rules, with the reasons."""
    from fourdnex import curation

    rule_set = curation.SetRules()
    if rules is None:
        limits = curation.Rules(**thresholds)
    else:
        limits, rule_set = curation.read_rules(rules, **thresholds)
    if write_rules is not None:
        curation.write_rules(write_rules, limits, rule_set)
        print(f"{write_rules}: rules written")
        return Result(data={"output": write_rules})
    files = Workspace.default()
    annotated, scores, output = annotated or files.annotated, scores or files.scores, output or files.curated
    work = partial(curation.score_shard, annotated, scores_dir=scores)
    reports = _map_shards(work, _shards_in(annotated), engine, workers)
    target = output if explain is None else None
    result = curation.curate(scores, annotated, target, limits, set_rules=rule_set)
    if explain is not None:
        explanation = curation.explain(result, explain)
        print("\n".join(curation.explanation_lines(explanation)))
        return Result(data=explanation)
    reasons = result.reason_counts()
    for rule, count in reasons.items():
        print(f"{count:8d}  {rule}")
    page = curation.write_report(result, annotated, output.parent) if report else None
    print(f"{output}: {result.accepted} accepted, {result.rejected} rejected" + (f"; see {page}" if page else ""))
    counts = {"accepted": result.accepted, "rejected": result.rejected, "reasons": reasons, "report": page}
    return Result(data={"output": output, **counts, "shards": _shard_data(reports)}, status=0 if result.accepted else 1)


@command("--model tiny")
def encode(
    *,
    annotated: Annotated[Path | None, "folder of annotated shards (default: in the workspace)"] = None,
    curated: Annotated[Path | None, "table of accepted clips (default: in the workspace)"] = None,
    output: Annotated[Path | None, "folder of latent shards (default: in the workspace)"] = None,
    model: Annotated[str, "preset or folder of the base"] = "tiny",
    normalization: Annotated[Literal["clip", "frame"], "center point maps once per clip or per frame"] = "clip",
    xyz_init: Annotated[
        Literal["plane", "pointmap"], "pointmap: also encode the first-frame point maps of the clips"
    ] = "plane",
    condition: Annotated[
        Literal["apart", "joint"],
        "joint: encode the first RGB and XYZ frames side by side in one pass, as the reference implementation does",
    ] = "apart",
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        "compute precision of the VAE; auto: bf16 on a CPU with fast bfloat16 instructions (AMX, AVX512-BF16)",
    ] = "auto",
    engine: Annotated[Literal["local", "ray"], ENGINE] = "local",
    workers: Annotated[int, WORKERS] = 1,
) -> Result:
    """Encode accepted clips into latents, and compute the statistics of the XYZ latents."""
    from fourdnex.latents.encoding import encode_shard, estimate_statistics

    files = Workspace.default()
    annotated, curated, output = annotated or files.annotated, curated or files.curated, output or files.latents
    shards = _shards_in(annotated)
    encoding: dict[str, Any] = {"model": model, "normalization": normalization, "xyz_init": xyz_init}
    encoding |= {"condition": condition, "precision": precision}
    work = partial(encode_shard, annotated, curated_path=curated, out_dir=output, **encoding)
    reports = _map_shards(work, shards, engine, workers)
    summary = estimate_statistics(output, shards)
    print(f"{output}: center {summary.center}, scale {summary.scale:.4g}")
    statistics = {"center": summary.center, "scale": summary.scale, "clips": summary.num_clips}
    return Result(data={"output": output, **statistics, "shards": _shard_data(reports)}, status=_status(reports))


def _print_annotators(listed: "Sequence[AnnotatorInfo]") -> Result:
    """Print one line per annotator: name, version, license, and what it needs or lacks."""
    for info in listed:
        state = info.problem or f"version {info.version}; {info.license}; from {info.package}"
        if info.missing and not info.problem:
            state += f"; not available: pip install {' '.join(repr(name) for name in info.missing)}"
        elif info.needs and not info.problem:
            state += f"; needs {', '.join(info.needs)}"
        print(f"{info.name:12s} {state}")
    return Result(data={"annotators": listed})


def _shards_in(annotated: Path) -> list[str]:
    """Names of the annotated shards in a folder."""
    shards = sorted(path.stem for path in annotated.glob("[!.]*.parquet"))
    if not shards:
        raise FileNotFoundError(f"{annotated}: expected annotated shards; run `fourdnex annotate` first")
    return shards


def _map_shards(
    work: "Callable[[str], ShardReport]", shards: Sequence[str], engine: "Engine", workers: int
) -> "list[ShardReport]":
    """Work on every shard; print one line per shard as soon as it is finished, and its failures on stderr.

    Raises:
        ValueError: a shard could not be processed. The others have been.
    """
    from fourdnex.engine import Failure, map_items

    finished, failed = [], []
    for shard, report in map_items(work, shards, engine=engine, workers=workers):
        if isinstance(report, Failure):
            failed.append(f"{shard}: {report.reason}")
            continue
        for name, reason in report.failed:
            write_line(f"failed: {name}: {reason}")
        counts = f"{report.done} done, {report.cached} cached, {len(report.failed)} failed of {report.requested}"
        print(f"{report.shard}: {counts}, {report.seconds:.0f} s", flush=True)
        finished.append(report)
    if failed:
        raise ValueError(f"{len(failed)} of {len(shards)} shards failed: {'; '.join(failed[:5])}")
    return finished


def _status(reports: "Sequence[ShardReport]") -> int:
    """Exit status: 1 if no shard has a single item."""
    return 0 if any(report.done + report.cached for report in reports) else 1


def _shard_data(reports: "Sequence[ShardReport]") -> list[dict[str, Any]]:
    """Reports of shards, for `Result.data`."""
    return [
        {
            "shard": report.shard,
            "requested": report.requested,
            "done": report.done,
            "cached": report.cached,
            "failed": failures(report.failed),
            "seconds": report.seconds,
        }
        for report in reports
    ]
