"""A folder of images becomes a folder of scenes: what is finished stays, what is bad is set aside, the rest is made.

```
out_dir/collection.json          what the collection is and which scene came of which image
out_dir/failed.json           [{file, reason, ...}]
out_dir/{scene}/                 one folder an image: the Scene4D, ply/frame_0000.ply ..., scene.rrd, preview.png
```
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourdnex.generation.caption_sources import DEFAULT_PROMPT, Wording
from fourdnex.generation.claims import Claims
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
from fourdnex.generation.geometry_sources import found_by, identity_of, start_digest, start_source
from fourdnex.generation.image_listing import count_below, list_images
from fourdnex.generation.scene_folders import (
    in_the_way,
    is_finished,
    remove_gone,
    remove_outdated,
    write_scene_folder,
)
from fourdnex.io.files import sha256_file
from fourdnex.lifting import parse_resolution, resolution_identity
from fourdnex.model.sizes import parse_size, size_identity
from fourdnex.scene import Scene4D, check_replaceable

if TYPE_CHECKING:
    from fourdnex.generation.scenes import Failure
    from fourdnex.model.memory_settings import MemorySettings

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CollectionReport:
    """What one pass over a collection did: requested = done + cached + len(failed)."""

    name: str
    requested: int
    done: int
    """Scenes made in this pass."""
    cached: int
    """Scenes found finished, made of the same image by the same model with the same settings."""
    failed: tuple[tuple[str, str], ...]
    """(file, reason), also of images that the same model failed on before."""
    left_out: int
    """Images in folders within the collection, which only `recursive` takes."""
    unmatched: tuple[str, ...]
    """Lines of the table of captions whose image is not there."""
    seconds: float


def generate_collection(
    images_dir: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    model: str = "tiny",
    adapter: str | os.PathLike[str] | None = None,
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
    """Make a scene of every image in `images_dir`, each written whole or not at all.

    A scene that is there already, made of the same image and start by the same base, adapter, prompt, seed, sampling
    and inexact memory settings, is left alone; an image that gave none under the same conditions is not tried again,
    and one whose scene would take the place of something else is set aside. The scene of an image that has gone, or
    that has changed and gives none, is removed; scenes of another collection in `out_dir` stay. The model is loaded
    once, and only when there is something to do. Other processes of this machine may work on the same collection at the
    same time: they share the images, and each returns when all of them are made.

    Args:
        images_dir: the collection; hidden files, README and LICENSE files are no part of it.
        out_dir: made where it is missing.
        prompt: caption for all images without one of their own; None takes the general one.
        captions: table of the images' own captions; None takes `captions.csv` or `captions.jsonl` in `images_dir`,
            if there is one. `NAME.txt` beside `NAME.jpg` is that one's caption (see `fourdnex.generation.captions`).
        captioner: folder of a network that captions those without one (see `fourdnex.generation.captioner`).
        camera: way of the camera, which takes the place of what captions say of it (see `generate`).
        camera_pace: "slowly", "steadily" or "quickly".
        first_frame_geometry: folder with a first point map or depth of each image, `{image stem}.npy`, in the same folders as the
            images, for an adapter trained with a given start (see `fourdnex.generation.first_frame_geometry`).
        depth_network: finds the first_frame_geometry (see `fourdnex.annotation.DepthNetwork`); without either it is the one that
            comes with the base, if one does.
        size: "image" keeps each image's own ratio; see `fourdnex.generation.generate`.
        resolution: of the scenes; see `fourdnex.generation.generate`.
        recursive: take the images in the folders within it too, links to folders followed.
        provenance: written into every scene beside what is known here.
        memory: what to do when the model does not fit into the GPU.
        **sampling: fields of `SamplingSettings` in place of the preset's.

    Raises:
        FileNotFoundError: `images_dir` is no folder, or there is no such table or captioner.
        ValueError: it has no images, the table of captions cannot be read, or a scene would replace that of another
            image from another collection.
        OSError: `out_dir` cannot be written to, or the disk is full; finished scenes stay.
    """
    started = time.monotonic()
    source, out = Path(images_dir).resolve(), Path(out_dir).resolve()
    if source == out:
        raise ValueError(f"out_dir: expected another folder than the images', got {out_dir}")
    files = list_images(source, recursive=recursive, without=out)
    left_out = 0 if recursive else count_below(source, without=out)
    if not files:
        below = f", but {left_out} in folders within it, which --recursive takes" if left_out else ""
        raise ValueError(f"{images_dir}: no images in it{below}")
    network = found_by(model, adapter, first_frame_geometry, depth_network)
    settings = _settings(model, adapter, seed, size, resolution, memory, sampling) | identity_of(network)
    words = Wording(prompt=prompt, captions=captions, captioner=captioner, camera=camera, camera_pace=camera_pace)
    found = words.find(source, files)
    aside: dict[str, dict[str, Any]] = {}
    images = list(plan_images(source, files, settings, words.of(found, DEFAULT_PROMPT), first_frame_geometry, aside))

    def load() -> Callable[[list[CollectionImage]], list[Scene4D | Failure]]:
        """Load the model; it makes scenes of a batch."""
        from fourdnex.generation.scenes import Failure, SceneMaker

        given = start_source(first_frame_geometry, network)
        maker = SceneMaker(
            model=model,
            adapter=Path(adapter) if adapter is not None else None,
            seed=seed,
            with_first_pointmaps=first_frame_geometry is not None or network is not None,
            size=size,
            resolution=resolution,
            provenance=provenance,
            memory=memory,
            **sampling,
        )
        if prompt is not None:
            maker.check_prompts([prompt])
        write = words.writer()

        def make(batch: list[CollectionImage]) -> list[Scene4D | Failure]:
            failed: dict[str, Failure] = {}
            prompts: dict[Path, str] = {}
            for image in batch:
                try:
                    prompts[image.path] = write(image.path, image.made_with)
                except (ValueError, OSError) as error:
                    failed[image.file] = Failure(name=image.path.stem, reason=str(error))
            paths = list(prompts)
            first_frame_geometry = given([path.relative_to(source) for path in paths])
            made = iter(maker.make(paths, list(prompts.values()), first_frame_geometry))
            return [failed.get(image.file) or next(made) for image in batch]

        return make

    out.mkdir(parents=True, exist_ok=True)
    with Claims(out) as claims:
        run = _Pass(out, claims, aside)
        with claims.records():
            _update_records(out, source, images)
            failed = read_failed(out)
            todo = [image for image in images if not run.settled(image, failed)]
        run.make(todo, load, batch_size)
        with claims.records():
            for image in images:
                if image.file in aside:
                    remove_outdated(out, image)
            write_failed(out, aside)
    return CollectionReport(
        name=out.name,
        requested=len(files),
        done=run.done,
        cached=run.cached,
        failed=tuple((file, aside[file]["reason"]) for file in sorted(aside)),
        left_out=left_out,
        unmatched=found.unmatched,
        seconds=time.monotonic() - started,
    )


def _update_records(out: Path, source: Path, images: list[CollectionImage]) -> None:
    """List the images as they are now, and remove the scenes of those that have gone."""
    listed = read_listed(out)
    others = [entry for entry in listed if entry["source"] != str(source)]
    check_same_collection(out, images, others)
    planned = {image.scene for image in images}
    for entry in listed:
        if entry["source"] != str(source) or entry["scene"] in planned:
            continue
        if os.path.exists(source / entry["file"]):  # in a folder within it, which another pass has taken
            others.append(entry)
        else:
            remove_gone(out, entry)
    write_listed(out, source, images, [entry for entry in others if entry["scene"] not in planned])


class _Pass:
    """What one pass over a collection makes, skips and sets aside."""

    def __init__(self, out: Path, claims: Claims, aside: dict[str, dict[str, Any]]) -> None:
        self._out, self._claims, self._aside = out, claims, aside
        self.done = self.cached = 0

    def settled(self, image: CollectionImage, failed: dict[str, dict[str, Any]]) -> bool:
        """Whether an image's scene is there, or the image is set aside; `failed`: what the records set aside."""
        before = failed.get(image.file)
        if is_finished(self._out / image.scene, image.made_with):
            self.cached += 1
        elif before is not None and before.get("made_with") == image.made_with:
            self._aside[image.file] = before
        elif (reason := in_the_way(self._out / image.scene)) is not None:
            self._aside[image.file] = {"file": image.file, "reason": reason}
            _LOG.warning("%s set aside: %s", image.file, reason)
        else:
            return False
        return True

    def make(
        self,
        todo: list[CollectionImage],
        load: Callable[[], Callable[[list[CollectionImage]], list[Scene4D | Failure]]],
        batch_size: int,
    ) -> None:
        """Make the scenes of `todo` but those that another process makes meanwhile; returns when all are made."""
        make_batch, total = None, len(todo)
        for batch in self._batches(todo, batch_size):
            make_batch = make_batch or load()
            for image, result in zip(batch, make_batch(batch), strict=True):
                number = total - len(todo) - len(batch) + batch.index(image) + 1
                self._keep(image, result, f"{number} of {total}")

    def _batches(self, todo: list[CollectionImage], batch_size: int) -> Iterator[list[CollectionImage]]:
        """Images that this process has claimed and that are not settled; `todo` shrinks."""
        while todo:
            batch: list[CollectionImage] = []
            failed = read_failed(self._out)
            for image in list(todo):
                if len(batch) == batch_size:
                    break
                if not self._claims.take(image.scene):
                    continue
                todo.remove(image)
                if self.settled(image, failed):  # another process did, since this one looked
                    self._claims.release(image.scene)
                else:
                    batch.append(image)
            if batch:
                yield batch
            elif todo:
                _LOG.info("%s: waiting for the process that makes it", todo[0].scene)
                self._claims.take(todo[0].scene, wait=True)
                self._claims.release(todo[0].scene)

    def _keep(self, image: CollectionImage, result: Scene4D | Failure, count: str) -> None:
        if isinstance(result, Scene4D):
            own = {"image": image.file, **image.made_with}
            scene = replace(result, name=image.scene, provenance=result.provenance | own)
            write_scene_folder(scene, self._out / image.scene)
            self.done += 1
            _LOG.info("%s: %s%s", count, image.scene, _cache_hits(scene.provenance))
        else:
            reason = result.reason.replace(f"{image.path}: ", "")
            self._aside[image.file] = {"file": image.file, "reason": reason, "made_with": image.made_with}
            with self._claims.records():
                write_failed(self._out, read_failed(self._out) | {image.file: self._aside[image.file]})
            _LOG.warning("%s: %s set aside: %s", count, image.file, reason)
        self._claims.release(image.scene)


