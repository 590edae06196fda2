"""Commands that generate scenes, display, render and export them, and trace their provenance."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fourdnex.commands.declaration import Result, command, failures
from fourdnex.generation.camera_captions import Camera, Pace
from fourdnex.progress import track, write_line

if TYPE_CHECKING:
    from fourdnex.model.adapter_files import Adapter

_CHAMPION = "champion"


def _preset_defaults() -> dict[str, None]:
    """Sampling options default to None on the command line, which selects the preset's value."""
    from fourdnex.model.sampling import SamplingSettings

    return {field.name: None for field in fields(SamplingSettings)}


@command(
    "examples/photographs scenes --num-inference-steps 8",
    "fourdnex.model.sampling:SamplingSettings",
    "fourdnex.model.memory_settings:MemorySettings",
    defaults=_preset_defaults,
)
def generate(
    images: Annotated[Path, "folder of images, or one image"],
    output: Annotated[Path, "folder of scenes; for a single image, the folder of its scene"],
    *,
    model: Annotated[str, "preset or folder of the base"] = "tiny",
    adapter: Annotated[str, "adapter folder, 'champion' (from the registry) or 'none' (the base alone)"] = _CHAMPION,
    prompt: Annotated[str | None, "caption of all images without one of their own"] = None,
    captions: Annotated[
        Path | None,
        "caption table, NAME.csv or NAME.jsonl, with the columns image and prompt (else NAME.txt beside NAME.jpg)",
    ] = None,
    captioner: Annotated[Path | None, "folder of an image-to-text model that captions the remaining images"] = None,
    camera: Annotated[Camera | None, "camera motion; replaces the one in the captions"] = None,
    camera_pace: Annotated[Pace, "speed of the camera motion"] = "slowly",
    seed: Annotated[int, "seed of the noise"] = 0,
    first_frame_geometry: Annotated[
        Path | None,
        "folder with the first-frame point map or depth of each image, NAME.npy, for an adapter trained with "
        "--xyz-init pointmap",
    ] = None,
    depth_network: Annotated[
        str | None,
        "network that estimates first-frame geometry instead: 'tiny', a folder or hub id, or an ONNX file",
    ] = None,
    size: Annotated[
        str, "image: each image's aspect ratio; base: cropped to the size of the base; or HEIGHTxWIDTH"
    ] = "image",
    resolution: Annotated[
        str, "resolution of scenes. model: the generated frames; photo: the image; or pixels of the longer side"
    ] = "auto",
    batch_size: Annotated[int, "images of one size per forward pass"] = 4,
    recursive: Annotated[bool, "include images in subfolders"] = False,
    **options: Any,
) -> Result:
    """Generate a dynamic point cloud for each image, with PLY files, a Rerun recording and a preview."""
    from fourdnex.generation.collections import generate_collection, generate_one
    from fourdnex.model.memory_settings import MemorySettings

    adapter_source, provenance = _resolve_adapter(adapter)
    memory = {field.name: options.pop(field.name) for field in fields(MemorySettings) if field.name in options}
    settings: dict[str, Any] = {
        "model": model,
        "adapter": adapter_source,
        "seed": seed,
        "provenance": provenance,
        "prompt": prompt,
        "captions": captions,
        "captioner": captioner,
        "camera": camera,
        "camera_pace": camera_pace,
        "first_frame_geometry": first_frame_geometry,
        "depth_network": depth_network,
        "size": size,
        "resolution": resolution,
        "memory": MemorySettings(**memory),
        **{name: value for name, value in options.items() if value is not None},
    }
    if images.is_file():
        generated = generate_one(images, output, **settings)
        print(output)
        return Result(data={"output": output, "requested": 1, "done": int(generated), "cached": int(not generated)})
    report = generate_collection(images, output, batch_size=batch_size, recursive=recursive, **settings)
    for file, reason in report.failed:
        write_line(f"failed: {file}: {reason}")
    for line in report.unmatched:
        write_line(f"captions: {line}")
    if report.left_out:
        write_line(f"skipped: {report.left_out} images in subfolders; --recursive includes them")
    print(f"{output}: {report.done} done, {report.cached} cached, {len(report.failed)} failed, {report.seconds:.0f} s")
    counts = {"requested": report.requested, "done": report.done, "cached": report.cached, "skipped": report.left_out}
    problems = {"failed": failures(report.failed), "unmatched_captions": report.unmatched}
    return Result(
        data={"output": output, **counts, **problems, "seconds": report.seconds},
        status=0 if report.done + report.cached else 1,
    )


