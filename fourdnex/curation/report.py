"""Scores of annotated shards, the table of accepted and rejected clips, and its contact sheet."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fourdnex.curation.rules import Rules, rejection_reasons
from fourdnex.curation.scores import HEIGHT, VERSION, WIDTH, Scores, score_clip
from fourdnex.datasets.annotated import iter_annotated, read_annotated_table
from fourdnex.datasets.reports import ShardReport
from fourdnex.io.files import atomic_path
from fourdnex.io.tables import read_parquet
from fourdnex.progress import track

if TYPE_CHECKING:
    import pandas as pd

SCORES = tuple(field.name for field in dataclasses.fields(Scores))
_KEY = ("name", "sha256", "annotator", "annotator_version", "scores_version")


@dataclass(frozen=True)
class CurationReport:
    """Result of curation."""

    accepted: int
    """Number of accepted clips."""
    rejected: int
    """Number of rejected clips."""
    table: pd.DataFrame
    """One row per clip: name, shard, accepted, reasons (list), metadata from the annotation, and every score."""


def score_shard(annotated_dir: str | os.PathLike[str], shard: str, scores_dir: str | os.PathLike[str]) -> ShardReport:
    """Score the annotated clips of one shard and write `{scores_dir}/{shard}.parquet`; existing scores are reused.

    A clip that fails has a row without scores and is tried again in the next run.

    Raises:
        FileNotFoundError: the shard is not annotated yet.
        ValueError: the files of the shard are corrupt.
        OSError: the disk is full or not writable.
    """
    import pandas as pd

    started = time.monotonic()
    annotated = read_annotated_table(annotated_dir, shard)
    annotated = annotated[annotated["reason"] == ""].assign(scores_version=VERSION)
    path = Path(scores_dir) / f"{shard}.parquet"
    cached = _read_scores(path)
    rows: dict[str, dict[str, Any]] = {}
    for row in annotated[list(_KEY)].to_dict("records"):
        old = cached.get(row["name"])
        if old is not None and all(old[column] == row[column] for column in _KEY):
            rows[row["name"]] = old
        else:
            rows[row["name"]] = row
    missing = [name for name, row in rows.items() if pd.isna(row.get(SCORES[0]))]
    failed = []
    clips = iter_annotated(annotated_dir, shard, missing) if missing else iter(())
    for clip in track(clips, desc=shard, unit="clip", total=len(missing)):
        try:
            rows[clip.name] |= dataclasses.asdict(score_clip(clip))
        except ValueError as error:
            failed.append((clip.name, str(error)))
    done = len(missing) - len(failed)
    if done or list(rows) != list(cached) or not path.is_file():
        table = pd.DataFrame([rows[name] for name in rows], columns=[*_KEY, *SCORES])
        with atomic_path(path) as temporary:
            table.to_parquet(temporary, index=False)
    return ShardReport(
        shard=shard,
        requested=len(rows),
        done=done,
        cached=len(rows) - len(missing),
        failed=tuple(failed),
        seconds=time.monotonic() - started,
    )


def curate(
    scores_dir: str | os.PathLike[str],
    annotated_dir: str | os.PathLike[str],
    out_path: str | os.PathLike[str],
    rules: Rules = Rules(),  # noqa: B008 - frozen
    *,
    shards: Sequence[str] | None = None,
) -> CurationReport:
    """Apply the rules to every clip of the annotated shards and write the table to `out_path` (Parquet).

    Clips whose annotation failed are rejected with the annotator's reason. The output is deterministic.

    Args:
        scores_dir: directory of `score_shard`.
        annotated_dir: directory of annotated shards.
        out_path: table to write.
        rules: thresholds.
        shards: shards to curate; None = all in `annotated_dir`.

    Raises:
        FileNotFoundError: no shard is annotated, or an annotated shard has no scores.
        ValueError: a table is corrupt.
    """
    import pandas as pd

    if shards is None:
        shards = sorted(path.stem for path in Path(annotated_dir).glob("[!.]*.parquet"))
    if not shards:
        raise FileNotFoundError(f"{annotated_dir}: expected annotated shards, found none: run `fourdnex annotate`")
    rows = []
    for shard in shards:
        scores = _read_scores(Path(scores_dir) / f"{shard}.parquet", must_exist=True)
        for row in read_annotated_table(annotated_dir, shard).to_dict("records"):
            rows.append(_curate_clip(row, scores.get(row["name"]), rules))
    table = pd.DataFrame(rows, columns=[*rows[0]])
    with atomic_path(out_path) as temporary:
        table.to_parquet(temporary, index=False)
    accepted = int(table["accepted"].sum())
    return CurationReport(accepted=accepted, rejected=len(table) - accepted, table=table)


def thumbnails(
    annotated_dir: str | os.PathLike[str], table: pd.DataFrame, limit: int = 24, *, columns: int = 6
) -> np.ndarray:
    """Contact sheet [H, W, 3] uint8 of at most `limit` annotated clips, evenly spaced over a curation table.

    Each clip is a column of three 64x96 images: first frame, last frame, and depth of the first frame (near is red, far
    is blue).
    """
    from fourdnex.rendering.contact_sheet import contact_sheet

    shown = table[table["mean_confidence"].notna()]
    shown = shown.iloc[np.unique(np.linspace(0, len(shown) - 1, min(limit, len(shown))).astype(int))]
    tiles = []
    for shard, names in shown.groupby("shard", sort=False)["name"]:
        for clip in iter_annotated(annotated_dir, str(shard), list(names)):
            tiles.append(_tile(clip.resized(HEIGHT, WIDTH)))
    if not tiles:
        return np.full((3 * HEIGHT, WIDTH, 3), 128, np.uint8)
    return contact_sheet(tiles, columns, gap=0)


def _curate_clip(row: dict[str, Any], scored: dict[str, Any] | None, rules: Rules) -> dict[str, Any]:
    """Row of the curation table from the annotation row and the scores of a clip."""
    values = {score: float("nan") if scored is None else scored[score] for score in SCORES}
    if row["reason"]:
        reasons: tuple[str, ...] = (f"not annotated: {row['reason']}",)
        values = dict.fromkeys(SCORES, float("nan"))
    elif scored is None or any(
        scored[column] != row[column] for column in ("sha256", "annotator", "annotator_version")
    ):
        reasons = ("not scored",)
    else:
        reasons = rejection_reasons(Scores(**values), rules)
    metadata = {column: row[column] for column in ("subset", "annotator", "annotator_version", "caption", "license")}
    return {
        "name": row["name"],
        "shard": row["shard"],
        "accepted": not reasons,
        "reasons": list(reasons),
        **metadata,
        **values,
    }


def _read_scores(path: Path, *, must_exist: bool = False) -> dict[str, dict[str, Any]]:
    """Clip -> row of a score table; empty if the file is absent or has other columns."""
    if not path.is_file():
        if must_exist:
            raise FileNotFoundError(f"{path}: {path.stem} is not scored yet: run `fourdnex curate`")
        return {}
    try:
        table = read_parquet(path)
    except ValueError as error:
        raise ValueError(f"{error}: remove it and run `fourdnex curate` again") from error
    if any(column not in table for column in (*_KEY, *SCORES)):
        return {}  # written by another version: score again
    return {row["name"]: row for row in table.to_dict("records")}


def _tile(clip: Any) -> np.ndarray:
    """Column of images of one clip, with a white border at the right and the bottom."""
    import cv2

    inverse = 1 / np.where(clip.depth[0] > 0, clip.depth[0], np.nan)
    low, high = np.nanpercentile(inverse, (2, 98))
    shade = np.nan_to_num(np.clip((inverse - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)
    depth = cv2.applyColorMap(shade, cv2.COLORMAP_TURBO)[..., ::-1]
    tile = np.concatenate([clip.rgb[0], clip.rgb[-1], depth], axis=0)
    tile[:, -1] = 255
    tile[-1] = 255
    return tile
