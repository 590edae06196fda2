"""The mean point map of the training clips, a baseline that ignores the image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fourdnex.clip import Clip
from fourdnex.datasets.annotated import iter_annotated, read_annotated_table
from fourdnex.geometry.pointmaps import normalize_pointmaps
from fourdnex.latents.encoding import MIN_CONFIDENCE
from fourdnex.latents.selection import training_clips
from fourdnex.model.adapter import AdapterInfo


def mean_pointmap(annotated: Path, curated: Path, info: AdapterInfo) -> np.ndarray:
    """Mean normalized point map [T, H, W, 3] of the training clips: the best guess that ignores the image.

    Uses the exactly annotated clips among the accepted ones, or all accepted clips if none is exact. Clips whose point
    maps cannot be normalized, which encoding also skips, are left out. Pixels that are invalid in all clips are 0.

    Raises:
        FileNotFoundError: if the curated table or a shard is missing.
        ValueError: if no accepted clip has the adapter's number of frames and enough valid points.
    """
    total = np.zeros((info.num_frames, info.height, info.width, 3))
    count = np.zeros((info.num_frames, info.height, info.width, 1), int)
    for clip in _training_clips(annotated, curated, info.num_frames):
        window = clip.window(0, info.num_frames).resized(info.height, info.width)
        confident = None if window.confidence is None else window.confidence > MIN_CONFIDENCE
        try:
            normalized, _ = normalize_pointmaps(window.annotated_pointmaps(), per=info.normalization, mask=confident)
        except ValueError:
            continue
        valid = np.isfinite(normalized).all(axis=-1, keepdims=True)
        total += np.where(valid, normalized, 0)
        count += valid
    if not count.any():
        expected = f"expected accepted clips with at least {info.num_frames} frames and enough valid points"
        raise ValueError(f"annotated: {expected} in {annotated}, got none")
    return (total / np.maximum(count, 1)).astype(np.float32)


def _training_clips(annotated: Path, curated: Path, num_frames: int) -> Iterator[Clip]:
    """Training clips with at least `num_frames` frames: the exactly annotated ones, or all if none is exact."""
    long_enough = {}
    for shard, names in training_clips(curated).items():
        rows = read_annotated_table(annotated, shard)
        long_enough[shard] = rows[rows["name"].isin(names) & (rows["num_frames"] >= num_frames)]
    exact = {shard: rows[rows["annotator"] == "exact"] for shard, rows in long_enough.items()}
    for shard, rows in (exact if any(map(len, exact.values())) else long_enough).items():
        yield from iter_annotated(annotated, shard, set(rows["name"]))
