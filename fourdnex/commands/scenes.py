"""Commands that make scenes, show them, write them in other forms, and say where they come from."""

import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fourdnex.commands.declaration import command
from fourdnex.generation.camera_captions import Camera, Pace

if TYPE_CHECKING:
    from fourdnex.model.adapter_files import Adapter

_CHAMPION = "champion"


def _of_the_preset() -> dict[str, None]:
    """Sampling options have no default on the command line: what is not given is the preset's."""
    from fourdnex.model.sampling import SamplingSettings

    return {field.name: None for field in fields(SamplingSettings)}


@command(
    "examples/photographs scenes --num-inference-steps 8",
    "fourdnex.model.sampling:SamplingSettings",
    "fourdnex.model.memory_settings:MemorySettings",
    defaults=_of_the_preset,
)
def generate(
    images: Annotated[Path, "a folder of images, or one image"],
    output: Annotated[Path, "folder of scenes, or for one image its scene's folder"],
    *,
    model: Annotated[str, "preset or folder of the base"] = "tiny",
    adapter: Annotated[str, "adapter folder; 'champion' takes the registry's, 'none' the base alone"] = _CHAMPION,
    prompt: Annotated[str | None, "caption for all images that have none of their own"] = None,
    captions: Annotated[
        Path | None,
        "table of their own, NAME.csv or NAME.jsonl: image, prompt (else NAME.txt beside NAME.jpg)",
    ] = None,
    captioner: Annotated[Path | None, "folder of an image-to-text model that captions the others"] = None,
    camera: Annotated[Camera | None, "way of the camera, in place of what captions say of it"] = None,
    camera_pace: Annotated[Pace, "how fast"] = "slowly",
    seed: Annotated[int, "of the noise"] = 0,
    first_frame_geometry: Annotated[
        Path | None, "folder of first point maps or depth, NAME.npy, for an adapter trained with --xyz-init pointmap"
    ] = None,
    depth_network: Annotated[
        str | None, "finds them instead: 'tiny', a folder or hub id of a depth network, or its NAME.onnx"
    ] = None,
    size: Annotated[str, "image: each image's own ratio; base: cut to the base's size; or HEIGHTxWIDTH"] = "image",
    resolution: Annotated[
        str, "model: the generated frames; photo: the image's own pixels; or pixels of the longer side"
    ] = "auto",
    batch_size: Annotated[int, "images of one size a forward pass"] = 4,
    recursive: Annotated[bool, "take the images in folders within the folder too"] = False,
    **options: Any,
) -> int:
    """Make dynamic point clouds of images: a scene, PLY files, a Rerun recording and a preview for each."""
    from fourdnex.generation.collections import generate_collection, generate_one
    from fourdnex.model.memory_settings import MemorySettings

    folder, known = _adapter(adapter)
    settings: dict[str, Any] = {"model": model, "adapter": folder, "seed": seed, "provenance": known}
    settings |= {"prompt": prompt, "captions": captions, "captioner": captioner}
    settings |= {"camera": camera, "camera_pace": camera_pace}
    settings |= {
        "first_frame_geometry": first_frame_geometry,
        "depth_network": depth_network,
        "size": size,
        "resolution": resolution,
    }
    memory = {field.name: options.pop(field.name) for field in fields(MemorySettings) if field.name in options}
    settings |= {"memory": MemorySettings(**memory)}
    settings |= {name: value for name, value in options.items() if value is not None}
    if images.is_file():
        generate_one(images, output, **settings)
        print(output)
        return 0
    report = generate_collection(images, output, batch_size=batch_size, recursive=recursive, **settings)
    for file, reason in report.failed:
        print(f"set aside: {file}: {reason}", file=sys.stderr)
    for line in report.unmatched:
        print(f"captions: {line}", file=sys.stderr)
    if report.left_out:
        print(f"left out: {report.left_out} images in folders within it; --recursive takes them", file=sys.stderr)
    counts = f"{report.done} made, {report.cached} already there, {len(report.failed)} set aside"
    print(f"{output}: {counts}, {report.seconds:.0f} s")
    return 0 if report.done + report.cached else 1


@command("workspace/scenes/photographs/coffee")
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


@command("workspace/scenes/photographs/coffee coffee.mp4 --path orbit")
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
    path_file: Annotated[Path | None, "JSON with cameras, such as nerfstudio's; takes the place of --path"] = None,
    num_views: Annotated[int | None, "frames of the video, unless a file gives them (default: the scene's)"] = None,
    strength: Annotated[float, "how far the camera goes, times the usual"] = 1.0,
    freeze: Annotated[float | None, "stop the scene's time there: 0 its first frame, 1 its last"] = None,
    zoom: Annotated[float | None, "size relative to the scene's (default: at least about 320 rows)"] = None,
    min_confidence: Annotated[float, "leave out points below it, 0 to 1"] = 0.0,
    fill: Annotated[bool, "fill holes from other frames, where the scene stands still"] = True,
    inpaint: Annotated[str, "what invents the rest: opencv, none, or a folder with a diffusers pipeline"] = "opencv",
    fps: Annotated[float | None, "frames a second (default: the video lasts as long as the scene)"] = None,
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
        num_views, fps = rendering.views_and_rate(loaded, num_views, fps)
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
    written = rendering.write_novel_views(output, views, fps=fps or cameras.fps or loaded.fps)
    shares = f"{written.borrowed:.1%} of the pixels from other frames, {written.invented:.1%} from none"
    print(f"{output}: {written.num_views} views, {shares}; {written.mask}")


@command(
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


@command("workspace/scenes/photographs/coffee")
def lineage(scene: Annotated[Path, "folder of a scene"]) -> int:
    """Say what a scene was made of and by, and where each of it is: image, model, adapter, runs, data, code."""
    from fourdnex.lineage import trace

    links = trace(scene)
    for link in links:
        mark = "ok  " if link.found else "-   " if link.name is None else "LOST"
        print(f"{mark} {link.kind:14s} {link.name or '':40s} {link.location}")
    return 1 if any(link.name is not None and not link.found for link in links) else 0


def _adapter(asked: str) -> tuple["Path | Adapter | None", dict[str, Any]]:
    """The adapter or its folder, and the identity that its scenes get."""
    from fourdnex.identity import of_scene

    if asked == "none":
        return None, of_scene({})
    if asked != _CHAMPION:
        if not Path(asked).is_dir():
            raise FileNotFoundError(f"adapter: {asked}: expected an adapter folder, 'champion' or 'none'")
        from fourdnex.model.adapter_files import Adapter

        adapter = Adapter.read(asked)
        return adapter, of_scene(adapter.info.identity)
    from fourdnex.extras import require
    from fourdnex.tracking import resolve, store, without_password

    instead = "pass --adapter FOLDER, or --adapter none for the base alone"
    require("mlflow", feature="adapter: the champion of an MLflow registry", instead=instead)
    champion = resolve(_CHAMPION)
    if champion is None:
        place = without_password(store())
        raise ValueError(f"adapter: there is no champion in {place}; run `make demo`, or give --adapter FOLDER")
    return champion.adapter_dir, of_scene(champion.identity) | {"model_version": champion.version}
