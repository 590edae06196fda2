"""What a person sees of an asset: images, tables, numbers and identity as Dagster metadata."""

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

_MAX_WIDTH = 960  # pixels: images are kept in the event log, so they are small
_GAP = 6  # pixels between the images of a sheet


def inline_image(rgb: np.ndarray) -> dg.MetadataValue:
    """An image [H, W, 3] uint8, inline."""
    from PIL import Image

    return _inline(Image.fromarray(rgb))


def image_file(path: Path) -> dg.MetadataValue:
    """An image file, inline; its path where there is no such file."""
    from PIL import Image

    if not path.is_file():
        return dg.MetadataValue.text(f"no image at {path}")
    with Image.open(path) as image:
        return _inline(image.convert("RGB"))


def contact_sheet(paths: Iterable[Path], *, columns: int = 4, tile: int = 180) -> dg.MetadataValue:
    """ImageInput files side by side, see `sheet`."""
    image = sheet(paths, columns=columns, tile=tile)
    return dg.MetadataValue.text("no image") if image is None else inline_image(image)


def sheet(paths: Iterable[Path], *, columns: int = 4, tile: int = 180) -> np.ndarray | None:
    """ImageInput files side by side, [H, W, 3] uint8, rows as high as the highest image in them; each fits a square of
    `tile` pixels. Files that are no images are left out; None when none is left."""
    from fourdnex.io.images import read_thumbnail
    from fourdnex.rendering.contact_sheet import contact_sheet as contact_sheet_of

    tiles = []
    for path in paths:
        try:
            tiles.append(np.asarray(read_thumbnail(path, tile)))
        except (OSError, ValueError):
            continue  # the asset that reads it names it among what was set aside
    if not tiles:
        return None
    return contact_sheet_of(tiles, columns, gap=_GAP, margin=0, cell_width=tile)


def viewer_links(url: str, collection: str, scenes: Mapping[str, Path]) -> dg.MetadataValue:
    """For each scene a link that opens it in the viewer of `make ui`, and the command that does so elsewhere."""
    lines = [
        f"- [{name}]({url}/{quote(collection)}/{quote(name)}/) or `fourdnex view {shlex.quote(str(folder))}`"
        for name, folder in scenes.items()
    ]
    return dg.MetadataValue.md("\n".join(lines) or "none")


def table(rows: Sequence[Mapping[str, Any]]) -> dg.MetadataValue:
    """Rows with the same keys, as a table. Numbers keep four digits after the point."""
    if not rows:
        return dg.MetadataValue.text("none")
    return dg.MetadataValue.table([dg.TableRecord({key: _cell(value) for key, value in row.items()}) for row in rows])


def reasons(failed: Iterable[tuple[str, str]]) -> dg.MetadataValue:
    """What was set aside, with its reason."""
    return table([{"name": name, "reason": reason} for name, reason in failed])


def shard_report(report: ShardReport) -> dict[str, Any]:
    """What a pass over one shard did."""
    return {
        "requested": report.requested,
        "done": report.done,
        "found finished": report.cached,
        "set aside": len(report.failed),
        "seconds": round(report.seconds, 2),
        "reasons": reasons(report.failed),
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
    return dg.MetadataValue.md(f"![image](data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()})")
