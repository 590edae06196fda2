"""Commands that make a data set and what training learns from."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fourdnex.commands.declaration import command, progress
from fourdnex.workspace import Workspace

if TYPE_CHECKING:
    from fourdnex.datasets.reports import ShardReport


@command("my-data --num-worlds 128")
def worlds(
    output: Annotated[Path, "folder to make; must not exist or be empty"],
    *,
    num_worlds: Annotated[int, "number of worlds"] = 256,
    first_seed: Annotated[int, "seed of the first one; held-out seeds are stepped over"] = 100_000,
    families: Annotated[
        tuple[str, ...], "primitives, rooms, clutter, corridor, terrain, street, jumble, or some of them"
    ] = ("primitives",),
    primitives: Annotated[float | None, "share of primitives among several families (default: an equal one)"] = None,
    ratios: Annotated[
        tuple[str, ...], "ratios of width to height, such as 3:2 2:3 1:1, at the area of height and width"
    ] = (),
    num_frames: Annotated[int, "frames of a world; the large bases ask for 49"] = 17,
    height: Annotated[int, "pixels"] = 64,
    width: Annotated[int, "pixels"] = 96,
    with_real: Annotated[bool, "add the real clips, downloaded from Debian's archive"] = False,
    downloads: Annotated[Path | None, "folder that keeps the downloads"] = None,
) -> None:
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
        progress=progress,
    )
    print(f"{output}: {count} clips")


@command("my-videos my-data --fps 10")
def videos(
    folder: Annotated[Path, "videos, in folders within it too; the text in NAME.txt is the caption of NAME.mp4"],
    output: Annotated[Path, "data set to make; must not exist or be empty"],
    *,
    num_frames: Annotated[int, "frames of a clip, 4k+1; the large bases ask for 49"] = 17,
    height: Annotated[int, "pixels; what a video has more at its sides is cut off"] = 240,
    width: Annotated[int, "pixels"] = 360,
    keep_ratio: Annotated[bool, "keep each video's own ratio, at the area of height x width; nothing is cut"] = False,
    fps: Annotated[float | None, "frames a second, taken by their times (default: all frames of each video)"] = None,
    clips_per_video: Annotated[int | None, "at most (default: all that fit, back to back)"] = None,
    license: Annotated[str | None, "written to every clip"] = None,
    shard_size: Annotated[int, "clips a shard"] = 64,
) -> None:
    """Cut the videos of a folder into clips, as a data set that can be annotated."""
    from fourdnex.datasets.videos import build_from_videos

    report = build_from_videos(
        folder,
        output,
        num_frames=num_frames,
        height=height,
        width=width,
        keep_ratio=keep_ratio,
        fps=fps,
        clips_per_video=clips_per_video,
        license=license or "",
        shard_size=shard_size,
        progress=progress,
    )
    print(f"{output}: {report.clips} clips of {report.videos} videos, {len(report.failed)} set aside")


@command("--data data --shards worlds-0000")
def annotate(
    *,
    data: Annotated[Path, "data set with manifest.parquet"] = Path("data"),
    output: Annotated[Path | None, "folder of annotated shards (default: in the workspace)"] = None,
    shards: Annotated[tuple[str, ...], "shards to annotate (default: all)"] = (),
    given: Annotated[Path | None, "4DNeX-10M, whose own geometry its clips keep"] = None,
) -> int:
    """Find depth, cameras, confidence and moving parts of every clip of a data set."""
    from fourdnex.annotation import ImportedAnnotator, annotate_shard
    from fourdnex.datasets.manifest import read_manifest, shards_of

    out = output or Workspace.default().annotated
    names = shards or tuple(shards_of(read_manifest(data)))
    annotator = None if given is None else ImportedAnnotator(given)
    return _report(annotate_shard(data, shard, out, annotator=annotator, progress=progress) for shard in names)


@command("", "fourdnex.curation:Rules")
def curate(
    *,
    annotated: Annotated[Path | None, "folder of annotated shards (default: in the workspace)"] = None,
    scores: Annotated[Path | None, "folder of score tables (default: in the workspace)"] = None,
    output: Annotated[Path | None, "table of kept and rejected clips (default: in the workspace)"] = None,
    **rules: Any,
) -> int:
    """Score every annotated clip, and keep or reject it by rules, with the reason."""
    from fourdnex.curation import Rules, curate, score_shard

    places = Workspace.default()
    annotated, scores, output = annotated or places.annotated, scores or places.scores, output or places.curated
    _report(score_shard(annotated, shard, scores) for shard in _shards_in(annotated))
    report = curate(scores, annotated, output, Rules(**rules))
    rejected = report.table[~report.table["accepted"]]
    for reason, count in rejected["reasons"].explode().value_counts().items():
        print(f"{count:6d}  {reason}")
    print(f"{output}: {report.accepted} kept, {report.rejected} rejected")
    return 0 if report.accepted else 1


@command("--model tiny")
def encode(
    *,
    annotated: Annotated[Path | None, "folder of annotated shards (default: in the workspace)"] = None,
    curated: Annotated[Path | None, "table of kept clips (default: in the workspace)"] = None,
    output: Annotated[Path | None, "folder of latent shards (default: in the workspace)"] = None,
    model: Annotated[str, "preset or folder of the base"] = "tiny",
    normalization: Annotated[Literal["clip", "frame"], "center point maps once a clip or frame by frame"] = "clip",
    xyz_init: Annotated[Literal["plane", "pointmap"], "pointmap: encode the clips' first point maps too"] = "plane",
    condition: Annotated[
        Literal["apart", "joint"], "joint: first RGB and XYZ frame side by side in one pass, as the reference does"
    ] = "apart",
    precision: Annotated[
        Literal["auto", "fp32", "bf16"], "of the VAE; auto: bf16 on a CPU that computes faster in it (AMX, AVX512-BF16)"
    ] = "auto",
) -> int:
    """Encode the kept clips into latents, and estimate the statistics of the XYZ latents."""
    from fourdnex.latents.encoding import encode_shard, estimate_statistics

    places = Workspace.default()
    annotated, curated, output = annotated or places.annotated, curated or places.curated, output or places.latents
    shards = _shards_in(annotated)
    way: dict[str, Any] = {"model": model, "normalization": normalization}
    way |= {"xyz_init": xyz_init, "condition": condition, "precision": precision}
    status = _report(encode_shard(annotated, shard, curated, output, **way) for shard in shards)
    summary = estimate_statistics(output, shards)
    print(f"{output}: center {summary.center}, scale {summary.scale:.4g}")
    return status


def _shards_in(annotated: Path) -> list[str]:
    shards = sorted(path.stem for path in annotated.glob("[!.]*.parquet"))
    if not shards:
        raise FileNotFoundError(f"{annotated}: expected annotated shards; run `fourdnex annotate` first")
    return shards


def _report(reports: "Iterator[ShardReport]") -> int:
    """Print one line a shard; 1 when no shard has anything to show."""
    some = False
    for report in reports:
        for name, reason in report.failed:
            print(f"set aside: {name}: {reason}", file=sys.stderr)
        print(
            f"{report.shard}: {report.done} done, {report.cached} already there, "
            f"{len(report.failed)} set aside of {report.requested}, {report.seconds:.0f} s"
        )
        some = some or report.done + report.cached > 0
    return 0 if some else 1
