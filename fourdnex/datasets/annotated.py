"""Annotated shards: `{shard}.safetensors` (arrays of all clips) and `{shard}.parquet` (one row per clip).

Tensor keys are `{name}/rgb` uint8, `{name}/depth` float32, `{name}/confidence` uint8 (255 = 1), `{name}/dynamic_mask`
uint8, `{name}/intrinsics` and `{name}/camera_to_world` float32. A clip whose annotation failed has a row with the
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
from fourdnex.datasets.manifest import ADDED_COLUMNS
from fourdnex.extras import require
from fourdnex.io.files import atomic_path
from fourdnex.io.renamed import renamed_columns
from fourdnex.io.tables import read_parquet

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "name", "shard", "sha256", "annotator", "annotator_version", "annotator_license", "reason", "subset", "num_frames",
    "height", "width", "fps", "caption", "tags", "source", "license", "video", "shot", "start", "source_sha256",
    "max_pixels", "seconds",
)  # fmt: skip
_ADDED_COLUMNS = ADDED_COLUMNS | {"max_pixels": 0}
_ARRAYS = ("rgb", "depth", "confidence", "dynamic_mask", "intrinsics", "camera_to_world")
_DTYPES: dict[str, np.dtype[Any]] = {"U8": np.dtype(np.uint8), "F32": np.dtype(np.float32)}


def read_annotated_table(annotated_dir: str | os.PathLike[str], shard: str) -> pd.DataFrame:
    """Rows of one annotated shard, including failed clips, with `tags` as tuples.

    Raises:
        FileNotFoundError: the shard is not annotated yet.
        ValueError: the file is not readable as Parquet, columns are missing, or the rows belong to another shard.
    """
    require("pandas", feature="a data set")
    path = Path(annotated_dir) / f"{shard}.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {shard} is not annotated yet: run `fourdnex annotate`")
    table = renamed_columns(read_parquet(path), source=path)
    table = table.assign(**{column: value for column, value in _ADDED_COLUMNS.items() if column not in table})
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise ValueError(f"{path}: missing columns: {', '.join(missing)}")
    if len(others := table["shard"][table["shard"] != shard]):
        raise ValueError(f"{path}: expected rows of {shard}, got {others.iloc[0]!r}: the file has been renamed")
    table["tags"] = [tuple(tags) for tags in table["tags"]]
    return table


def iter_annotated(
    annotated_dir: str | os.PathLike[str], shard: str, names: Collection[str] | None = None
) -> Iterator[Clip]:
    """Iterate over the annotated clips of one shard in table order, with one clip in memory at a time.

    Args:
        names: clips to read; None = all annotated clips.

    Raises:
        FileNotFoundError: the shard is not annotated yet.
        ValueError: the files of the shard are corrupt or inconsistent.
    """
    from safetensors import SafetensorError, safe_open

    table = read_annotated_table(annotated_dir, shard)
    path = Path(annotated_dir) / f"{shard}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing, although its table exists: run `fourdnex annotate`")
    try:
        with safe_open(path, framework="numpy") as file:
            for row in table.to_dict("records"):
                if row["reason"] or (names is not None and row["name"] not in names):
                    continue
                arrays = {array: file.get_tensor(f"{row['name']}/{array}") for array in _ARRAYS}
                yield _to_clip(row, arrays)
    except SafetensorError as error:
        raise ValueError(f"{path}: corrupt ({error}): remove it and run `fourdnex annotate` again") from error


def clip_row(clip: Clip, shard: str, **values: Any) -> dict[str, Any]:
    """Row of the table of a clip that is no part of a data set; `values` replace those of the clip and the defaults."""
    row = {column: getattr(clip, column, "") for column in COLUMNS}
    return row | {"shard": shard, "max_pixels": 0, "seconds": 0.0, "tags": list(clip.tags)} | values


def clip_arrays(clip: Clip) -> dict[str, np.ndarray]:
    """Arrays of an annotated clip in the data types of the file.

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
    """Write one annotated shard: arrays first, the table last, so that a table always has its arrays.

    Args:
        annotated_dir: output directory.
        shard: name of the shard.
        rows: one row per clip, with the keys `COLUMNS`.
        arrays: annotated clip -> safetensors file with its `{name}/...` tensors. Clips are copied one at a time, so a
            shard does not have to fit in memory.

    Raises:
        OSError: the disk is full or not writable.
    """
    require("pyarrow", feature="a data set")
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = Path(annotated_dir)
    table = pa.Table.from_pylist([{column: row[column] for column in COLUMNS} for row in rows], schema=_schema())
    with atomic_path(folder / f"{shard}.safetensors") as temporary:
        _concatenate(temporary, arrays)
    with atomic_path(folder / f"{shard}.parquet") as temporary:
        pq.write_table(table, temporary)


def _schema() -> Any:
    """Arrow schema of the table."""
    import pyarrow as pa

    kinds = {"num_frames": pa.int64(), "height": pa.int64(), "width": pa.int64(), "fps": pa.float64(),
             "seconds": pa.float64(), "tags": pa.list_(pa.string()), "shot": pa.int64(), "max_pixels": pa.int64(),
             "start": pa.float64()}  # fmt: skip
    return pa.schema([(column, kinds.get(column, pa.string())) for column in COLUMNS])


def _concatenate(target: Path, arrays: dict[str, Path]) -> None:
    """Concatenate safetensors files: header length (8 bytes), JSON header, then the bytes of every array."""
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
    """A clip from its table row and its stored arrays."""
    return Clip(
        name=row["name"],
        rgb=arrays["rgb"],
        fps=row["fps"],
        caption=row["caption"],
        subset=row["subset"],
        tags=row["tags"],
        source=row["source"],
        license=row["license"],
        video=row["video"],
        shot=int(row["shot"]),
        start=float(row["start"]),
        source_sha256=row["source_sha256"],
        annotator=row["annotator"],
        depth=arrays["depth"],
        intrinsics=arrays["intrinsics"],
        camera_to_world=arrays["camera_to_world"],
        confidence=arrays["confidence"].astype(np.float32) / np.float32(255),
        dynamic_mask=arrays["dynamic_mask"].astype(bool),
    )


def save_arrays(path: Path, name: str, arrays: dict[str, np.ndarray]) -> None:
    """Write the arrays of one clip to a safetensors file, atomically.

    Raises:
        OSError: the disk is full or not writable.
    """
    from safetensors.numpy import save

    with atomic_path(path) as temporary:
        temporary.write_bytes(save({f"{name}/{array}": value for array, value in arrays.items()}))
