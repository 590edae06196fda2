"""Files written whole or not at all, and their digests."""

import codecs
import errno
import glob
import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the place of `path` when the block ends without an error.

    The temporary name keeps the suffix (writers choose their format by it) and starts with a dot. After an error it
    is removed and an older file at `path` stays as it was; what a killed process left is removed by the next that
    writes to `path`. Missing parent folders are made.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_remains(target)
    temporary = _beside(target, "new")
    try:
        with _naming(target, temporary):
            yield temporary
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; it takes the place of `path` when the block ends without an error.

    A folder already at `path` is replaced as a whole: a reader finds the old or the new one, never a mixture. What a
    killed process left is removed by the next that writes to `path`.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_remains(target)
    temporary = _beside(target, "new")
    try:
        with _naming(target, temporary):
            temporary.mkdir()
            yield temporary
        if not target.is_dir():
            os.replace(temporary, target)
            return
        # A folder that is not empty cannot be replaced in one step: the old one steps aside first, and comes back
        # when the new one cannot take its place.
        old = _beside(target, "old")
        os.replace(target, old)
        try:
            os.replace(temporary, target)
        except BaseException:
            os.replace(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_own_folder(path: str | os.PathLike[str], what: str, *, mark: str, left: Collection[str] = ()) -> None:
    """A new folder takes the place of the whole one at `path`, so that nothing but its like may lie there.

    Args:
        path: of the folder.
        what: its like, in words.
        mark: the file by which its like is known.
        left: names that one which was not finished may have left, without `mark`.

    Raises:
        FileExistsError: there is a file, or a folder that is none of these and not empty.
    """
    folder = Path(path)
    if not folder.exists() or (folder / mark).is_file():
        return
    if not folder.is_dir() or any(entry.name not in left for entry in folder.iterdir()):
        raise FileExistsError(f"{path}: expected nothing, an empty folder or {what} to replace")


def check_empty(path: str | os.PathLike[str]) -> None:
    """Check that a folder can be made at `path` without taking the place of anything.

    Raises:
        FileExistsError: there is a file, or a folder with something in it.
    """
    folder = Path(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{path}: expected no such folder, or an empty one")


def remove_dir(path: str | os.PathLike[str]) -> None:
    """Remove a folder at once: a reader finds all of it or nothing."""
    aside = _beside(Path(path), "gone")
    os.replace(path, aside)
    shutil.rmtree(aside)


def remove_remains(target: Path) -> None:
    """Remove what killed processes of this machine left beside `target`; a folder that had stepped aside comes back."""
    pattern = f".{glob.escape(_short(target.stem))}.{_HOST}-*-*.*.tmp{glob.escape(target.suffix)}"
    for path in target.parent.glob(pattern):
        owner, state = path.name.removesuffix(target.suffix).removesuffix(".tmp").split(".")[-2:]
        if _is_alive(int(owner.split("-")[1])):
            continue
        if state == "old" and not target.exists():
            os.replace(path, target)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Parse one JSON file, in UTF-8 with or without a byte order mark.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not valid JSON; the message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from error


def read_text(path: str | os.PathLike[str]) -> str:
    """Text in UTF-8, or in UTF-16 with a byte order mark, as editors on Windows write it.

    Raises:
        ValueError: another encoding; the message names the file.
    """
    data = Path(path).read_bytes()
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8, got {error}") from error


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Write `obj` as JSON (2 spaces, keys in the given order), whole or not at all.

    Raises:
        ValueError: `obj` holds NaN or an infinity, which JSON does not know.
    """
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Write torch tensors as a safetensors file, whole or not at all.

    The library's own writer makes files that only their owner may read, and its error of a full disk is no OSError.
    """
    from safetensors.torch import save

    with atomic_path(path) as temporary:
        temporary.write_bytes(save(dict(tensors), metadata=dict(metadata) if metadata is not None else None))


def copy_unless_same(source: Path, target: Path) -> None:
    """Copy the contents of one file, where `target` is another one than `source`."""
    if not (target.exists() and target.samefile(source)):
        shutil.copyfile(source, target)


def media_path(path: str | os.PathLike[str]) -> str:
    """A path as FFmpeg takes it: absolute, for what stands before a colon in a relative one is a protocol to it."""
    return os.path.abspath(path)


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of one file's contents."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(folder: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 over the relative names and contents of all files below `folder`, in sorted order.

    Raises:
        FileNotFoundError: `folder` is no folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder")
    digest = hashlib.sha256()
    for name in sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()):
        digest.update(f"{name}\0{sha256_file(root / name)}\n".encode())
    return digest.hexdigest()


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextmanager
def _naming(target: Path, temporary: Path) -> Iterator[None]:
    """Errors of the system name the file that was meant, where they name the temporary one or, on a full disk, none."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _DISK:
            meant = target
        elif isinstance(error.filename, str) and Path(error.filename).is_relative_to(temporary):
            meant = target / Path(error.filename).relative_to(temporary)
        else:
            raise
        raise OSError(error.errno, error.strerror, str(meant)) from error


_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def _beside(target: Path, state: str) -> Path:
    """A free name in the folder of `target`; it tells which process it belongs to."""
    owner = f"{_HOST}-{os.getpid()}-{secrets.token_hex(3)}"
    return target.with_name(f".{_short(target.stem)}.{owner}.{state}.tmp{target.suffix}")


def _short(stem: str) -> str:
    """The first 120 bytes, in whole characters: file systems allow 255, and owner, state and suffix are added."""
    return os.fsencode(stem)[:120].decode(errors="ignore")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
