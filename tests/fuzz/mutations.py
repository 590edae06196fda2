"""Fuzzing of file readers: seeded mutations of a valid file, and the check that a reader handles each of them.

A reader must return, or raise one of its documented errors (`ValueError` or `OSError`) with a message, within
`TIME_LIMIT` seconds, and without running a program, opening a connection or importing what a file names.
"""

import copy
import faulthandler
import io
import json
import math
import random
import signal
import struct
import sys
import threading
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TIME_LIMIT = 10
"""Seconds of processor time per case; six times as long by the clock, because other processes may be running. Native
code that does not return to Python ends the process after twelve times as long."""
DOCUMENTED = (ValueError, OSError)
Read = Callable[[Path], Any]
Mutate = Callable[[bytes, random.Random], bytes]

_FORBIDDEN = ("os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "pickle.find_class", "socket.connect",
              "subprocess.Popen", "webbrowser.open")  # fmt: skip
_INTERESTING_BYTES = (0, 1, 0x7F, 0x80, 0xFF)
_INTERESTING_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, -1e300, 1e400, math.nan, 1 << 31, 1 << 40, 1 << 70, 10**400),
    *("", "0", "../..", "a\0b", "\ud800", [], [[]], [None], {}, {"": None}),
)


def quick_or_slow(quick: int, slow: int) -> pytest.MarkDecorator:
    """Parametrize a test with its number of cases; the quick cases are the first of the slow ones."""
    return pytest.mark.parametrize("cases", [quick, pytest.param(slow, marks=pytest.mark.slow)])


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """One to four changes: flipped bits, replaced, inserted, removed, swapped or repeated bytes, or truncation."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        length = min(rng.choice((1, 1, 2, 4, 8, 64)), len(data) - at)
        match rng.randrange(8):
            case 0 | 1 if length:
                data[at] ^= 1 << rng.randrange(8)
            case 2 if length:
                data[at : at + length] = bytes(rng.choice(_INTERESTING_BYTES) for _ in range(length))
            case 3:
                data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 8, 64)))
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = data[at : at + 16 * length]
            case 6 if length:
                other = rng.randrange(len(data) - length + 1)
                data[at : at + length], data[other : other + length] = (
                    data[other : other + length],
                    data[at : at + length],
                )
            case 7:
                del data[at:]
    return bytes(data)


def mutate_header(content: bytes, rng: random.Random) -> bytes:
    """`mutate_bytes` within the first 512 bytes, where most formats have their sizes and types."""
    head = content[:512]
    return mutate_bytes(head, rng) + content[512:]


def mutate_bytes_or_header(content: bytes, rng: random.Random) -> bytes:
    """`mutate_bytes`, or `mutate_header`."""
    return (mutate_header if rng.random() < 0.5 else mutate_bytes)(content, rng)


def mutate_json(content: bytes, rng: random.Random) -> bytes:
    """One to three values or keys dropped, replaced, duplicated or swapped; in one of five cases, `mutate_bytes`."""
    if rng.random() < 0.2:
        return mutate_bytes(content, rng)
    return _json_bytes(mutate_value(json.loads(content), rng))


def mutate_json_lines(content: bytes, rng: random.Random) -> bytes:
    """One line of a JSON lines file mutated by `mutate_json`."""
    lines = content.splitlines()
    at = rng.randrange(len(lines))
    lines[at] = mutate_json(lines[at], rng)
    return b"\n".join(lines) + b"\n"


def mutate_safetensors(content: bytes, rng: random.Random) -> bytes:
    """The JSON header of a safetensors file mutated, in half of the cases with a correct length; or `mutate_bytes`."""
    if rng.random() < 0.3:
        return mutate_bytes(content, rng)
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    metadata = header.get("__metadata__", {})
    nested = [key for key, value in metadata.items() if value[:1] in ("{", "[")]
    if nested and rng.random() < 0.5:  # metadata of ours: JSON within a string
        key = rng.choice(nested)
        metadata[key] = json.dumps(mutate_value(json.loads(metadata[key]), rng))
    else:
        header = mutate_value(header, rng)
    text = _json_bytes(header)
    length = len(text) if rng.random() < 0.9 else rng.choice((0, 1, len(text) - 1, 1 << 40, (1 << 64) - 1))
    return length.to_bytes(8, "little") + text + content[8 + size :]


def mutate_deflated_safetensors(content: bytes, rng: random.Random) -> bytes:
    """One tensor of a safetensors file that is compressed by zlib, mutated and compressed again."""
    from safetensors.numpy import load, save

    size = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + size])["__metadata__"]
    tensors = load(content)
    name = rng.choice(sorted(tensors))
    part = zlib.compress(mutate_bytes(zlib.decompress(tensors[name].tobytes()), rng))
    return save(tensors | {name: np.frombuffer(part, np.uint8)}, metadata)


def mutate_zip(content: bytes, rng: random.Random) -> bytes:
    """One member of a ZIP file mutated, with a correct checksum; in three of ten cases, `mutate_bytes`."""
    if rng.random() < 0.3:
        return mutate_bytes(content, rng)
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(target, "w") as out:
        chosen = rng.choice(source.namelist())
        for name in source.namelist():
            member = source.read(name)
            out.writestr(name, mutate_bytes_or_header(member, rng) if name == chosen else member)
    return target.getvalue()


def mutate_png(content: bytes, rng: random.Random) -> bytes:
    """The type or content of one chunk of a PNG mutated, with a correct length and checksum."""
    chunks, at = [], 8
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append(content[at + 4 : at + 8 + size])
        at += size + 12
    chosen = rng.randrange(len(chunks))
    chunks[chosen] = mutate_bytes(chunks[chosen], rng).ljust(4, b"\0")
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks)), chunks[chosen])
    parts = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    return content[:8] + b"".join(parts)


def mutate_value(value: Any, rng: random.Random) -> Any:
    """A JSON value with one to three of its parts changed."""
    root = [copy.deepcopy(value)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        parent, key = rng.choice(list(_places(root)))
        match rng.randrange(6):
            case 0 if parent is not root:
                del parent[key]
            case 1 if isinstance(parent, dict):
                parent[rng.choice((*parent, "x", ""))] = parent.pop(key)
            case 2:
                other, other_key = rng.choice(list(_places(root)))
                parent[key] = copy.deepcopy(other[other_key])
            case 3 if isinstance(parent[key], int | float) and not isinstance(parent[key], bool):
                parent[key] = rng.choice((-parent[key], parent[key] * 1000, parent[key] + 1, str(parent[key])[:20]))
            case 4:
                parent[key] = [parent[key]]
            case _:
                parent[key] = copy.deepcopy(rng.choice(_INTERESTING_VALUES))
    return root[0]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """All containers of a JSON value with each of their keys or indices."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield value, key
        yield from _places(part)