def generate_one(
    image: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    model: str = "tiny",
    adapter: str | os.PathLike[str] | None = None,
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
    """Make the scene of one image in `folder`, as `generate_collection` does; False when it is there already.

    `first_frame_geometry` may also be the image's own .npy file.

    Raises:
        FileNotFoundError: there is no such image.
        ValueError: it cannot be read or gives no scene.
        FileExistsError: there is something else at `folder`.
    """
    path, target = Path(image), Path(folder)
    network = found_by(model, adapter, first_frame_geometry, depth_network)
    settings = _settings(model, adapter, seed, size, resolution, memory, sampling) | identity_of(network)
    words = Wording(prompt=prompt, captions=captions, captioner=captioner, camera=camera, camera_pace=camera_pace)
    name, digest = Path(path.name), sha256_file(path)
    own = words.of(words.find(path.parent, [path]), DEFAULT_PROMPT)(path.name)
    made_with = {"image_sha256": digest, **settings, **own, **start_digest(first_frame_geometry, name)}
    if is_finished(target, made_with):
        return False
    check_replaceable(target)
    from fourdnex.generation.scenes import generate

    target.parent.mkdir(parents=True, exist_ok=True)
    with Claims(target.parent) as claims:
        claims.take(target.name, wait=True)
        if is_finished(target, made_with):  # another process has made it meanwhile
            return False
        (scene,) = generate(
            [path],
            model=model,
            adapter=Path(adapter) if adapter is not None else None,
            prompts=words.writer()(path, own),
            seed=seed,
            first_frame_geometry=start_source(first_frame_geometry, network)([name]),
            size=size,
            resolution=resolution,
            provenance=provenance,
            memory=memory,
            **sampling,
        )
        known = {"image": shown(name), **made_with}
        write_scene_folder(replace(scene, name=target.name, provenance=scene.provenance | known), target)
    return True


def scenes_digest(folder: str | os.PathLike[str]) -> str:
    """Digest of the scenes in the folder of a collection: changes when a scene comes, goes or is made again."""
    scenes = sorted(Path(folder).glob("[!.]*/scene.json"))
    entries = [(scene.parent.name, sha256_file(scene)) for scene in scenes]
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def _settings(
    model: str,
    adapter: str | os.PathLike[str] | None,
    seed: int,
    size: str | tuple[int, int],
    resolution: str | int,
    memory: MemorySettings | None,
    sampling: dict[str, Any],
) -> dict[str, Any]:
    from fourdnex.model.adapter import adapter_digest
    from fourdnex.model.presets import base_digest, get_preset

    preset = get_preset(model)
    return {
        "base_digest": base_digest(preset.location),
        "adapter_digest": adapter_digest(Path(adapter)) if adapter is not None else None,
        "seed": seed,
        "sampling": preset.sampling.with_changes(**sampling).to_json(),
        **size_identity(parse_size(size, (preset.height, preset.width))),
        **resolution_identity(parse_resolution(resolution, default=preset.resolution)),
        **(memory.changes() if memory else {}),
    }


def _cache_hits(provenance: dict[str, Any]) -> str:
    hits, passes = provenance["cache_hits"], provenance["forward_passes"]
    return f", {hits} of {passes} forward passes from the cache" if provenance["sampling"]["cache_threshold"] else ""
