"""Dagster metadata for people: images, tables, numbers and identity."""

import base64
import io
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import numpy as np

from fourdnex.datasets.reports import ShardReport

_MAX_WIDTH = 960  # pixels: inline images are stored in the event log
_GAP = 6  # pixels between the images of a sheet


def inline_image(rgb: np.ndarray) -> dg.MetadataValue:
    """An image [H, W, 3] uint8, inline."""
    from PIL import Image

    return _inline(Image.fromarray(rgb))


def image_file(path: Path) -> dg.MetadataValue:
    """An image file, inline; a note with the path if there is no such file."""
    from PIL import Image

    if not path.is_file():
        return dg.MetadataValue.text(f"no image at {path}")
    with Image.open(path) as image:
        return _inline(image.convert("RGB"))


def contact_sheet(paths: Iterable[Path], *, columns: int = 4, tile: int = 180) -> dg.MetadataValue:
    """Image files side by side, inline; see `sheet`."""
    image = sheet(paths, columns=columns, tile=tile)
    return dg.MetadataValue.text("no image") if image is None else inline_image(image)


def sheet(paths: Iterable[Path], *, columns: int = 4, tile: int = 180) -> np.ndarray | None:
    """Image files side by side.

    Args:
        paths: files; those that cannot be read as images are skipped.
        columns: images per row.
        tile: size of the square that each image is fit into, pixels. A row is as high as its highest image.

    Returns:
        [H, W, 3] uint8; None if no file can be read.
    """
    from PIL import Image

    from fourdnex.io.images import read_thumbnail

    tiles = []
    for path in paths:
        try:
            tiles.append(read_thumbnail(path, tile))
        except (OSError, ValueError):
            continue  # the asset that processes the file reports it as failed
    if not tiles:
        return None
    columns = min(columns, len(tiles))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [max(small.height for small in row) + _GAP for row in rows]
    whole = Image.new("RGB", (columns * (tile + _GAP) - _GAP, sum(heights) - _GAP), "white")
    for row, top in zip(rows, np.cumsum([0, *heights]).tolist(), strict=False):
        for column, small in enumerate(row):
            whole.paste(small, (column * (tile + _GAP), top))
    return np.asarray(whole)


def viewer_links(url: str, collection: str, scenes: Mapping[str, Path]) -> dg.MetadataValue:
    """For each scene, a link that opens it in the viewer of `make ui`, and the equivalent command."""
    lines = [
        f"- [{name}]({url}/{quote(collection)}/{quote(name)}/) or `fourdnex view {shlex.quote(str(folder))}`"
        for name, folder in scenes.items()
    ]
    return dg.MetadataValue.md("\n".join(lines) or "none")


def table(rows: Sequence[Mapping[str, Any]]) -> dg.MetadataValue:
    """Rows with the same keys as a table; floats are rounded to four decimal places."""
    if not rows:
        return dg.MetadataValue.text("none")
    return dg.MetadataValue.table([dg.TableRecord({key: _cell(value) for key, value in row.items()}) for row in rows])


def failures(failed: Iterable[tuple[str, str]]) -> dg.MetadataValue:
    """A table of the failed items with their reasons."""
    return table([{"name": name, "reason": reason} for name, reason in failed])


def shard_report(report: ShardReport) -> dict[str, Any]:
    """Counts and failures of processing one shard."""
    return {
        "requested": report.requested,
        "done": report.done,
        "cached": report.cached,
        "failed": len(report.failed),
        "seconds": round(report.seconds, 2),
        "failures": failures(report.failed),
    }


def parquet_summary(path: Path) -> dg.MetadataValue:
    """For each numeric column of a Parquet table: number of values, minimum, median, maximum."""
    import pandas as pd

    numbers = pd.read_parquet(path).select_dtypes("number")
    rows = [
        {
            "column": name,
            "values": int(column.count()),
            "min": column.min(),
            "median": column.median(),
            "max": column.max(),
        }
        for name, column in numbers.items()
    ]
    return table(rows)


def identity(values: Mapping[str, Any]) -> dict[str, dg.MetadataValue]:
    """An identity as metadata, one entry per key; unknown values (None) are omitted."""
    return {key: dg.MetadataValue.text(str(value)) for key, value in values.items() if value is not None}


def _cell(value: Any) -> str | int | float | bool | None:
    """A value that a table can hold."""
    if isinstance(value, (float, np.floating)):
        return round(float(value), 4) if math.isfinite(value) else str(value)
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)


def _inline(image: Any) -> dg.MetadataValue:
    """A PIL image as Markdown with a JPEG data URL."""
    image.thumbnail((_MAX_WIDTH, 4 * _MAX_WIDTH))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return dg.MetadataValue.md(f"![image](data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()})")