@command("workspace/scenes/photographs/coffee", has_json=False)
def view(
    scene: Annotated[Path, "folder of a scene, or folder of scenes or collections"],
    *,
    html: Annotated[Path | None, "write the viewer and the scene to this HTML file instead of serving it"] = None,
    host: Annotated[str, "address to listen on"] = "127.0.0.1",
    port: Annotated[int, "port; if it is in use, the next free one"] = 8080,
) -> None:
    """Show a scene in the browser, animated points and cameras, or write it as one self-contained HTML file."""
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
    output: Annotated[Path, "video file (.mkv, .mp4 or .gif); NAME.mask.mkv beside it marks the inpainted pixels"],
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
        "camera path; input: the scene's own cameras",
    ] = "swing",
    path_file: Annotated[Path | None, "JSON file of cameras, such as nerfstudio's; replaces --path"] = None,
    num_views: Annotated[int | None, "frames of the video; --path-file sets its own (default: the scene's)"] = None,
    strength: Annotated[float, "factor of the extent of the camera path"] = 1.0,
    freeze: Annotated[float | None, "freeze the scene at this time, from 0 (first frame) to 1 (last frame)"] = None,
    zoom: Annotated[float | None, "output size relative to the scene's (default: at least about 320 rows)"] = None,
    min_confidence: Annotated[float, "drop points of lower confidence, 0 to 1"] = 0.0,
    fill: Annotated[bool, "fill holes in the static background from other frames"] = True,
    inpaint: Annotated[
        str, "inpainting of remaining holes: opencv, none, or folder of a diffusers pipeline"
    ] = "opencv",
    fps: Annotated[float | None, "frames per second (default: the video lasts as long as the scene)"] = None,
    device: Annotated[str | None, "torch device (default: a GPU if there is one)"] = None,
) -> Result:
    """Render a video of a scene from novel views."""
    import torch

    from fourdnex import rendering
    from fourdnex.scene import Scene4D

    rendering.check_animation_name(output)
    torch_device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    inpainter = rendering.inpainter(inpaint, device=torch_device)
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
        inpaint=inpainter,
        device=torch_device,
    )
    shown = track(views, desc="render", unit="view", total=len(cameras.camera_to_world))
    written = rendering.write_novel_views(output, shown, fps=fps or cameras.fps or loaded.fps)
    shares = f"{written.other_frames_share:.1%} of pixels from other frames, {written.inpainted_share:.1%} inpainted"
    print(f"{output}: {written.num_views} views, {shares}; {written.mask}")
    pixels = {"other_frames_share": written.other_frames_share, "inpainted_share": written.inpainted_share}
    return Result(data={"output": output, "mask": written.mask, "views": written.num_views, **pixels})


@command(
    "workspace/scenes/photographs/coffee coffee.usdc --to usd --depth-edge 0.05",
    "fourdnex.export.selection:ExportOptions",
)
def export(
    scene: Annotated[Path, "folder of a scene"],
    output: Annotated[Path, "file (.rrd, .usdc, .npz); for ply, glb, colmap and nerfstudio a folder"],
    *,
    to: Annotated[Literal["ply", "rerun", "usd", "glb", "colmap", "nerfstudio", "npz"], "format"] = "ply",
    **options: Any,
) -> Result:
    """Export a scene to a format of other programs."""
    from fourdnex.export import EXPORTERS, ExportOptions
    from fourdnex.scene import Scene4D

    settings = ExportOptions(**options)
    EXPORTERS[to](Scene4D.load(scene), output, settings)
    print(output)
    return Result(data={"scene": scene, "output": output, "format": to})


@command("workspace/scenes/photographs/coffee")
def lineage(scene: Annotated[Path, "folder of a scene"]) -> Result:
    """Trace the image, model, adapter, runs, data and code that a scene was generated from, and locate each."""
    from fourdnex.lineage import trace

    links = trace(scene)
    for link in links:
        mark = "ok  " if link.found else "-   " if link.name is None else "LOST"
        print(f"{mark} {link.kind:14s} {link.name or '':40s} {link.location}")
    lost = any(link.name is not None and not link.found for link in links)
    return Result(data={"scene": scene, "lineage": links}, status=1 if lost else 0)


def _resolve_adapter(name: str) -> tuple["Path | Adapter | None", dict[str, Any]]:
    """The adapter or its folder, and the identity that its scenes record.

    Args:
        name: adapter folder, 'champion' or 'none'.
    """
    from fourdnex.identity import of_scene

    if name == "none":
        return None, of_scene({})
    if name != _CHAMPION:
        if not Path(name).is_dir():
            raise FileNotFoundError(f"adapter: expected an adapter folder, 'champion' or 'none', got {name}")
        from fourdnex.model.adapter_files import Adapter

        adapter = Adapter.read(name)
        return adapter, of_scene(adapter.info.identity)
    from fourdnex.extras import require
    from fourdnex.tracking import resolve, store, without_password

    instead = "pass --adapter FOLDER, or --adapter none for the base alone"
    require("mlflow", feature="adapter: the champion of an MLflow registry", instead=instead)
    champion = resolve(_CHAMPION)
    if champion is None:
        location = without_password(store())
        raise ValueError(f"adapter: no champion in {location}; run `make demo`, or pass --adapter FOLDER")
    return champion.adapter_dir, of_scene(champion.identity) | {"model_version": champion.version}
