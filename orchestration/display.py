"""What a person sees of an asset: pictures, tables, numbers and identity as Dagster metadata."""

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from fourdnex.datasets.reports import ShardReport

_MAX_WIDTH = 720  # pixels: pictures are kept in the event log, so they are small


def picture(image: np.ndarray) -> dg.MetadataValue:
    """A picture [H, W, 3] uint8, inline."""
    from PIL import Image

    return _inline(Image.fromarray(image))


def picture_file(path: Path) -> dg.MetadataValue:
    """A picture file, inline; its path where there is no such file."""
    from PIL import Image

    if not path.is_file():
        return dg.MetadataValue.text(f"no picture at {path}")
    with Image.open(path) as image:
        return _inline(image.convert("RGB"))


def contact_sheet(paths: Iterable[Path], *, columns: int = 4, tile: int = 180) -> dg.MetadataValue:
    """Picture files side by side, each within a square of `tile` pixels; files that are no pictures are left out."""
    from PIL import Image

    tiles = []
    for path in paths:
        try:
            with Image.open(path) as image:
                image.draft("RGB", (tile, tile))
                small = image.convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError):
            continue  # the asset that reads it names it among what was set aside
        small.thumbnail((tile, tile))
        tiles.append(small)
    if not tiles:
        return dg.MetadataValue.text("no picture")
    columns = min(columns, len(tiles))
    sheet = Image.new("RGB", (columns * tile, math.ceil(len(tiles) / columns) * tile), "white")
    for number, small in enumerate(tiles):
        sheet.paste(small, (number % columns * tile, number // columns * tile))
    return _inline(sheet)


def table(rows: Sequence[Mapping[str, Any]]) -> dg.MetadataValue:
    """Rows with the same keys, as a table. Numbers keep four digits after the point."""
    if not rows:
        return dg.MetadataValue.text("none")
    return dg.MetadataValue.table([dg.TableRecord({key: _cell(value) for key, value in row.items()}) for row in rows])


def reasons(set_aside: Iterable[tuple[str, str]]) -> dg.MetadataValue:
    """What was set aside, with its reason."""
    return table([{"name": name, "reason": reason} for name, reason in set_aside])


def shard_report(report: ShardReport) -> dict[str, Any]:
    """What a pass over one shard did."""
    return {
        "asked": report.asked,
        "done": report.done,
        "found finished": report.skipped,
        "set aside": len(report.set_aside),
        "seconds": round(report.seconds, 2),
        "reasons": reasons(report.set_aside),
    }


def parquet_summary(path: Path) -> dg.MetadataValue:
    """Each numeric column of a table: how many values, smallest, median, largest."""
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


def identity(known: Mapping[str, Any]) -> dict[str, dg.MetadataValue]:
    """The identity, one entry a key; what is unknown is left out."""
    return {key: dg.MetadataValue.text(str(value)) for key, value in known.items() if value is not None}


def _cell(value: Any) -> str | int | float | bool | None:
    if isinstance(value, (float, np.floating)):
        return round(float(value), 4) if math.isfinite(value) else str(value)
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)


def _inline(image: Any) -> dg.MetadataValue:
    image.thumbnail((_MAX_WIDTH, 4 * _MAX_WIDTH))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return dg.MetadataValue.md(f"![picture](data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()})")
