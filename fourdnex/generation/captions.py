"""Captions of a collection's images: from a table, from text files beside the images, or one for all.

What an image is captioned by is the first of these that says something:
1. its line in the table: the file that is named, or `captions.csv` or `captions.jsonl` in the collection's folder,
2. the text of `NAME.txt` beside `NAME.jpg`,
3. the prompt for all,
4. the captioner, if there is one,
5. the general prompt.
"""

from __future__ import annotations

import csv
import io
import json
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fourdnex.generation.image_listing import CAPTION_TABLES
from fourdnex.io.files import read_text

IMAGE_COLUMNS, PROMPT_COLUMNS = ("image", "image", "file"), ("prompt", "caption")
MAX_BYTES = 65_536
"""Of a text file beside an image: no prompt is nearly as long."""


@dataclass(frozen=True, kw_only=True)
class Captions:
    """The images' own captions, by their paths within the collection."""

    texts: dict[str, str] = field(default_factory=dict)
    """Only of images that have one."""
    errors: dict[str, str] = field(default_factory=dict)
    """Why an image's own caption cannot be read."""
    unmatched: tuple[str, ...] = ()
    """Lines of the table whose image is not there."""


def find_captions(source: Path, images: Iterable[Path], table: str | os.PathLike[str] | None = None) -> Captions:
    """The own captions of `images`, which lie in the folder `source`; without `table` that of the folder, if any.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: it cannot be read, has no such columns, captions one image twice, or there are two in the folder.
    """
    files = {path.relative_to(source).as_posix(): path for path in images}
    texts: dict[str, str] = {}
    errors: dict[str, str] = {}
    for file, path in files.items():
        if (beside := path.with_suffix(".txt")) != path and beside.is_file():
            try:
                texts[file] = _read_beside(beside)
            except (ValueError, OSError) as error:
                errors[file] = f"caption: {error}".replace(f"{beside}", beside.name)
    unmatched: list[str] = []
    known: dict[str, str] = {}
    by_path, by_stem = _index(files)
    for name, prompt, where in _lines(_table(source, table)):
        asked = _plain(name.replace("\\", "/").removeprefix("./"))
        matches = by_path.get(asked) or by_stem.get(asked) or []
        if not matches:
            unmatched.append(f"{where}: there is no image {name!r}")
        for file in matches:
            if file in known:
                raise ValueError(f"{where}: expected one caption for each image, {known[file]} captions {file!r} too")
            known[file] = where
            if prompt:
                texts[file] = prompt
                errors.pop(file, None)
    return Captions(
        texts={file: text for file, text in texts.items() if text}, errors=errors, unmatched=tuple(unmatched)
    )


def _read_beside(path: Path) -> str:
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{path}: expected a caption of at most {MAX_BYTES:,} bytes, got {size:,}")
    return " ".join(read_text(path).split())


def _table(source: Path, asked: str | os.PathLike[str] | None) -> Path | None:
    if asked is not None:
        return Path(asked)
    there = [source / name for name in CAPTION_TABLES if (source / name).is_file()]
    if len(there) > 1:
        raise ValueError(f"{source}: expected one table of captions, got {' and '.join(path.name for path in there)}")
    return there[0] if there else None


def _lines(path: Path | None) -> list[tuple[str, str, str]]:
    """ImageInput, prompt and place of each line of a table."""
    if path is None:
        return []
    kind = path.suffix.lower()
    if kind not in (".csv", ".tsv", ".jsonl"):
        raise ValueError(f"captions: {path}: expected a file NAME.csv, NAME.tsv or NAME.jsonl")
    text = read_text(path)
    rows = _json_rows(text, path) if kind == ".jsonl" else _csv_rows(text, path)
    return [(_value(row, IMAGE_COLUMNS, where), _value(row, PROMPT_COLUMNS, where), where) for row, where in rows]


def _csv_rows(text: str, path: Path) -> list[tuple[dict[str, Any], str]]:
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, before = [], 1
    try:
        names = [(name or "").strip().lower() for name in reader.fieldnames or []]
        for columns in (IMAGE_COLUMNS, PROMPT_COLUMNS):
            if not set(columns) & set(names):
                raise ValueError(f"{path}, line 1: expected a column {' or '.join(columns)}, got {', '.join(names)}")
        reader.fieldnames = names
        for row in reader:
            where = f"{path}, line {before + 1}"
            before = reader.line_num
            if None in row:
                expected = f"{len(names)} values; text with {delimiter!r} needs quotes"
                raise ValueError(f"{where}: expected {expected}, got {len(names) + len(row[None])}")
            rows.append((row, where))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: expected CSV, got {error}") from error
    return rows


def _json_rows(text: str, path: Path) -> list[tuple[dict[str, Any], str]]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{where}: expected a JSON object, got {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{where}: expected a JSON object, got {line[:80]}")
        rows.append((row, where))
    return rows


def _value(row: dict[str, Any], columns: Sequence[str], where: str) -> str:
    found = [row[name] for name in columns if name in row]
    if not found:
        raise ValueError(f"{where}: expected {' or '.join(columns)}, got {', '.join(map(str, row))}")
    if found[0] is None:
        return ""
    if not isinstance(found[0], str):
        raise ValueError(f"{where}: expected text in {' or '.join(columns)}, got {found[0]!r}")
    return " ".join(found[0].split())


def _index(files: Iterable[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The files of each path, and of each path without suffix."""
    by_path: dict[str, list[str]] = {}
    by_stem: dict[str, list[str]] = {}
    for file in files:
        path = _plain(file)
        by_path.setdefault(path, []).append(file)
        by_stem.setdefault(path.removesuffix(Path(path).suffix), []).append(file)
    return by_path, by_stem


def _plain(path: str) -> str:
    """Composed and decomposed letters are the same, and so are runs of spaces."""
    return unicodedata.normalize("NFC", " ".join(path.split()))
