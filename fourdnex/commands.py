"""The commands of `fourdnex`: a command is a function; its parameters, or the fields of the configuration class that it
names, are its options. What a command does is imported when it runs."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fourdnex.workspace import Workspace

if TYPE_CHECKING:
    from fourdnex.datasets.reports import ShardReport

_CHAMPION = "champion"


@dataclass(frozen=True)
class Command:
    """A function and how it is called."""

    run: Callable[..., int | None]
    """Returns the exit status; None is 0."""
    example: str
    configs: tuple[str, ...] = ()
    """"module:class" whose fields are options too."""
    defaults: Callable[[], dict[str, Any]] = dict
    """Defaults of those fields that only the command line has."""


COMMANDS: dict[str, Command] = {}


def _command(example: str, *configs: str, defaults: Callable[[], dict[str, Any]] = dict) -> Callable[..., Any]:
    def keep(function: Callable[..., int | None]) -> Callable[..., int | None]:
        name = function.__name__.rstrip("_").replace("_", "-")
        COMMANDS[name] = Command(function, f"fourdnex {name} {example}".rstrip(), configs, defaults)
        return function

    return keep


def _workspace(*names: str) -> Callable[[], dict[str, Any]]:
    """Defaults that are places in the workspace: field -> the property of `Workspace` of that name."""
    return lambda: {name: getattr(Workspace.default(), name) for name in names}


@_command("my-data --num-worlds 128")
def worlds(
    output: Annotated[Path, "folder to make; must not exist or be empty"],
    *,
    num_worlds: Annotated[int, "number of worlds"] = 256,
    first_seed: Annotated[int, "seed of the first one; held-out seeds are stepped over"] = 100_000,
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
        downloads=downloads,
        progress=_progress,
    )
    print(f"{output}: {count} clips")


@_command("--data data --shards worlds-0000")
def annotate(
    *,
    data: Annotated[Path, "data set with manifest.parquet"] = Path("data"),
    output: Annotated[Path | None, "folder of annotated shards (default: in the workspace)"] = None,
    shards: Annotated[tuple[str, ...], "shards to annotate (default: all)"] = (),
) -> int:
    """Find depth, cameras, confidence and moving parts of every clip of a data set."""
    from fourdnex.annotation import annotate_shard
    from fourdnex.datasets.manifest import read_manifest, shards_of

    out = output or Workspace.default().annotated
    names = shards or tuple(shards_of(read_manifest(data)))
    return _report(annotate_shard(data, shard, out, progress=_progress) for shard in names)


@_command("", "fourdnex.curation:Rules")
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
    rejected = report.table[~report.table["kept"]]
    for reason, count in rejected["reasons"].explode().value_counts().items():
        print(f"{count:6d}  {reason}")
    print(f"{output}: {report.kept} kept, {report.rejected} rejected")
    return 0 if report.kept else 1


@_command("--model tiny")
def encode(
    *,
    annotated: Annotated[Path | None, "folder of annotated shards (default: in the workspace)"] = None,
    curated: Annotated[Path | None, "table of kept clips (default: in the workspace)"] = None,
    output: Annotated[Path | None, "folder of latent shards (default: in the workspace)"] = None,
    model: Annotated[str, "preset or folder of the base"] = "tiny",
    normalisation: Annotated[Literal["clip", "frame"], "centre point maps once a clip or frame by frame"] = "clip",
    xyz_start: Annotated[Literal["plane", "given"], "given: encode the clips' first point maps too"] = "plane",
) -> int:
    """Encode the kept clips into latents, and estimate the statistics of the XYZ latents."""
    from fourdnex.training.encoding import encode_shard, estimate_statistics

    places = Workspace.default()
    annotated, curated, output = annotated or places.annotated, curated or places.curated, output or places.latents
    shards = _shards_in(annotated)
    way: dict[str, Any] = {"model": model, "normalisation": normalisation, "xyz_start": xyz_start}
    status = _report(encode_shard(annotated, shard, curated, output, **way) for shard in shards)
    summary = estimate_statistics(output, shards)
    print(f"{output}: centre {summary.center}, scale {summary.scale:.4g}")
    return status


@_command(
    "--output workspace/adapters/mine --steps 700",
    "fourdnex.training.trainer:LoraTraining",
    defaults=_workspace("latents"),
)
def train(**settings: Any) -> int:
    """Fine-tune a LoRA adapter of the 6D transformer on latents; goes on from its checkpoint when interrupted."""
    from fourdnex.training.trainer import LoraTraining, TrainingInterrupted, train

    try:
        summary = train(LoraTraining(**settings))
    except TrainingInterrupted as ended:
        print(ended, file=sys.stderr)
        return 130
    if os.environ.get("RANK", "0") == "0":  # torchrun's name for a process: all of them say the same
        print(json.dumps(asdict(summary), indent=2))
    return 0


@_command(
    "--adapter workspace/adapters/mine --out workspace/evaluation/mine",
    "fourdnex.evaluation.benchmark:Evaluation",
    defaults=_workspace("annotated", "curated"),
)
def evaluate(**settings: Any) -> None:
    """Measure an adapter and three baselines on held-out worlds: depth, pose, points and RGB."""
    from fourdnex.evaluation.benchmark import METRICS, Evaluation, evaluate
    from fourdnex.identity import collect

    config = Evaluation(**settings)
    report = evaluate(config, identity=collect())
    print(f"{'':20s}" + "".join(f"{metric:>18s}" for metric in METRICS))
    for name, row in {"adapter": report["adapter"], **report["baselines"]}.items():
        print(f"{name:20s}" + "".join(f"{row[metric]:18.4f}" for metric in METRICS))
    print(f"{config.out / 'report.json'}: gain " + ", ".join(f"{k} {v:.0%}" for k, v in report["gain"].items()))


@_command(
    "recipe --out workspace/ablations/recipe --seeds 0 1 2 --steps 480 --worlds 256",
    "fourdnex.ablation.run:Ablation",
)
def ablate(
    spec: Annotated[
        str,
        "recipe, improvements, fusion, positions, normalisation, decode, statistics, start, mask, weight, timesteps, "
        "or a JSON file",
    ],
    **settings: Any,
) -> int:
    """Compare variants of the settings on held-out worlds, over seeds; goes on where it was interrupted."""
    from fourdnex.ablation.run import Ablation, ablate
    from fourdnex.ablation.spec import read_spec
    from fourdnex.ablation.table import markdown
    from fourdnex.training.trainer import TrainingInterrupted

    try:
        result = ablate(read_spec(spec), Ablation(**settings), progress=_progress)
    except TrainingInterrupted as ended:
        print(ended, file=sys.stderr)
        return 130
    for cell, reason in result.set_aside:
        print(f"set aside: {cell}: {reason}", file=sys.stderr)
    print(markdown(result.summary))
    return 0 if len(result.cells) else 1


def _of_the_preset() -> dict[str, None]:
    """Sampling options have no default on the command line: what is not given is the preset's."""
    from fourdnex.model.sampling import SamplingSettings

    return {field.name: None for field in fields(SamplingSettings)}


