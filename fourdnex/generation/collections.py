"""Collections: a folder of images becomes a folder of scenes.

Finished scenes are kept, failures are recorded with the reason, and only what is missing is generated.

```
out_dir/collection.json       name and folder of the collection, and the scene of each image
out_dir/failed.json           [{file, reason, ...}]
out_dir/{scene}/              per image: the Scene4D, ply/frame_0000.ply ..., scene.rrd, preview.png
```
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourdnex.generation.caption_sources import DEFAULT_PROMPT, CaptionSources
from fourdnex.generation.collection_pass import CollectionPass, MakeBatch
from fourdnex.generation.collection_records import (
    CollectionImage,
    check_same_collection,
    plan_images,
    read_failed,
    read_listed,
    shown,
    write_failed,
    write_listed,
)
from fourdnex.generation.first_frame_geometry import FirstFrameGeometry, resolve_geometry
from fourdnex.generation.image_listing import count_below, list_images
from fourdnex.generation.scene_folders import is_finished, remove_gone, remove_outdated, write_scene_folder
from fourdnex.generation.scene_locks import SceneLocks
from fourdnex.io.files import sha256_file
from fourdnex.lifting import parse_resolution, resolution_identity
from fourdnex.model.adapter_files import Adapter
from fourdnex.model.base import Base
from fourdnex.model.recipe import Recipe
from fourdnex.model.sizes import parse_size, size_identity
from fourdnex.scene import Scene4D, check_replaceable

if TYPE_CHECKING:
    from fourdnex.generation.scene_maker import Failure
    from fourdnex.model.memory_settings import MemorySettings


@dataclass(frozen=True, kw_only=True)
class CollectionReport:
    """Result of one pass over a collection: requested = done + cached + len(failed)."""

    name: str
    requested: int
    """Files in the collection."""
    done: int
    """Scenes generated in this pass."""
    cached: int
    """Scenes that were there, of the same image by the same model with the same settings."""
    failed: tuple[tuple[str, str], ...]
    """(file, reason), including failures that were recorded before under the same conditions."""
    left_out: int
    """Images in subfolders, which only `recursive` includes."""
    unmatched: tuple[str, ...]
    """Lines of the caption table that name no image of the collection."""
    seconds: float


def generate_collection(
    images_dir: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    model: str = "tiny",
    adapter: str | os.PathLike[str] | Adapter | None = None,
    prompt: str | None = None,
    captions: str | os.PathLike[str] | None = None,
    captioner: str | os.PathLike[str] | None = None,
    camera: str | None = None,
    camera_pace: str = "slowly",
    seed: int = 0,
    first_frame_geometry: str | os.PathLike[str] | None = None,
    depth_network: str | os.PathLike[str] | None = None,
    size: str | tuple[int, int] = "image",
    resolution: str | int = "auto",
    batch_size: int = 4,
    recursive: bool = False,
    provenance: dict[str, Any] | None = None,
    memory: MemorySettings | None = None,
    **sampling: Any,
) -> CollectionReport:
    """Generate a scene of every image in `images_dir`; each is written atomically.

    A scene is kept if it was generated from the same image and geometry with the same base, adapter, prompt, seed,
    sampling and inexact memory settings. An image that failed under the same conditions is not tried again. The scene
    of an image that is no longer there, or that has changed and now fails, is removed; scenes of other collections in
    `out_dir` stay. The model is loaded once, and only if a scene is missing. Several processes of one machine may work
    on the same collection: they share the images, and each returns when all scenes are there.

    Args:
        images_dir: the collection; hidden files and files named README or LICENSE are ignored.
        out_dir: created if it is missing.
        model: preset name or folder of the base.
        adapter: adapter folder; None generates with the base alone.
        prompt: caption of all images without one of their own; None takes a generic one.
        captions: table of captions; None takes `captions.csv` or `captions.jsonl` in `images_dir`, if there is one.
            `NAME.txt` beside `NAME.jpg` is a caption too (see `fourdnex.generation.captions`).
        captioner: folder of an image-to-text model for images without a caption
            (see `fourdnex.generation.captioner`).
        camera, camera_pace, seed, size, resolution: see `fourdnex.generation.generate`.
        first_frame_geometry: folder with a point map or depth of each image, `{image stem}.npy`, in the same subfolders
            as the images, for an adapter trained with `xyz_init="pointmap"`.
        depth_network: estimates first-frame geometry instead (see `fourdnex.annotation.DepthNetwork`). If neither is
            passed, the network that comes with the base is used, if there is one.
        batch_size: images per forward pass.
        recursive: include images in subfolders, following links to folders.
        provenance: added to the provenance of every scene.
        memory: what to do when the model does not fit into the GPU.
        **sampling: fields of `SamplingSettings` that override the preset's.

    Raises:
        FileNotFoundError: `images_dir` is not a folder, or the table or captioner does not exist.
        ValueError: there are no images, the table of captions cannot be read, or a scene would overwrite that of an
            image of another collection.
        OSError: `out_dir` cannot be written to, or the disk is full; finished scenes stay.
    """
    started = time.monotonic()
    source, out = Path(images_dir).resolve(), Path(out_dir).resolve()
    if source == out:
        raise ValueError(f"out_dir: expected another folder than that of the images, got {out_dir}")
    files = list_images(source, recursive=recursive, without=out)
    left_out = 0 if recursive else count_below(source, without=out)
    if not files:
        below = f"; {left_out} in subfolders, which --recursive includes" if left_out else ""
        raise ValueError(f"{images_dir}: no images in this folder{below}")
    base, trained = Base.resolve(model), None if adapter is None else Adapter.read(_path(adapter))
    geometry = resolve_geometry(base, trained.info if trained else Recipe(), first_frame_geometry, depth_network)
    settings = _settings(base, trained, geometry, seed, size, resolution, memory, sampling)
    sources = CaptionSources(
        prompt=prompt, captions=captions, captioner=captioner, camera=camera, camera_pace=camera_pace
    )
    found = sources.find(source, files)
    caption = sources.provenance(found, DEFAULT_PROMPT)
    failed: dict[str, dict[str, Any]] = {}
    images = list(plan_images(source, files, settings, caption, geometry.digest if geometry else _nothing, failed))

    def load() -> MakeBatch:
        """Load the model."""
        from fourdnex.generation.scene_maker import Failure, SceneMaker

        maker = SceneMaker(
            base=base,
            adapter=trained,
            geometry=geometry,
            seed=seed,
            size=size,
            resolution=resolution,
            provenance=provenance,
            memory=memory,
            **sampling,
        )
        if prompt is not None:
            maker.check_prompts([prompt])
        write_prompt = sources.writer()

        def make(batch: list[CollectionImage]) -> list[Scene4D | Failure]:
            """Caption the images of a batch, and generate the scenes of those that have a caption."""
            uncaptioned: dict[str, Failure] = {}
            prompts: dict[Path, str] = {}
            for image in batch:
                try:
                    prompts[image.path] = write_prompt(image.path, image.made_with)
                except (ValueError, OSError) as error:
                    uncaptioned[image.file] = Failure(name=image.path.stem, reason=str(error))
            paths = list(prompts)
            keys = [path.relative_to(source) for path in paths]
            made = iter(maker.make(paths, list(prompts.values()), keys=keys))
            return [uncaptioned.get(image.file) or next(made) for image in batch]

        return make

    out.mkdir(parents=True, exist_ok=True)
    with SceneLocks(out) as locks:
        run = CollectionPass(out, locks, failed)
        with locks.records():
            _update_records(out, source, images)
            recorded = read_failed(out)
            missing = [image for image in images if not run.is_settled(image, recorded)]
        run.make(missing, load, batch_size)
        with locks.records():
            for image in images:
                if image.file in failed:
                    remove_outdated(out, image)
            write_failed(out, failed)
    return CollectionReport(
        name=out.name,
        requested=len(files),
        done=run.done,
        cached=run.cached,
        failed=tuple((file, failed[file]["reason"]) for file in sorted(failed)),
        left_out=left_out,
        unmatched=found.unmatched,
        seconds=time.monotonic() - started,
    )


def _update_records(out: Path, source: Path, images: list[CollectionImage]) -> None:
    """Record the images of the collection, and remove the scenes of images that are no longer there."""
    listed = read_listed(out)
    others = [entry for entry in listed if entry["source"] != str(source)]
    check_same_collection(out, images, others)
    planned = {image.scene for image in images}
    for entry in listed:
        if entry["source"] != str(source) or entry["scene"] in planned:
            continue
        if os.path.exists(source / entry["file"]):  # in a subfolder, from a pass with `recursive`
            others.append(entry)
        else:
            remove_gone(out, entry)
    write_listed(out, source, images, [entry for entry in others if entry["scene"] not in planned])


def generate_one(
    image: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    model: str = "tiny",
    adapter: str | os.PathLike[str] | Adapter | None = None,
    prompt: str | None = None,
    captions: str | os.PathLike[str] | None = None,
    captioner: str | os.PathLike[str] | None = None,
    camera: str | None = None,
    camera_pace: str = "slowly",
    seed: int = 0,
    first_frame_geometry: str | os.PathLike[str] | None = None,
    depth_network: str | os.PathLike[str] | None = None,
    size: str | tuple[int, int] = "image",
    resolution: str | int = "auto",
    provenance: dict[str, Any] | None = None,
    memory: MemorySettings | None = None,
    **sampling: Any,
) -> bool:
    """Generate the scene of one image in `folder`, like `generate_collection`; False if it was there already.

    `first_frame_geometry` may also be the image's own .npy file.

    Raises:
        FileNotFoundError: there is no such image.
        ValueError: the image cannot be read or gives no scene.
        FileExistsError: `folder` holds something else.
    """
    path, target = Path(image), Path(folder)
    base, trained = Base.resolve(model), None if adapter is None else Adapter.read(_path(adapter))
    geometry = resolve_geometry(base, trained.info if trained else Recipe(), first_frame_geometry, depth_network)
    settings = _settings(base, trained, geometry, seed, size, resolution, memory, sampling)
    sources = CaptionSources(
        prompt=prompt, captions=captions, captioner=captioner, camera=camera, camera_pace=camera_pace
    )
    key, digest = Path(path.name), sha256_file(path)
    caption = sources.provenance(sources.find(path.parent, [path]), DEFAULT_PROMPT)(path.name)
    made_with = {"image_sha256": digest, **settings, **caption, **(geometry.digest(key) if geometry else {})}
    if is_finished(target, made_with):
        return False
    check_replaceable(target)
    from fourdnex.generation.scene_maker import Failure, SceneMaker

    target.parent.mkdir(parents=True, exist_ok=True)
    with SceneLocks(target.parent) as locks:
        locks.acquire(target.name, wait=True)
        if is_finished(target, made_with):  # by another process in the meantime
            return False
        maker = SceneMaker(
            base=base,
            adapter=trained,
            geometry=geometry,
            seed=seed,
            size=size,
            resolution=resolution,
            provenance=provenance,
            memory=memory,
            **sampling,
        )
        prompt = sources.writer()(path, caption)
        maker.check_prompts([prompt])
        (scene,) = maker.make([path], [prompt], keys=[key])
        if isinstance(scene, Failure):
            raise ValueError(f"{scene.name}: {scene.reason}")
        own = {"image": shown(key), **made_with}
        write_scene_folder(replace(scene, name=target.name, provenance=scene.provenance | own), target)
    return True


def scenes_digest(folder: str | os.PathLike[str]) -> str:
    """Digest of the scenes of a collection: changes when a scene is added, removed or generated again."""
    scenes = sorted(Path(folder).glob("[!.]*/scene.json"))
    entries = [(scene.parent.name, sha256_file(scene)) for scene in scenes]
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def _settings(
    base: Base,
    adapter: Adapter | None,
    geometry: FirstFrameGeometry | None,
    seed: int,
    size: str | tuple[int, int],
    resolution: str | int,
    memory: MemorySettings | None,
    sampling: dict[str, Any],
) -> dict[str, Any]:
    """Provenance that all scenes of a collection share and that decides whether a scene is kept."""
    preset = base.preset
    return {
        "base_digest": base.digest,
        "adapter_digest": adapter.digest if adapter is not None else None,
        "seed": seed,
        "sampling": preset.sampling.with_changes(**sampling).to_json(),
        **size_identity(parse_size(size, (preset.height, preset.width))),
        **resolution_identity(parse_resolution(resolution, default=preset.resolution)),
        **(memory.changes() if memory else {}),
        **(geometry.identity if geometry else {}),
    }


def _path(adapter: str | os.PathLike[str] | Adapter) -> Path | Adapter:
    """The adapter, or the path of its folder."""
    return adapter if isinstance(adapter, Adapter) else Path(adapter)


def _nothing(key: Path) -> dict[str, Any]:
    """Provenance of the geometry of a scene without one."""
    return {}
