"""Captions of the images of a collection: from a table, from text files beside the images, or one for all.

The caption of an image is the first of these that exists and is not empty:
1. its line in the table: the file that is passed, or `captions.csv` or `captions.jsonl` in the collection's folder,
2. the text of `NAME.txt` beside `NAME.jpg`,
3. the prompt for all images,
4. the output of the captioner,
5. the default prompt.
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

IMAGE_COLUMNS, PROMPT_COLUMNS = ("image", "file"), ("prompt", "caption")
_FORMER_COLUMN = "picture"
MAX_BYTES = 65_536
"""Limit for a text file beside an image; no prompt is nearly as long."""


@dataclass(frozen=True, kw_only=True)
class Captions:
    """Captions of individual images, by path within the collection."""

    texts: dict[str, str] = field(default_factory=dict)
    """Captions of the images that have one."""
    errors: dict[str, str] = field(default_factory=dict)
    """Why the caption of an image cannot be read."""
    unmatched: tuple[str, ...] = ()
    """Lines of the table that name no image of the collection."""


def find_captions(source: Path, images: Iterable[Path], table: str | os.PathLike[str] | None = None) -> Captions:
    """Find the captions of individual images.

    Args:
        source: folder of the collection.
        images: its images.
        table: table of captions; None looks for one in the folder.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: the table cannot be read, lacks a column or captions an image twice, or the folder has two tables.
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
    lines: dict[str, str] = {}
    by_path, by_stem = _index(files)
    for name, prompt, where in _lines(_table(source, table)):
        path_in_table = _plain(name.replace("\\", "/").removeprefix("./"))
        matches = by_path.get(path_in_table) or by_stem.get(path_in_table) or []
        if not matches:
            unmatched.append(f"{where}: there is no image {name!r}")
        for file in matches:
            if file in lines:
                raise ValueError(
                    f"{where}: expected one caption for each image, but {lines[file]} captions {file!r} too"
                )
            lines[file] = where
            if prompt:
                texts[file] = prompt
                errors.pop(file, None)
    return Captions(
        texts={file: text for file, text in texts.items() if text}, errors=errors, unmatched=tuple(unmatched)
    )


def _read_beside(path: Path) -> str:
    """The caption in a text file, on one line."""
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{path}: expected a caption of at most {MAX_BYTES:,} bytes, got {size:,}")
    return " ".join(read_text(path).split())


def _table(source: Path, requested: str | os.PathLike[str] | None) -> Path | None:
    """The requested table, or the one in the folder."""
    if requested is not None:
        return Path(requested)
    found = [source / name for name in CAPTION_TABLES if (source / name).is_file()]
    if len(found) > 1:
        raise ValueError(f"{source}: expected one table of captions, got {' and '.join(path.name for path in found)}")
    return found[0] if found else None


def _lines(path: Path | None) -> list[tuple[str, str, str]]:
    """Image, prompt and location of each line of a table."""
    if path is None:
        return []
    kind = path.suffix.lower()
    if kind not in (".csv", ".tsv", ".jsonl"):
        raise ValueError(f"captions: {path}: expected a file NAME.csv, NAME.tsv or NAME.jsonl")
    text = read_text(path)
    rows = _json_rows(text, path) if kind == ".jsonl" else _csv_rows(text, path)
    return [(_value(row, IMAGE_COLUMNS, where), _value(row, PROMPT_COLUMNS, where), where) for row, where in rows]


def _csv_rows(text: str, path: Path) -> list[tuple[dict[str, Any], str]]:
    """Rows of a CSV or TSV table, each with its location."""
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, before = [], 1
    try:
        names = [_column(name or "") for name in reader.fieldnames or []]
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
    """Objects of a JSON lines file, each with its location."""
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines splits at U+2028 too, which JSON allows
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{where}: expected a JSON object, got {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{where}: expected a JSON object, got {line[:80]}")
        rows.append(({_column(key): value for key, value in row.items()}, where))
    return rows


def _column(name: str) -> str:
    """The name of a column as it is compared; the former name of `image` is accepted."""
    plain = name.strip().lower()
    return "image" if plain == _FORMER_COLUMN else plain


def _value(row: dict[str, Any], columns: Sequence[str], where: str) -> str:
    """The text in the first of `columns` that the row has, on one line."""
    found = [row[name] for name in columns if name in row]
    if not found:
        raise ValueError(f"{where}: expected {' or '.join(columns)}, got {', '.join(map(str, row))}")
    if found[0] is None:
        return ""
    if not isinstance(found[0], str):
        raise ValueError(f"{where}: expected text in {' or '.join(columns)}, got {found[0]!r}")
    return " ".join(found[0].split())


def _index(files: Iterable[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Files by path, and by path without suffix."""
    by_path: dict[str, list[str]] = {}
    by_stem: dict[str, list[str]] = {}
    for file in files:
        path = _plain(file)
        by_path.setdefault(path, []).append(file)
        by_stem.setdefault(path.removesuffix(Path(path).suffix), []).append(file)
    return by_path, by_stem


def _plain(path: str) -> str:
    """Normalize Unicode composition and runs of spaces."""
    return unicodedata.normalize("NFC", " ".join(path.split()))
