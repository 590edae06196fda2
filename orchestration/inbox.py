"""Collections of images that people put into `workspace/inbox`."""

import hashlib
import os
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path

_FORBIDDEN = ("...", "/", "\\", ",")


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A folder of images that is ready, with a digest of names, sizes and times: equal as long as it is untouched."""

    name: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Inbox:
    """What lies in the inbox: collections that are ready, and why the others are not."""

    ready: tuple[Collection, ...]
    waiting: tuple[tuple[str, str], ...]
    """(name, reason)."""


def scan(inbox: Path, *, settle_seconds: float = 10.0) -> Inbox:
    """Look at every folder of the inbox; a missing inbox is an empty one.

    A folder waits while it has no images, while files in it are younger than `settle_seconds` (it is still being
    copied), while it cannot be read, when its name cannot be a partition, or when its name differs from another's by
    case or Unicode form only: on some file systems both would be one folder of scenes.
    """
    folders = sorted(path for path in inbox.iterdir() if path.is_dir()) if inbox.is_dir() else []
    folders = [path for path in folders if not path.name.startswith(".")]
    by_name: dict[str, list[str]] = {}
    for folder in folders:
        by_name.setdefault(_same(folder.name), []).append(folder.name)
    ready, waiting = [], []
    for folder in folders:
        others = [name for name in by_name[_same(folder.name)] if name != folder.name]
        reason = _not_a_name(folder.name)
        if others:
            reason = f"two collections with one name: {', '.join(map(_shown, [folder.name, *others]))}: rename one"
        try:
            reason = reason or _not_complete(folder, settle_seconds)
            if not reason:
                ready.append(Collection(name=folder.name, digest=contents_digest(folder)))
        except OSError as error:
            reason = f"it cannot be read: {error.strerror}"
        if reason:
            waiting.append((_shown(folder.name), reason))
    return Inbox(ready=tuple(ready), waiting=tuple(waiting))


def images_of(folder: Path) -> list[Path]:
    """The files of a collection that count as images, broken links too; none where there is no such folder."""
    from fourdnex.generation.image_listing import list_images

    return list_images(folder) if folder.is_dir() else []


def captions_of(folder: Path) -> list[Path]:
    """The files that caption a collection's images; none where there is no such folder."""
    from fourdnex.generation.image_listing import list_captions

    return list_captions(folder) if folder.is_dir() else []


def contents_digest(folder: Path) -> str:
    """Digest of names, sizes and times: changes when an image or a caption comes, goes or is replaced."""
    stats = [(path.name, _stat(path)) for path in [*images_of(folder), *captions_of(folder)]]
    entries = [f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}" for name, stat in stats]
    return hashlib.sha256(os.fsencode("\n".join(entries))).hexdigest()[:16]  # also of names that are not UTF-8


def _not_complete(folder: Path, settle_seconds: float) -> str:
    from fourdnex.generation.image_listing import count_below

    files = images_of(folder)
    if not files:
        below = count_below(folder)
        inner = f", but {below} in folders within it: put each of these into the inbox by itself" if below else ""
        return f"no images in it{inner}"
    if time.time() - max(_stat(path).st_ctime for path in [folder, *files, *captions_of(folder)]) < settle_seconds:
        return f"changed less than {settle_seconds:g} seconds ago"
    return ""


def _stat(path: Path) -> os.stat_result:
    """Of the file, or of the link itself where it leads nowhere."""
    try:
        return path.stat()
    except OSError:
        return path.lstat()


def _same(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _shown(name: str) -> str:
    """A name that can be written down: what is not UTF-8 in it as it is in Python, for instance `\\xe9`."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _not_a_name(name: str) -> str:
    bad = [text for text in _FORBIDDEN if text in name]
    if bad or not name.isprintable() or name != name.strip():
        return f"a collection's name may not hold {bad or 'spaces around it or unprintable characters'}: rename it"
    return ""