@_command(
    "examples/photographs scenes --num-inference-steps 8",
    "fourdnex.model.sampling:SamplingSettings",
    "fourdnex.model.memory:MemorySettings",
    defaults=_of_the_preset,
)
def generate(
    pictures: Annotated[Path, "a folder of pictures, or one picture"],
    output: Annotated[Path, "folder of scenes, or for one picture its scene's folder"],
    *,
    model: Annotated[str, "preset or folder of the base"] = "tiny",
    adapter: Annotated[str, "adapter folder; 'champion' takes the registry's, 'none' the base alone"] = _CHAMPION,
    prompt: Annotated[str | None, "caption for all pictures"] = None,
    seed: Annotated[int, "of the noise"] = 0,
    starts: Annotated[
        Path | None, "folder of first point maps or depth, NAME.npy, for an adapter trained with --xyz-start given"
    ] = None,
    batch_size: Annotated[int, "pictures a forward pass"] = 4,
    **options: Any,
) -> int:
    """Make dynamic point clouds of pictures: a scene, PLY files, a Rerun recording and a preview for each."""
    from fourdnex.generation.collections import generate_collection, generate_one
    from fourdnex.model.memory import MemorySettings

    folder, known = _adapter(adapter)
    settings: dict[str, Any] = {"model": model, "adapter": folder, "prompt": prompt, "seed": seed, "provenance": known}
    settings["starts"] = starts
    memory = {field.name: options.pop(field.name) for field in fields(MemorySettings) if field.name in options}
    settings |= {"memory": MemorySettings(**memory)}
    settings |= {name: value for name, value in options.items() if value is not None}
    if pictures.is_file():
        generate_one(pictures, output, **settings)
        print(output)
        return 0
    report = generate_collection(pictures, output, batch_size=batch_size, **settings)
    for file, reason in report.set_aside:
        print(f"set aside: {file}: {reason}", file=sys.stderr)
    counts = f"{report.done} made, {report.skipped} already there, {len(report.set_aside)} set aside"
    print(f"{output}: {counts}, {report.seconds:.0f} s")
    return 0 if report.done + report.skipped else 1


