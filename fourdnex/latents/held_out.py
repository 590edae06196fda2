"""Clips that are held out for evaluation, and the guard that no clip of their videos was trained on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fourdnex.datasets.manifest import FILE as MANIFEST
from fourdnex.io.renamed import renamed_columns
from fourdnex.io.tables import read_parquet
from fourdnex.latents.selection import TRAINING_SPLITS

if TYPE_CHECKING:
    import pandas as pd

SOURCE_COLUMNS = ("sha256", "source_sha256", "video")
"""Where a clip is from: digests of its own video and of its source file, and the name of its source video."""
RECORD = "clips.parquet"
"""File in the folder `training` of an adapter: the clips that it was trained on."""


def read_held_out(path: str | os.PathLike[str]) -> pd.DataFrame:
    """The held-out clips that a path names: one row per clip with `shard`, `name` and `SOURCE_COLUMNS`.

    Args:
        path: a folder of annotated shards or of a data set, a manifest, or a table of curated clips. Of a table with
            splits, the accepted clips outside the training split are held out; otherwise all clips of the table are.

    Raises:
        FileNotFoundError: there is no such file, or nothing to read in the folder.
        ValueError: a table cannot be read or lacks a column, or no clip is held out.
    """
    import pandas as pd

    path = Path(path)
    if path.is_dir() and (path / MANIFEST).is_file():
        path = path / MANIFEST
    if path.is_dir():
        files = sorted(path.glob("[!.]*.parquet"))
        if not files:
            raise FileNotFoundError(f"clips: expected annotated shards or a {MANIFEST} in {path}, found neither")
        table = pd.concat([read_parquet(file, columns=("name", "shard")) for file in files], ignore_index=True)
    else:
        table = read_parquet(path)
    table = renamed_columns(table, source=path)
    if missing := [column for column in ("name", "shard") if column not in table]:
        raise ValueError(f"{path}: missing columns: {', '.join(missing)}")
    chosen = pd.Series(True, index=table.index)
    if "reason" in table:  # of annotated shards: clips that could not be annotated
        chosen &= table["reason"].fillna("") == ""
    if "accepted" in table:
        chosen &= table["accepted"].fillna(False).astype(bool)
    if "split" in table:
        chosen &= ~table["split"].fillna("").isin(TRAINING_SPLITS)
    if not chosen.any():
        raise ValueError(f"clips: expected held-out clips in {path}, got none of its {len(table)} clips")
    return _with_sources(table[chosen].reset_index(drop=True))[["shard", "name", *SOURCE_COLUMNS]]


def training_sources(latents: Path, shards: list[str]) -> pd.DataFrame:
    """Name and sources of all clips of latent shards; latents of earlier versions have names only."""
    import pandas as pd

    tables = [_with_sources(read_parquet(latents / f"{shard}.parquet", columns=("name",))) for shard in shards]
    return pd.concat(tables, ignore_index=True)[["name", *SOURCE_COLUMNS]]


def trained_on(held_out: pd.DataFrame, training: pd.DataFrame) -> dict[str, str]:
    """Held-out clips that a model trained on the clips of `training` has seen: name -> reason.

    A clip was seen if its own video or its source file has the digest of a training clip's. The name of the source
    video decides where a digest of the source file is unknown, and the name of the clip where nothing else is known.
    """
    known = training[training["sha256"] != ""]
    nameless = training[training["source_sha256"] == ""]
    no_source = held_out["source_sha256"] == ""

    def among(column: str, values: pd.Series) -> pd.Series:
        """Whether the clips' values, unless empty, occur among those of the training clips."""
        return (held_out[column] != "") & held_out[column].isin(values)

    reasons = {
        "the same video is a training clip": among("sha256", training["sha256"]),
        "its source file has training clips": among("source_sha256", training["source_sha256"]),
        "its source video has training clips": (no_source & among("video", training["video"]))
        | among("video", nameless["video"]),
        "a training clip of unknown source has its name": among("name", training["name"].drop(known.index)),
    }
    seen: dict[str, str] = {}
    for reason, found in reasons.items():
        for name in held_out["name"][found]:
            seen.setdefault(str(name), reason)
    return seen


def check_not_trained_on(held_out: str | os.PathLike[str], latents: Path, shards: list[str]) -> None:
    """Refuse latents that contain held-out clips, or other clips of their videos.

    Raises:
        ValueError: there are such clips; the message names some.
    """
    seen = trained_on(read_held_out(held_out), training_sources(latents, shards))
    if seen:
        some = "; ".join(f"{name}: {reason}" for name, reason in list(seen.items())[:3])
        raise ValueError(
            f"held_out_clips: expected no clip of {held_out} among the training clips in {latents}, "
            f"got {len(seen)} ({some})"
        )


def _with_sources(table: pd.DataFrame) -> pd.DataFrame:
    """The table with all `SOURCE_COLUMNS` as text, empty where unknown."""
    return table.assign(
        **{column: table[column].fillna("").astype(str) if column in table else "" for column in SOURCE_COLUMNS}
    )
