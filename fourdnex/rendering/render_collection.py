"""Novel-view videos of a folder of scenes: what is finished stays, what cannot be rendered is set aside.

```
out_dir/{scene}/{path}.mp4        the video, {path}.mask.mkv its invented pixels, {path}.png some of its views
out_dir/{scene}/rendered.json     what it was made of
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
from fourdnex.progress import track
from fourdnex.rendering.contact_sheet import contact_sheet
from fourdnex.rendering.inpainting import OpenCVInpainter
from fourdnex.rendering.named_paths import named_path
from fourdnex.rendering.novel_views import NovelView, novel_views, write_novel_views
from fourdnex.rendering.timing import views_and_rate
from fourdnex.scene import Scene4D

RECORD_FILE = "rendered.json"
VERSION = 2
"""Raised when the same settings give other videos."""
_SHOWN = 4  # views in the image


@dataclass(frozen=True, kw_only=True)
class ViewSettings:
    """How the scenes of a collection are shown."""

    path: str = "swing"
    """One of `PATH_NAMES`."""
    num_views: int = 34
    zoom: float | None = None
    """Size of the video, in sizes of the scene's frames; None: the multiple, or for large frames the part, of them that
    has about 256 rows."""


@dataclass(frozen=True, kw_only=True)
class RenderReport:
    """What one pass over a collection did: requested = done + cached + len(failed)."""

    requested: int
    done: int
    cached: int
    failed: tuple[tuple[str, str], ...]
    """(scene, reason)."""
    invented_share: float
    """Mean share of pixels that no frame of the scene shows, over the videos there are now; NaN without any."""
    seconds: float


def render_collection(
    scenes_dir: str | os.PathLike[str], out_dir: str | os.PathLike[str], settings: ViewSettings | None = None
) -> RenderReport:
    """Render every scene of `scenes_dir` along the same path; videos of scenes that are gone are removed.

    Raises:
        FileNotFoundError: `scenes_dir` is no folder.
    """
    started = time.monotonic()
    settings = settings or ViewSettings()
    source, out = Path(scenes_dir), Path(out_dir)
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: expected a folder of scenes, found none")
    scenes = sorted(path.parent for path in source.glob("[!.]*/scene.json"))
    done, cached, failed, invented = 0, 0, [], []
    for folder in track(scenes, desc="render", unit="scene"):
        made_of = {"scene_sha256": sha256_file(folder / "scene.json"), "version": VERSION, **asdict(settings)}
        record = _record(out / folder.name)
        if record.get("made_of") == made_of:
            cached += 1
        else:
            try:
                record = _render(folder, out / folder.name, settings, made_of)
            except ValueError as error:
                failed.append((folder.name, str(error)))
                continue
            done += 1
        invented.append(record["invented_share"])
    for folder in out.glob("[!.]*/"):
        if not (source / folder.name / "scene.json").is_file() and (folder / RECORD_FILE).is_file():
            shutil.rmtree(folder)
    return RenderReport(
        requested=len(scenes),
        done=done,
        cached=cached,
        failed=tuple(failed),
        invented_share=float(np.mean(invented)) if invented else float("nan"),
        seconds=time.monotonic() - started,
    )


def usual_zoom(rows: int, *, wanted: int = 256) -> float:
    """By how much frames of so many rows are enlarged, a whole number, or shrunk, to have about `wanted` of them."""
    return float(max(1, round(wanted / rows))) if rows <= wanted else wanted / rows


def _render(folder: Path, target: Path, settings: ViewSettings, made_of: dict[str, Any]) -> dict[str, Any]:
    from PIL import Image

    scene = Scene4D.load(folder)
    path = named_path(scene, settings.path, settings.num_views)
    shown = set(np.linspace(0, settings.num_views - 1, _SHOWN).round().astype(int).tolist())
    images = []

    def views() -> Iterator[NovelView]:
        zoom = settings.zoom or usual_zoom(scene.height)
        for index, view in enumerate(novel_views(scene, path, zoom=zoom, inpaint=OpenCVInpainter())):
            if index in shown:
                images.append(view.image)
            yield view

    with atomic_dir(target) as temporary:
        _, fps = views_and_rate(scene, settings.num_views)
        written = write_novel_views(temporary / f"{settings.path}.mp4", views(), fps=fps)
        sheet = contact_sheet(images[: max(1, len(images) // 2 * 2)], 2, gap=0)
        Image.fromarray(sheet).save(temporary / f"{settings.path}.png")
        record = {"made_of": made_of, "borrowed_share": written.borrowed, "invented_share": written.invented}
        write_json(temporary / RECORD_FILE, record)
    return record


def _record(folder: Path) -> dict[str, Any]:
    file = folder / RECORD_FILE
    return read_json(file) if file.is_file() else {}