@_command("workspace/scenes/photographs/coffee")
def view(
    scene: Annotated[Path, "folder of a scene, or one that holds scenes or collections of them"],
    *,
    html: Annotated[Path | None, "write the viewer with the scene as this one file instead of serving it"] = None,
    host: Annotated[str, "address to listen on"] = "127.0.0.1",
    port: Annotated[int, "port; the next free one is taken"] = 8080,
) -> None:
    """Show a scene in the browser, or write it as one HTML file to send: the points in time, and the cameras."""
    from fourdnex.scene import Scene4D
    from fourdnex.viewer import view, write_html

    if html is None:
        view(scene, host=host, port=port)
        return
    size = write_html(Scene4D.load(scene), html, title=scene.resolve().name)
    print(f"{html}: {size / 1e6:.1f} MB")


@_command("workspace/scenes/photographs/coffee coffee.mp4 --path orbit")
def render(
    scene: Annotated[Path, "folder of a scene"],
    output: Annotated[Path, "video file (.mkv, .mp4 or .gif); NAME.mask.mkv beside it marks the invented pixels"],
    *,
    path: Annotated[
        Literal[
            "swing",
            "orbit",
            "turntable",
            "dolly",
            "truck",
            "spiral",
            "dolly-zoom",
            "static",
            "follow",
            "input",
        ],
        "way of the camera",
    ] = "swing",
    path_file: Annotated[Path | None, "JSON with cameras, in nerfstudio's terms; takes the place of --path"] = None,
    num_views: Annotated[int, "frames of the video, unless a file tells them"] = 48,
    strength: Annotated[float, "how far the camera goes, times the usual"] = 1.0,
    freeze: Annotated[float | None, "stop the scene's time there: 0 its first frame, 1 its last"] = None,
    zoom: Annotated[float | None, "size relative to the scene's (default: at least about 320 rows)"] = None,
    min_confidence: Annotated[float, "leave out points below it, 0 to 1"] = 0.0,
    fill: Annotated[bool, "fill holes from other frames, where the scene stands still"] = True,
    inpaint: Annotated[str, "what invents the rest: opencv, none, or a folder with a diffusers pipeline"] = "opencv",
    fps: Annotated[float, "frames a second"] = 24.0,
    device: Annotated[str | None, "of torch (default: a GPU where there is one)"] = None,
) -> None:
    """Render a scene from new views to a video."""
    import torch

    from fourdnex import rendering
    from fourdnex.scene import Scene4D

    rendering.check_animation_name(output)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    invent = rendering.inpainter(inpaint, device=where)
    loaded = Scene4D.load(scene)
    if path_file is None:
        cameras = rendering.named_path(loaded, path, num_views, strength=strength)
    else:
        size = {"height": loaded.height, "width": loaded.width}
        cameras = rendering.load_path(path_file, intrinsics=loaded.intrinsics, **size)
    if freeze is not None:
        cameras = cameras.at_time(freeze)
    views = rendering.novel_views(
        loaded,
        cameras,
        zoom=max(1, round(320 / loaded.height)) if zoom is None else zoom,
        min_confidence=min_confidence,
        fill=fill,
        inpaint=invent,
        device=where,
    )
    written = rendering.write_novel_views(output, views, fps=fps)
    shares = f"{written.borrowed:.1%} of the pixels from other frames, {written.invented:.1%} from none"
    print(f"{output}: {written.num_views} views, {shares}; {written.mask}")


@_command(
    "workspace/scenes/photographs/coffee coffee.usdc --to usd --depth-edge 0.05",
    "fourdnex.export.selection:ExportOptions",
)
def export(
    scene: Annotated[Path, "folder of a scene"],
    output: Annotated[Path, "file (.rrd, .usdc, .npz), or for ply, glb, colmap and nerfstudio a folder"],
    *,
    to: Annotated[Literal["ply", "rerun", "usd", "glb", "colmap", "nerfstudio", "npz"], "format"] = "ply",
    **options: Any,
) -> None:
    """Write a scene in a format that other programs open."""
    from fourdnex.export import EXPORTERS, ExportOptions
    from fourdnex.scene import Scene4D

    asked = ExportOptions(**options)
    EXPORTERS[to](Scene4D.load(scene), output, asked)
    print(output)


