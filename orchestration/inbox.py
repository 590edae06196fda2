"""The collections of images in `workspace/inbox`."""

import hashlib
import os
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path

_FORBIDDEN = ("...", "/", "\\", ",")
"""Text that a Dagster partition name must not contain."""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A folder of images that is ready to be processed."""

    name: str
    digest: str
    """See `contents_digest`."""


@dataclass(frozen=True, kw_only=True)
class Inbox:
    """The collections of the inbox: those that are ready, and the others with the reason why they are not."""

    ready: tuple[Collection, ...]
    waiting: tuple[tuple[str, str], ...]
    """(name, reason)."""


def scan(inbox: Path, *, settle_seconds: float = 10.0) -> Inbox:
    """Check every folder of the inbox; a missing inbox counts as empty.

    A folder waits while it has no images, while its files changed less than `settle_seconds` ago (they may still be
    copied), while it cannot be read, if its name cannot be a partition, or if its name differs from another one only by
    case or Unicode form: some file systems would store the scenes of both in one folder.
    """
    folders = sorted(path for path in inbox.iterdir() if path.is_dir()) if inbox.is_dir() else []
    folders = [path for path in folders if not path.name.startswith(".")]
    by_name: dict[str, list[str]] = {}
    for folder in folders:
        by_name.setdefault(_normalized_name(folder.name), []).append(folder.name)
    ready, waiting = [], []
    for folder in folders:
        others = [name for name in by_name[_normalized_name(folder.name)] if name != folder.name]
        reason = _name_problem(folder.name)
        if others:
            names = ", ".join(map(_printable_name, [folder.name, *others]))
            reason = f"names that differ only by case or Unicode form: {names}: rename one"
        try:
            reason = reason or _contents_problem(folder, settle_seconds)
            if not reason:
                ready.append(Collection(name=folder.name, digest=contents_digest(folder)))
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
        if reason:
            waiting.append((_printable_name(folder.name), reason))
    return Inbox(ready=tuple(ready), waiting=tuple(waiting))


def images_of(folder: Path) -> list[Path]:
    """The image files of a collection, including broken links; empty if there is no such folder."""
    from fourdnex.generation.image_listing import list_images

    return list_images(folder) if folder.is_dir() else []


def captions_of(folder: Path) -> list[Path]:
    """The caption files of a collection; empty if there is no such folder."""
    from fourdnex.generation.image_listing import list_captions

    return list_captions(folder) if folder.is_dir() else []


def contents_digest(folder: Path) -> str:
    """Digest of file names, sizes and times; changes when an image or caption is added, removed or replaced."""
    stats = [(path.name, _stat(path)) for path in [*images_of(folder), *captions_of(folder)]]
    entries = [f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}" for name, stat in stats]
    return hashlib.sha256(os.fsencode("\n".join(entries))).hexdigest()[:16]  # fsencode: names may not be UTF-8


def _contents_problem(folder: Path, settle_seconds: float) -> str:
    """Why the contents of a folder are not ready; empty if they are."""
    from fourdnex.generation.image_listing import count_below

    files = images_of(folder)
    if not files:
        count = count_below(folder)
        hint = f", but {count} in subfolders: put each subfolder into the inbox" if count else ""
        return f"no images in this folder{hint}"
    if time.time() - max(_stat(path).st_ctime for path in [folder, *files, *captions_of(folder)]) < settle_seconds:
        return f"changed less than {settle_seconds:g} seconds ago"
    return ""


def _stat(path: Path) -> os.stat_result:
    """Status of a file, or of the link itself if it is broken."""
    try:
        return path.stat()
    except OSError:
        return path.lstat()


def _normalized_name(name: str) -> str:
    """The name without differences of case and Unicode form."""
    return unicodedata.normalize("NFC", name).casefold()


def _printable_name(name: str) -> str:
    """The name with bytes that are not UTF-8 escaped, for instance `\\xe9`."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _name_problem(name: str) -> str:
    """Why a name cannot be a partition; empty if it can."""
    forbidden = [text for text in _FORBIDDEN if text in name]
    if forbidden or not name.isprintable() or name != name.strip():
        problem = forbidden or "leading or trailing spaces or unprintable characters"
        return f"the name of a collection must not contain {problem}: rename it"
    return ""
