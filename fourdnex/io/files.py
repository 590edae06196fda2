"""Atomic writing of files and folders, JSON and text, and SHA-256 digests."""

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
    """Yield a temporary path beside `path`, which replaces `path` if the block ends without an error.

    The temporary name keeps the suffix, because writers choose their format by it, and starts with a dot. After an
    error the temporary file is removed, and an existing file at `path` stays unchanged. Temporary files of killed
    processes are removed by the next process that writes to `path`. Missing parent folders are created.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_temporaries(target)
    temporary = _temporary_path(target, "new")
    try:
        with _report_target(target, temporary):
            yield temporary
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`, which replaces `path` if the block ends without an error.

    An existing folder at `path` is replaced as a whole: readers see the old or the new folder, never a mixture.
    Temporary folders of killed processes are removed by the next process that writes to `path`.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_temporaries(target)
    temporary = _temporary_path(target, "new")
    try:
        with _report_target(target, temporary):
            temporary.mkdir()
            yield temporary
        if not target.is_dir():
            os.replace(temporary, target)
            return
        # A folder that is not empty cannot be replaced in one step: the old one is moved aside first, and moved back
        # if the new one cannot take its place.
        old = _temporary_path(target, "old")
        os.replace(target, old)
        try:
            os.replace(temporary, target)
        except BaseException:
            os.replace(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable_folder(
    path: str | os.PathLike[str], what: str, *, marker: str, leftovers: Collection[str] = ()
) -> None:
    """Check that a new folder may replace what is at `path`: nothing, an empty folder, or one of the same kind.

    Args:
        path: of the folder.
        what: kind of folder, for the error message.
        marker: file that every complete folder of this kind contains.
        leftovers: names that an incomplete folder of this kind may contain.

    Raises:
        FileExistsError: there is a file, or a folder with other content.
    """
    folder = Path(path)
    if not folder.exists() or (folder / marker).is_file():
        return
    if not folder.is_dir() or any(entry.name not in leftovers for entry in folder.iterdir()):
        raise FileExistsError(f"{path}: expected nothing, an empty folder or {what} to replace")


def check_empty(path: str | os.PathLike[str]) -> None:
    """Check that a folder can be created at `path` without replacing anything.

    Raises:
        FileExistsError: there is a file, or a folder that is not empty.
    """
    folder = Path(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{path}: expected no such folder, or an empty one")


def remove_dir(path: str | os.PathLike[str]) -> None:
    """Remove a folder atomically: readers see all of it or nothing."""
    removed = _temporary_path(Path(path), "removed")
    os.replace(path, removed)
    shutil.rmtree(removed)


def remove_stale_temporaries(target: Path) -> None:
    """Remove temporary files that killed processes of this machine left beside `target`.

    A folder that was moved aside and not replaced is moved back.
    """
    pattern = f".{glob.escape(_truncated(target.stem))}.{_HOST_ID}-*-*.*.tmp{glob.escape(target.suffix)}"
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
    """Parse a JSON file in UTF-8, with or without a byte order mark.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not valid JSON; the message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from error


def read_text(path: str | os.PathLike[str]) -> str:
    """Read text in UTF-8, or in UTF-16 with a byte order mark, as editors on Windows write it.

    Raises:
        ValueError: the text has another encoding; the message names the file.
    """
    data = Path(path).read_bytes()
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8, got {error}") from error


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Write `obj` atomically as JSON, indented by 2 spaces, keys in insertion order.

    Raises:
        ValueError: `obj` contains NaN or an infinity, which JSON cannot represent.
    """
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Write torch tensors atomically as a safetensors file.

    Unlike the library's own writer, creates files with the default permissions (not readable by their owner only),
    raises OSError when the disk is full, and writes equal bytes for equal contents: the library writes the entries of
    `metadata` in an order that changes from process to process.
    """
    from safetensors.torch import save

    content = save(dict(tensors), metadata=dict(metadata) if metadata is not None else None)
    with atomic_path(path) as temporary:
        temporary.write_bytes(_with_sorted_metadata(content) if metadata else content)


def _with_sorted_metadata(content: bytes) -> bytes:
    """A safetensors file (header length in 8 bytes, JSON header, data) with sorted entries in `__metadata__`."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


def copy_unless_same(source: Path, target: Path) -> None:
    """Copy the contents of a file, unless `source` and `target` are the same file."""
    if not (target.exists() and target.samefile(source)):
        shutil.copyfile(source, target)


def media_path(path: str | os.PathLike[str]) -> str:
    """A path for FFmpeg: absolute, because FFmpeg takes the text before a colon in a relative path for a protocol."""
    return os.path.abspath(path)


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of the contents of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(folder: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 over the relative paths and contents of all files in a folder, in sorted order.

    Raises:
        FileNotFoundError: `folder` is not a folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder")
    digest = hashlib.sha256()
    for name in sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()):
        digest.update(f"{name}\0{sha256_file(root / name)}\n".encode())
    return digest.hexdigest()


_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextmanager
def _report_target(target: Path, temporary: Path) -> Iterator[None]:
    """Make OSErrors name the target instead of the temporary file, or instead of nothing when the disk is full."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _DISK_ERRORS:
            reported = target
        elif isinstance(error.filename, str) and Path(error.filename).is_relative_to(temporary):
            reported = target / Path(error.filename).relative_to(temporary)
        else:
            raise
        raise OSError(error.errno, error.strerror, str(reported)) from error


_HOST_ID = hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def _temporary_path(target: Path, state: str) -> Path:
    """An unused path in the folder of `target`; its name identifies the process that owns it."""
    owner = f"{_HOST_ID}-{os.getpid()}-{secrets.token_hex(3)}"
    return target.with_name(f".{_truncated(target.stem)}.{owner}.{state}.tmp{target.suffix}")


def _truncated(stem: str) -> str:
    """The first 120 bytes, in whole characters: names may have 255 bytes, and owner, state and suffix are added."""
    return os.fsencode(stem)[:120].decode(errors="ignore")


def _is_alive(pid: int) -> bool:
    """Whether a process of this machine is running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