@_command("--output pretrained/fourdnex-tiny --work workspace/pretrain")
def pretrain(
    *,
    output: Annotated[Path, "folder of the base"],
    work: Annotated[Path, "folder for what is between"],
    frame_minutes: Annotated[float, "of the VAE on single frames"] = 9.0,
    clip_minutes: Annotated[float, "of the VAE on clips"] = 14.0,
    transformer_minutes: Annotated[float, "of the transformer and its encoders"] = 90.0,
    start: Annotated[Path | None, "a base to train further; its VAE stays as it is"] = None,
    seed: Annotated[int, "of weights and batches"] = 0,
) -> None:
    """Train the tiny base on procedural worlds, from nothing or from where another one stands."""
    from fourdnex.training.pretrain import pretrain_base

    minutes = {"frame_minutes": frame_minutes, "clip_minutes": clip_minutes}
    print(pretrain_base(output, work, **minutes, transformer_minutes=transformer_minutes, start=start, seed=seed))


@_command("workspace/scenes/photographs/coffee")
def lineage(scene: Annotated[Path, "folder of a scene"]) -> int:
    """Say what a scene was made of and by, and where each of it is: picture, model, adapter, runs, data, code."""
    from fourdnex.lineage import trace

    links = trace(scene)
    for link in links:
        mark = "ok  " if link.found else "-   " if link.name is None else "LOST"
        print(f"{mark} {link.what:14s} {link.name or '':40s} {link.place}")
    return 1 if any(link.name is not None and not link.found for link in links) else 0


@_command("4dnex-lora adapters/4dnex")
def import_adapter(
    public: Annotated[Path, "folder with pytorch_lora_weights.safetensors and learnable_domain_embeddings.pt"],
    out: Annotated[Path, "adapter folder to make"],
    *,
    model: Annotated[str, "preset or folder of the base it was trained on; weights are not needed"] = (
        "wan2.1-i2v-14b-480p"
    ),
) -> None:
    """Turn the public 4DNeX weights into an adapter folder, every key and shape checked, nothing in them executed."""
    from fourdnex.model.upstream import import_adapter

    done = import_adapter(public, out, model=model)
    info = done.info
    print(f"{out}: adapter {done.digest} for {info.base_name}")
    scale = info.alpha / info.rank
    print(f"  LoRA of rank {info.rank} on {done.num_layers} layers at scale {scale:g}, and domain embeddings")
    print(f"  {done.num_parameters:,} parameters, every key and shape as the base asks for")
    mean, std = info.statistics.mean[0], info.statistics.std[0]
    print(f"  XYZ latents: mean {mean:g}, deviation {std:g}; point maps normalised per {info.normalisation}")


@_command("--model wan2.1-i2v-14b-480p --gpus 8x80GB", "fourdnex.planning.plan:PlanSettings")
def plan(**settings: Any) -> None:
    """Say whether a base fits into GPUs, in training and generation, and with what options; needs neither of both."""
    from fourdnex.planning import PlanSettings, make_plan, plan_report

    print(plan_report(make_plan(PlanSettings(**settings))))


@_command("")
def doctor() -> int:
    """Check this installation: versions, devices, the base model, the data, the disk."""
    from fourdnex.doctor import examine

    findings = examine()
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'BAD '} {finding.what:12s} {finding.found}")
    return 0 if all(finding.ok for finding in findings) else 1


def _adapter(asked: str) -> tuple[Path | None, dict[str, Any]]:
    """The adapter's folder, and the identity that its scenes get."""
    from fourdnex.identity import collect

    if asked == "none":
        return None, collect()
    if asked != _CHAMPION:
        if not Path(asked).is_dir():
            raise FileNotFoundError(f"adapter: {asked}: expected an adapter folder, 'champion' or 'none'")
        return Path(asked), collect()
    from fourdnex.tracking import resolve

    champion = resolve(_CHAMPION)
    if champion is None:
        raise ValueError("adapter: there is no champion in the registry yet; run `make demo`, or give --adapter FOLDER")
    return champion.adapter_dir, champion.identity | {
        key: value for key, value in collect(model_version=champion.version).items() if value is not None
    }


def _shards_in(annotated: Path) -> list[str]:
    shards = sorted(path.stem for path in annotated.glob("[!.]*.parquet"))
    if not shards:
        raise FileNotFoundError(f"{annotated}: expected annotated shards; run `fourdnex annotate` first")
    return shards


def _report(reports: "Iterator[ShardReport]") -> int:
    """Print one line a shard; 1 when no shard has anything to show."""
    some = False
    for report in reports:
        for name, reason in report.set_aside:
            print(f"set aside: {name}: {reason}", file=sys.stderr)
        print(
            f"{report.shard}: {report.done} done, {report.skipped} already there, "
            f"{len(report.set_aside)} set aside of {report.asked}, {report.seconds:.0f} s"
        )
        some = some or report.done + report.skipped > 0
    return 0 if some else 1


def _progress(line: str) -> None:
    print(line, file=sys.stderr)