def _json_bytes(value: Any) -> bytes:
    """JSON with NaN and infinities, which Python reads, and with lone surrogates."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def fuzz(
    file: Path,
    read: Read,
    *,
    cases: int,
    mutate: Mutate = mutate_bytes,
    after: Callable[[], None] = lambda: None,
    named: bool = True,
) -> Counter[str]:
    """Mutate a valid file `cases` times, and check that the reader handles each mutation.

    Args:
        file: the valid file; it is valid again afterwards.
        read: reads the file, completely.
        cases: number of mutations.
        mutate: the mutation.
        after: called after each mutation, for instance to update checksums in other files.
        named: whether error messages must contain the name of the file.

    Returns:
        Number of cases per result: "read", or the name of the error.
    """
    valid = file.read_bytes()
    read(file)  # imports what reading needs
    results: Counter[str] = Counter()
    try:
        for case in range(cases):
            mutated = mutate(valid, random.Random(f"{file.name}-{mutate.__name__}-{case}"))
            file.write_bytes(mutated)
            after()
            results[check_reader(read, file, case=f"case {case}", named=named)] += 1
    finally:
        file.write_bytes(valid)
        after()
    assert results.total() == cases
    return results


def check_reader(read: Read, file: Path, *, case: str = "", named: bool = True) -> str:
    """Call a reader once: it must return or raise a documented error in time; returns the result's name."""
    try:
        with warnings.catch_warnings(), time_limit(f"{file.name}, {case}"), nothing_is_executed():
            warnings.simplefilter("ignore")
            read(file)
    except DOCUMENTED as error:
        assert str(error), f"{file.name}, {case}: {type(error).__name__} without a message"
        assert not named or file.name in str(error), f"{file.name}, {case}: not named in {error!r}"
        return "OSError" if isinstance(error, OSError) else "ValueError"
    except Exception as error:
        raise AssertionError(f"{file.name}, {case}: expected ValueError or OSError, got {error!r}") from error
    return "read"


class OutOfTime(BaseException):
    """A reader took longer than `TIME_LIMIT`; not an `Exception`, so that no reader handles it."""


@contextmanager
def time_limit(title: str) -> Iterator[None]:
    """Raise `OutOfTime` in the block after `TIME_LIMIT` seconds of processor time, or six times as long."""

    def stop(*_: Any) -> None:
        raise OutOfTime(f"{title}: took more than {TIME_LIMIT} s")

    former = {number: signal.signal(number, stop) for number in (signal.SIGALRM, signal.SIGPROF)}
    faulthandler.dump_traceback_later(12 * TIME_LIMIT, exit=True, file=sys.__stderr__)
    signal.alarm(6 * TIME_LIMIT)
    signal.setitimer(signal.ITIMER_PROF, TIME_LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        for number, handler in former.items():
            signal.signal(number, handler)


class Executed(BaseException):
    """A reader executed something; not an `Exception`, so that no reader handles it."""


_watched_threads: set[int] = set()


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: raises for forbidden events in watched threads."""
    if event in _FORBIDDEN and threading.get_ident() in _watched_threads:
        raise Executed(f"{event} {arguments!r:.200}")


sys.addaudithook(_audit)  # hooks cannot be removed, so this one depends on `_watched_threads`


@contextmanager
def nothing_is_executed() -> Iterator[None]:
    """Raise `Executed` if the block runs a program, opens a connection, or unpickles a global."""
    _watched_threads.add(threading.get_ident())
    try:
        yield
    finally:
        _watched_threads.discard(threading.get_ident())
