"""Annotated shards: `{shard}.safetensors` (arrays of all clips) and `{shard}.parquet` (one row a clip).

Keys are `{name}/rgb` uint8, `{name}/depth` float32, `{name}/confidence` uint8 (255 = 1), `{name}/dynamic_mask` uint8,
`{name}/intrinsics` and `{name}/camera_to_world` float32. A clip that no annotator could annotate has a row with its
`reason` and no arrays.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fourdnex.clip import Clip
from fourdnex.io.files import atomic_path
from fourdnex.io.renamed import renamed_columns

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "name", "shard", "sha256", "annotator", "annotator_version", "annotator_license", "reason", "subset", "num_frames",
    "height", "width", "fps", "caption", "tags", "source", "license", "seconds",
)  # fmt: skip
_ARRAYS = ("rgb", "depth", "confidence", "dynamic_mask", "intrinsics", "camera_to_world")
_DTYPES: dict[str, np.dtype[Any]] = {"U8": np.dtype(np.uint8), "F32": np.dtype(np.float32)}


def read_annotated_table(annotated_dir: str | os.PathLike[str], shard: str) -> pd.DataFrame:
    """Rows of one annotated shard, set-aside clips too, `tags` as tuples.

    Raises:
        FileNotFoundError: the shard is not annotated yet.
        ValueError: the file is not such a table.
    """
    import pandas as pd
    import pyarrow as pa

    path = Path(annotated_dir) / f"{shard}.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {shard} is not annotated yet: run `fourdnex annotate`")
    try:
        table = renamed_columns(pd.read_parquet(path), source=path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as Parquet: {error}") from error
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise ValueError(f"{path}: missing columns: {', '.join(missing)}")
    table["tags"] = [tuple(tags) for tags in table["tags"]]
    return table


def iter_annotated(
    annotated_dir: str | os.PathLike[str], shard: str, names: Collection[str] | None = None
) -> Iterator[Clip]:
    """The annotated clips of one shard, in the table's order; one clip at a time is in memory.

    Args:
        names: only these clips; None = all that are annotated.

    Raises:
        FileNotFoundError: the shard is not annotated yet.
        ValueError: its files are damaged or do not belong together.
    """
    from safetensors import SafetensorError, safe_open

    table = read_annotated_table(annotated_dir, shard)
    path = Path(annotated_dir) / f"{shard}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing beside its table: run `fourdnex annotate`")
    try:
        with safe_open(path, framework="numpy") as file:
            for row in table.to_dict("records"):
                if row["reason"] or (names is not None and row["name"] not in names):
                    continue
                arrays = {array: file.get_tensor(f"{row['name']}/{array}") for array in _ARRAYS}
                yield _to_clip(row, arrays)
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged ({error}): remove it and annotate again") from error


def clip_arrays(clip: Clip) -> dict[str, np.ndarray]:
    """What of an annotated clip is kept as arrays, in the types of the file.

    Raises:
        ValueError: the clip is not annotated.
    """
    if clip.depth is None or clip.intrinsics is None or clip.camera_to_world is None:
        raise ValueError(f"{clip.name}: expected depth, intrinsics and cameras, got a clip that is not annotated")
    confidence = np.isfinite(clip.depth) & (clip.depth > 0) if clip.confidence is None else clip.confidence
    mask = np.zeros(clip.rgb.shape[:3], bool) if clip.dynamic_mask is None else clip.dynamic_mask
    arrays = {
        "rgb": clip.rgb,
        "depth": clip.depth,
        "confidence": np.rint(confidence * np.float32(255)).astype(np.uint8),
        "dynamic_mask": mask.astype(np.uint8),
        "intrinsics": clip.intrinsics,
        "camera_to_world": clip.camera_to_world,
    }
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def write_annotated(
    annotated_dir: str | os.PathLike[str], shard: str, rows: list[dict[str, Any]], arrays: dict[str, Path]
) -> None:
    """Put a shard together: arrays first, the table last, so that a table always has its arrays.

    Args:
        arrays: annotated clip -> safetensors file that holds `{name}/...`. Clips are copied one by one: a shard need
            not fit in memory.

    Raises:
        OSError: no room, no permission.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = Path(annotated_dir)
    table = pa.Table.from_pylist([{column: row[column] for column in COLUMNS} for row in rows], schema=_schema())
    with atomic_path(folder / f"{shard}.safetensors") as temporary:
        _concatenate(temporary, arrays)
    with atomic_path(folder / f"{shard}.parquet") as temporary:
        pq.write_table(table, temporary)


def _schema() -> Any:
    import pyarrow as pa

    kinds = {"num_frames": pa.int64(), "height": pa.int64(), "width": pa.int64(), "fps": pa.float64(),
             "seconds": pa.float64(), "tags": pa.list_(pa.string())}  # fmt: skip
    return pa.schema([(column, kinds.get(column, pa.string())) for column in COLUMNS])


def _concatenate(target: Path, arrays: dict[str, Path]) -> None:
    """A safetensors file: length of the header (8 bytes), JSON header, then the bytes of every array in turn."""
    from safetensors import safe_open

    header: dict[str, Any] = {}
    end = 0
    for name, path in arrays.items():
        with safe_open(path, framework="numpy") as file:
            for array in _ARRAYS:
                tensor = file.get_slice(f"{name}/{array}")
                dtype, shape = tensor.get_dtype(), list(tensor.get_shape())
                size = int(np.prod(shape)) * _DTYPES[dtype].itemsize
                header[f"{name}/{array}"] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
                end += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(target, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name, path in arrays.items():
            with safe_open(path, framework="numpy") as file:
                for array in _ARRAYS:
                    out.write(file.get_tensor(f"{name}/{array}").tobytes())


def _to_clip(row: dict[str, Any], arrays: dict[str, np.ndarray]) -> Clip:
    return Clip(
        name=row["name"],
        rgb=arrays["rgb"],
        fps=row["fps"],
        caption=row["caption"],
        subset=row["subset"],
        tags=row["tags"],
        source=row["source"],
        license=row["license"],
        annotator=row["annotator"],
        depth=arrays["depth"],
        intrinsics=arrays["intrinsics"],
        camera_to_world=arrays["camera_to_world"],
        confidence=arrays["confidence"].astype(np.float32) / np.float32(255),
        dynamic_mask=arrays["dynamic_mask"].astype(bool),
    )


def save_arrays(path: Path, name: str, arrays: dict[str, np.ndarray]) -> None:
    """Arrays of one clip as a safetensors file of their own, whole or not at all (OSError when there is no room)."""
    from safetensors.numpy import save

    with atomic_path(path) as temporary:
        temporary.write_bytes(save({f"{name}/{array}": value for array, value in arrays.items()}))
