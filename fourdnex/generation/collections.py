"""A folder of pictures becomes a folder of scenes: what is finished stays, what is bad is set aside, the rest is made.

```
out_dir/collection.json          what the collection is and which scene came of which picture
out_dir/set_aside.json           [{file, reason, ...}]
out_dir/{scene}/                 one folder a picture: the Scene4D, ply/frame_0000.ply ..., scene.rrd, preview.png
```
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourdnex.files import atomic_dir, read_json, remove_dir, remove_remains, sha256_file, write_json
from fourdnex.generation.pictures import list_pictures
from fourdnex.generation.start_sources import found_by, identity_of, start_digest, starts_of
from fourdnex.scene import Scene4D, check_replaceable

if TYPE_CHECKING:
    from fourdnex.model.memory import MemorySettings

COLLECTION_FILE, SET_ASIDE_FILE = "collection.json", "set_aside.json"

_LOG = logging.getLogger(__name__)
_NAME_BYTES = 120  # of a scene's folder: leaves room for temporary names within the 255 of common file systems


@dataclass(frozen=True, kw_only=True)
class CollectionReport:
    """What one pass over a collection did: asked = done + skipped + len(set_aside)."""

    name: str
    asked: int
    done: int
    """Scenes made in this pass."""
    skipped: int
    """Scenes found finished, made of the same picture by the same model with the same settings."""
    set_aside: tuple[tuple[str, str], ...]
    """(file, reason), also of pictures that the same model failed on before."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Picture:
    path: Path
    file: str
    scene: str
    """Name of the folder its scene goes to."""
    made_with: dict[str, Any]
    """Everything a scene depends on: equal values give an equal scene."""


def generate_collection(
    pictures_dir: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    model: str = "tiny",
    adapter: str | os.PathLike[str] | None = None,
    prompt: str | None = None,
    seed: int = 0,
    starts: str | os.PathLike[str] | None = None,
    depth_network: str | os.PathLike[str] | None = None,
    batch_size: int = 4,
    provenance: dict[str, Any] | None = None,
    memory: MemorySettings | None = None,
    **sampling: Any,
) -> CollectionReport:
    """Make a scene of every picture in `pictures_dir`, each written whole or not at all.

    A scene that is there already, made of the same picture and start by the same base, adapter, prompt, seed, sampling
    and inexact memory settings, is left alone; a picture that gave none under the same conditions is not tried again,
    and one whose scene would take the place of something else is set aside. The scene of a picture that has gone, or
    that has changed and gives none, is removed; scenes of another collection in `out_dir` stay. The model is loaded
    once, and only when there is something to do.

    Args:
        pictures_dir: the collection; its folders, hidden files, README and LICENCE files are no part of it.
        out_dir: made where it is missing.
        prompt: caption for all pictures; None takes the general one.
        starts: folder with a first point map or depth of each picture, `{picture stem}.npy`, for an adapter trained
            with a given start (see `fourdnex.generation.starts`).
        depth_network: finds the starts (see `fourdnex.annotation.DepthNetwork`); without either it is the one that
            comes with the base, if one does.
        provenance: written into every scene beside what is known here.
        memory: what to do when the model does not fit into the GPU.
        **sampling: fields of `SamplingSettings` in place of the preset's.

    Raises:
        FileNotFoundError: `pictures_dir` is no folder.
        ValueError: it has no pictures, or a scene would replace that of another picture from another collection.
        OSError: `out_dir` cannot be written to, or the disk is full; finished scenes stay.
    """
    started = time.monotonic()
    source, out = Path(pictures_dir).resolve(), Path(out_dir).resolve()
    files = list_pictures(source)
    if not files:
        raise ValueError(f"{pictures_dir}: no pictures in it")
    if source == out:
        raise ValueError(f"out_dir: expected another folder than the pictures', got {out_dir}")
    network = found_by(model, adapter, starts, depth_network)
    settings = _settings(model, adapter, prompt, seed, memory, sampling) | identity_of(network)
    aside: dict[str, dict[str, Any]] = {}
    pictures = list(_planned(files, settings, aside, starts))
    listed = _listed_before(out)
    others = [entry for entry in listed if entry["source"] != str(source)]
    _check_same_collection(out, pictures, others)
    out.mkdir(parents=True, exist_ok=True)
    failed_before = _read_set_aside(out)
    todo, skipped = [], 0
    for picture in pictures:
        before = failed_before.get(picture.file)
        if _is_finished(out / picture.scene, picture.made_with):
            skipped += 1
        elif before is not None and before.get("made_with") == picture.made_with:
            aside[picture.file] = before
        elif (reason := _in_the_way(out / picture.scene)) is not None:
            aside[picture.file] = {"file": picture.file, "reason": reason}
            _LOG.warning("%s set aside: %s", picture.file, reason)
        else:
            todo.append(picture)
    planned = set(scene_names(path.name for path in files).values())
    for entry in listed:
        if entry["source"] == str(source) and entry["scene"] not in planned:
            _remove_gone(out, entry)
    _write_collection(out, source, pictures, [entry for entry in others if entry["scene"] not in planned])
    done = 0
    if todo:
        from fourdnex.generation.scenes import Failure, generate_each

        results = generate_each(
            [picture.path for picture in todo],
            model=model,
            adapter=Path(adapter) if adapter is not None else None,
            prompts=prompt,
            seed=seed,
            starts=starts_of(starts, network, [picture.path for picture in todo]),
            batch_size=batch_size,
            provenance=provenance,
            memory=memory,
            **sampling,
        )
        for number, (picture, result) in enumerate(zip(todo, results, strict=True), start=1):
            if isinstance(result, Failure):
                reason = result.reason.replace(f"{picture.path}: ", "")
                aside[picture.file] = {"file": picture.file, "reason": reason, "made_with": picture.made_with}
                _LOG.warning("%d of %d: %s set aside: %s", number, len(todo), picture.file, reason)
                continue
            own = {"picture": picture.file, **picture.made_with}
            scene = replace(result, name=picture.scene, provenance=result.provenance | own)
            write_scene_folder(scene, out / picture.scene)
            done += 1
            _LOG.info("%d of %d: %s%s", number, len(todo), picture.scene, _cache_hits(scene.provenance))
    for picture in pictures:
        if picture.file in aside:
            _remove_outdated(out, picture)
    set_aside = [aside[file] for file in sorted(aside)]
    write_json(out / SET_ASIDE_FILE, set_aside)
    return CollectionReport(
        name=out.name,
        asked=len(files),
        done=done,
        skipped=skipped,
        set_aside=tuple((entry["file"], entry["reason"]) for entry in set_aside),
        seconds=time.monotonic() - started,
    )


