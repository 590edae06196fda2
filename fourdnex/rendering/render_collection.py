"""Novel-view videos of a folder of scenes: finished videos are cached, scenes that fail are reported.

```
out_dir/{scene}/{path}.mp4        the video, {path}.mask.mkv its inpainted pixels, {path}.png a sample of its views
out_dir/{scene}/rendered.json     the scene's digest and the settings
```
"""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fourdnex.io.files import atomic_dir, read_json, sha256_file, write_json
from fourdnex.io.renamed import RENDER_KEYS, renamed_keys
from fourdnex.progress import track
from fourdnex.rendering.contact_sheet import contact_sheet
from fourdnex.rendering.inpainting import OpenCVInpainter
from fourdnex.rendering.named_paths import named_path
from fourdnex.rendering.novel_views import NovelView, novel_views, write_novel_views
from fourdnex.rendering.timing import views_and_rate
from fourdnex.scene import Scene4D

RECORD_FILE = "rendered.json"
VERSION = 2
"""Version of the rendering; increased when the same settings give different videos."""
_NUM_SAMPLES = 4  # views in the image


@dataclass(frozen=True, kw_only=True)
class ViewSettings:
    """Settings of the videos of a collection."""

    path: str = "swing"
    """One of `PATH_NAMES`."""
    num_views: int = 34
    zoom: float | None = None
    """Size of the video relative to the scene's frames; None selects `default_zoom`."""


@dataclass(frozen=True, kw_only=True)
class RenderReport:
    """Result of rendering a collection: requested = done + cached + len(failed)."""

    requested: int
    done: int
    cached: int
    failed: tuple[tuple[str, str], ...]
    """Pairs of scene and reason."""
    inpainted_share: float
    """Mean fraction of inpainted pixels over all videos; NaN without videos."""
    seconds: float


def render_collection(
    scenes_dir: str | os.PathLike[str], out_dir: str | os.PathLike[str], settings: ViewSettings | None = None
) -> RenderReport:
    """Render every scene of `scenes_dir` along the same path, and remove videos of scenes that no longer exist.

    Raises:
        FileNotFoundError: `scenes_dir` is not a folder.
    """
    started = time.monotonic()
    settings = settings or ViewSettings()
    source, out = Path(scenes_dir), Path(out_dir)
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: expected a folder of scenes, but it does not exist")
    scenes = sorted(path.parent for path in source.glob("[!.]*/scene.json"))
    done, cached, failed, inpainted = 0, 0, [], []
    for folder in track(scenes, desc="render", unit="scene"):
        identity = {"scene_sha256": sha256_file(folder / "scene.json"), "version": VERSION, **asdict(settings)}
        record = _read_record(out / folder.name)
        if record.get("made_of") == identity:
            cached += 1
        else:
            try:
                record = _render(folder, out / folder.name, settings, identity)
            except ValueError as error:
                failed.append((folder.name, str(error)))
                continue
            done += 1
        inpainted.append(record["inpainted_share"])
    for folder in out.glob("[!.]*/"):
        if not (source / folder.name / "scene.json").is_file() and (folder / RECORD_FILE).is_file():
            shutil.rmtree(folder)
    return RenderReport(
        requested=len(scenes),
        done=done,
        cached=cached,
        failed=tuple(failed),
        inpainted_share=float(np.mean(inpainted)) if inpainted else float("nan"),
        seconds=time.monotonic() - started,
    )


def default_zoom(rows: int, *, target_rows: int = 256) -> float:
    """Zoom to about `target_rows` rows: an integer for small frames, a fraction for large ones."""
    return float(max(1, round(target_rows / rows))) if rows <= target_rows else target_rows / rows


def _render(folder: Path, target: Path, settings: ViewSettings, identity: dict[str, Any]) -> dict[str, Any]:
    """Render one scene; returns the content of `RECORD_FILE`."""
    from PIL import Image

    scene = Scene4D.load(folder)
    path = named_path(scene, settings.path, settings.num_views)
    sampled = set(np.linspace(0, settings.num_views - 1, _NUM_SAMPLES).round().astype(int).tolist())
    images = []

    def views() -> Iterator[NovelView]:
        """All views, with copies of the sampled images."""
        zoom = settings.zoom or default_zoom(scene.height)
        for index, view in enumerate(novel_views(scene, path, zoom=zoom, inpaint=OpenCVInpainter())):
            if index in sampled:
                images.append(view.image)
            yield view

    with atomic_dir(target) as temporary:
        _, fps = views_and_rate(scene, settings.num_views)
        summary = write_novel_views(temporary / f"{settings.path}.mp4", views(), fps=fps)
        sheet = contact_sheet(images[: max(1, len(images) // 2 * 2)], 2, gap=0)
        Image.fromarray(sheet).save(temporary / f"{settings.path}.png")
        record = {
            "made_of": identity,
            "other_frames_share": summary.other_frames_share,
            "inpainted_share": summary.inpainted_share,
        }
        write_json(temporary / RECORD_FILE, record)
    return record


def _read_record(folder: Path) -> dict[str, Any]:
    """The record of a rendered scene; empty if there is none."""
    file = folder / RECORD_FILE
    return renamed_keys(read_json(file), RENDER_KEYS, source=file) if file.is_file() else {}
