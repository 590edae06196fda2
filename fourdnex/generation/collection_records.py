"""The records of a collection in its folder of scenes: the scene of each image, and the images that failed.

```
out_dir/collection.json       name and folder of the collection, and the scene of each image
out_dir/failed.json           [{file, reason, ...}]
```
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fourdnex.io.files import read_json, sha256_file, write_json
from fourdnex.io.renamed import SCENE_KEYS, renamed_keys
from fourdnex.io.walk import unreadable_reason

COLLECTION_FILE, FAILED_FILE = "collection.json", "failed.json"
_FORMER_FAILED_FILE = "set_aside.json"

_NAME_BYTES = 120  # leaves room for temporary names within the 255 bytes of common file systems


@dataclass(frozen=True, kw_only=True)
class CollectionImage:
    """An image of a collection and its scene."""

    path: Path
    file: str
    """Path within the collection."""
    scene: str
    """Name of the scene and its folder."""
    made_with: dict[str, Any]
    """Provenance that decides about the scene: equal values give an equal scene."""


def plan_images(
    source: Path,
    files: Sequence[Path],
    settings: dict[str, Any],
    caption: Callable[[str], dict[str, Any]],
    geometry: Callable[[Path], dict[str, Any]],
    failed: dict[str, dict[str, Any]],
) -> Iterator[CollectionImage]:
    """The readable images among `files`; the others are added to `failed` with the reason.

    Args:
        source: folder of the collection.
        files: files in it.
        settings: provenance that all scenes share.
        caption: provenance of an image's caption, by its path within the collection (POSIX).
        geometry: provenance of an image's first-frame geometry, by its path within the collection.
        failed: entry by file; changed in place.
    """
    within = {path: path.relative_to(source) for path in files}
    names = scene_names(relative.as_posix() for relative in within.values())
    for path, relative in within.items():
        file = shown(relative)
        reason = unreadable_reason(path)
        if reason is None and path.suffix == ".txt":
            reason = "a caption without an image of this name"
        own: dict[str, Any] = {}
        try:
            digest = sha256_file(path) if reason is None else ""
            own = caption(relative.as_posix())
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
        except ValueError as error:
            reason = reason or str(error)
        if reason is not None:
            failed[file] = {"file": file, "reason": reason}
            continue
        made_with = {"image_sha256": digest, **settings, **own, **geometry(relative)}
        yield CollectionImage(path=path, file=file, scene=names[relative.as_posix()], made_with=made_with)


def shown(path: Path) -> str:
    """A path as text; bytes of a file name that are not UTF-8 are replaced, so that records can be written."""
    return os.fsencode(path.as_posix()).decode("utf-8", "replace")


def scene_names(files: Iterable[str]) -> dict[str, str]:
    """A folder name for the scene of each image file: its path without suffix, made safe, unlike all the others.

    Letters of all alphabets, digits, `_`, `-` and inner dots stay, everything else becomes `-`. Of files with one name
    the first in order of paths keeps it and the others add their suffix; case does not count as a difference.
    """
    taken = {COLLECTION_FILE, FAILED_FILE, _FORMER_FAILED_FILE}
    names = {}
    for file in sorted(files):
        path = Path(file)
        stem = _safe("/".join([*path.parts[:-1], path.stem]))
        numbered = [f"{stem}-{number}" for number in range(2, len(taken) + 3)]
        candidates = [stem, f"{stem}-{_safe(path.suffix)}", *numbered]
        names[file] = next(name for name in candidates if name.casefold() not in taken)
        taken.add(names[file].casefold())
    return names


def _safe(text: str) -> str:
    """`text` as a portable file name."""
    name = re.sub(r"[^\w.-]+", "-", unicodedata.normalize("NFC", text)).strip(".-")
    while len(name.encode()) > _NAME_BYTES:
        name = name[:-1]
    return name or "image"


def read_listed(out: Path) -> list[dict[str, Any]]:
    """Entries of `collection.json`: file, scene, digest and source of every image.

    Raises:
        ValueError: the file is damaged; the message names it.
    """
    file = out / COLLECTION_FILE
    if not file.is_file():
        return []
    content = read_json(file)
    before = renamed_keys(content, {"pictures": "images"}, source=file) if isinstance(content, dict) else {}
    if not isinstance(before.get("source"), str):
        raise ValueError(f"{file}: expected an object with source and images, got {content!r:.80}")
    images = before.get("images")
    if isinstance(images, list):
        images = [
            renamed_keys(entry, SCENE_KEYS, source=file) if isinstance(entry, dict) else entry for entry in images
        ]
    entries = _entries(images, ("file", "scene", "image_sha256"), file)
    return [{"source": before["source"], **entry} for entry in entries]


def _entries(content: Any, keys: Sequence[str], file: Path) -> list[dict[str, Any]]:
    """The entries of a list in a JSON file; ValueError unless each is an object with text under `keys`."""
    if not isinstance(content, list):
        raise ValueError(f"{file}: expected a list of entries, got {content!r:.80}")
    for number, entry in enumerate(content):
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in keys):
            raise ValueError(f"{file}: entry {number}: expected text under {', '.join(keys)}, got {entry!r:.80}")
    return content


def check_same_collection(out: Path, images: list[CollectionImage], others: list[dict[str, Any]]) -> None:
    """Raise ValueError if a scene would overwrite that of another collection."""
    by_scene = {entry["scene"]: entry for entry in others}
    for image in images:
        other = by_scene.get(image.scene)
        if other is not None and other["image_sha256"] != image.made_with["image_sha256"]:
            raise ValueError(
                f"{out}: holds the scenes of another collection, {other['source']} (its {image.scene!r} is of another "
                f"image than {image.path}); choose another output folder"
            )


def write_listed(out: Path, source: Path, images: list[CollectionImage], others: list[dict[str, Any]]) -> None:
    """Write `collection.json`; `others` are entries of images in other source folders."""
    entries = [
        {"file": image.file, "scene": image.scene, "image_sha256": image.made_with["image_sha256"]} for image in images
    ]
    write_json(out / COLLECTION_FILE, {"name": out.name, "source": str(source), "images": entries + others})


def read_failed(out: Path) -> dict[str, dict[str, Any]]:
    """Entries of `failed.json` by file; raises ValueError if it is damaged."""
    file = out / FAILED_FILE
    if not file.is_file():
        file = out / _FORMER_FAILED_FILE
    return {entry["file"]: entry for entry in _entries(read_json(file), ("file",), file)} if file.is_file() else {}


def write_failed(out: Path, failed: dict[str, dict[str, Any]]) -> None:
    """Write `failed.json`."""
    write_json(out / FAILED_FILE, [failed[file] for file in sorted(failed)])
    (out / _FORMER_FAILED_FILE).unlink(missing_ok=True)