def generate_one(
    picture: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    model: str = "tiny",
    adapter: str | os.PathLike[str] | None = None,
    prompt: str | None = None,
    seed: int = 0,
    starts: str | os.PathLike[str] | None = None,
    depth_network: str | os.PathLike[str] | None = None,
    provenance: dict[str, Any] | None = None,
    memory: MemorySettings | None = None,
    **sampling: Any,
) -> bool:
    """Make the scene of one picture in `folder`, as `generate_collection` does; False when it is there already.

    `starts` may also be the picture's own .npy file.

    Raises:
        FileNotFoundError: there is no such picture.
        ValueError: it cannot be read or gives no scene.
        FileExistsError: there is something else at `folder`.
    """
    path, target = Path(picture), Path(folder)
    network = found_by(model, adapter, starts, depth_network)
    settings = _settings(model, adapter, prompt, seed, memory, sampling) | identity_of(network)
    made_with = {"picture_sha256": sha256_file(path), **settings, **start_digest(starts, path)}
    if _is_finished(target, made_with):
        return False
    check_replaceable(target)
    from fourdnex.generation.scenes import generate

    (scene,) = generate(
        [path],
        model=model,
        adapter=Path(adapter) if adapter is not None else None,
        prompts=prompt,
        seed=seed,
        starts=starts_of(starts, network, [path]),
        provenance=provenance,
        memory=memory,
        **sampling,
    )
    own = {"picture": _shown(path), **made_with}
    write_scene_folder(replace(scene, name=target.name, provenance=scene.provenance | own), target)
    return True


def write_scene_folder(scene: Scene4D, folder: str | os.PathLike[str]) -> None:
    """Write a scene with all that people open it by: PLY files, a Rerun recording, a preview. Whole or not at all."""
    from PIL import Image

    from fourdnex.export import export_ply, export_rerun
    from fourdnex.rendering import preview_image

    with atomic_dir(folder) as temporary:
        scene.save(temporary)
        export_ply(scene, temporary / "ply")
        export_rerun(scene, temporary / "scene.rrd")
        Image.fromarray(preview_image(scene)).save(temporary / "preview.png")


def scenes_digest(folder: str | os.PathLike[str]) -> str:
    """Digest of the scenes in the folder of a collection: changes when a scene comes, goes or is made again."""
    scenes = sorted(Path(folder).glob("[!.]*/scene.json"))
    entries = [(scene.parent.name, sha256_file(scene)) for scene in scenes]
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def scene_names(files: Iterable[str]) -> dict[str, str]:
    """A folder name for the scene of each picture file: its stem, made safe, and different from all the others.

    Letters of all alphabets, digits, `_`, `-` and inner dots stay, everything else becomes `-`. Of files with one stem
    the first in order of names keeps it and the others add their suffix; case does not count as a difference.
    """
    taken = {COLLECTION_FILE, SET_ASIDE_FILE}
    names = {}
    for file in sorted(files):
        path = Path(file)
        stem = _safe(path.stem)
        numbered = [f"{stem}-{number}" for number in range(2, len(taken) + 3)]
        candidates = [stem, f"{stem}-{_safe(path.suffix)}", *numbered]
        names[file] = next(name for name in candidates if name.casefold() not in taken)
        taken.add(names[file].casefold())
    return names


def _safe(text: str) -> str:
    name = re.sub(r"[^\w.-]+", "-", unicodedata.normalize("NFC", text)).strip(".-")
    while len(name.encode()) > _NAME_BYTES:
        name = name[:-1]
    return name or "picture"


def _settings(
    model: str,
    adapter: str | os.PathLike[str] | None,
    prompt: str | None,
    seed: int,
    memory: MemorySettings | None,
    sampling: dict[str, Any],
) -> dict[str, Any]:
    from fourdnex.generation.scenes import DEFAULT_PROMPT
    from fourdnex.model.adapter import adapter_digest
    from fourdnex.model.presets import base_digest, get_preset

    preset = get_preset(model)
    return {
        "base_digest": base_digest(preset.location),
        "adapter_digest": adapter_digest(Path(adapter)) if adapter is not None else None,
        "prompt": DEFAULT_PROMPT if prompt is None else prompt,
        "seed": seed,
        "sampling": preset.sampling.with_changes(**sampling).to_json(),
        **(memory.changes() if memory else {}),
    }


def _cache_hits(provenance: dict[str, Any]) -> str:
    hits, passes = provenance["cache_hits"], provenance["forward_passes"]
    return f", {hits} of {passes} forward passes from the cache" if provenance["sampling"]["cache_threshold"] else ""


def _planned(
    files: list[Path],
    settings: dict[str, Any],
    aside: dict[str, dict[str, Any]],
    starts: str | os.PathLike[str] | None,
) -> Iterable[_Picture]:
    names = scene_names(path.name for path in files)
    for path in files:
        file = _shown(path)
        try:
            digest = sha256_file(path)
        except OSError as error:
            aside[file] = {"file": file, "reason": f"cannot be read: {error.strerror}"}
            continue
        made_with = {"picture_sha256": digest, **settings, **start_digest(starts, path)}
        yield _Picture(path=path, file=file, scene=names[path.name], made_with=made_with)


def _shown(path: Path) -> str:
    """File names are bytes; one that is no UTF-8 must not make the reports unwritable."""
    return os.fsencode(path.name).decode("utf-8", "replace")


def _is_finished(folder: Path, made_with: dict[str, Any]) -> bool:
    """Whether the scene in `folder` was made with this, and of what may be left out with nothing else."""
    from fourdnex.model.memory import INEXACT

    provenance = _provenance(folder)
    return all(provenance.get(key) == made_with.get(key) for key in {*made_with, *INEXACT, "start_sha256", "start_by"})


def _provenance(folder: Path) -> dict[str, Any]:
    """Of the scene in `folder`; empty where there is none, or a damaged one."""
    file = folder / "scene.json"
    if not file.is_file():
        return {}
    try:
        return dict(read_json(file).get("provenance", {}))
    except ValueError as error:
        _LOG.warning("%s: no scene", error)
        return {}


def _in_the_way(folder: Path) -> str | None:
    """Why no scene may be written to `folder`."""
    try:
        check_replaceable(folder)
    except FileExistsError as error:
        return str(error)
    return None


def _listed_before(out: Path) -> list[dict[str, Any]]:
    """File, scene, digest and source of every picture that `collection.json` lists."""
    file = out / COLLECTION_FILE
    if not file.is_file():
        return []
    before = read_json(file)
    return [{"source": before["source"], **entry} for entry in before["pictures"]]


def _check_same_collection(out: Path, pictures: list[_Picture], others: list[dict[str, Any]]) -> None:
    """Two collections of one name must not overwrite each other's scenes."""
    known = {entry["scene"]: entry for entry in others}
    for picture in pictures:
        other = known.get(picture.scene)
        if other is not None and other["picture_sha256"] != picture.made_with["picture_sha256"]:
            raise ValueError(
                f"{out}: holds the scenes of another collection, {other['source']} (its {picture.scene!r} is another "
                f"picture than {picture.path}); choose another name or folder"
            )


def _remove_gone(out: Path, entry: dict[str, Any]) -> None:
    """Remove the scene of a picture that has gone from its collection; what is not that scene stays."""
    folder = out / entry["scene"]
    if folder.resolve().parent != out:
        return
    remove_remains(folder)
    if _provenance(folder).get("picture") == entry["file"]:
        remove_dir(folder)
        _LOG.info("%s: removed, as its picture %s has gone", entry["scene"], entry["file"])


def _remove_outdated(out: Path, picture: _Picture) -> None:
    """Remove the scene that another picture left in the place of one that gives none."""
    folder = out / picture.scene
    made_of = _provenance(folder).get("picture_sha256")
    if folder.resolve().parent == out and made_of not in (None, picture.made_with["picture_sha256"]):
        remove_dir(folder)
        _LOG.info("%s: removed, as it was made of another picture than %s now is", picture.scene, picture.file)


def _write_collection(out: Path, source: Path, pictures: list[_Picture], others: list[dict[str, Any]]) -> None:
    """`others` lie in another source and keep it in their entries."""
    entries = [
        {"file": picture.file, "scene": picture.scene, "picture_sha256": picture.made_with["picture_sha256"]}
        for picture in pictures
    ]
    write_json(out / COLLECTION_FILE, {"name": out.name, "source": str(source), "pictures": entries + others})


def _read_set_aside(out: Path) -> dict[str, dict[str, Any]]:
    file = out / SET_ASIDE_FILE
    return {entry["file"]: entry for entry in read_json(file)} if file.is_file() else {}
