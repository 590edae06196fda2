"""Real clips for evaluation: held-out annotated clips, compared where their annotation is confident."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fourdnex.clip import Clip
from fourdnex.datasets.annotated import iter_annotated
from fourdnex.datasets.manifest import FILE as MANIFEST
from fourdnex.io.tables import read_parquet
from fourdnex.latents.held_out import RECORD, read_held_out, trained_on

MIN_KNOWN = 0.01
"""Share of confident pixels that every frame of a clip must have."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutClips:
    """Clips for evaluation; their depth is NaN where their annotation is not confident."""

    clips: tuple[Clip, ...]
    skipped: tuple[tuple[str, str], ...]
    """Name and reason of each held-out clip that cannot be used."""
    known_share: float
    """Share of the pixels that count."""
    training_is_recorded: bool
    """Whether the adapter records its training clips, so that clips of the same videos could be left out."""
    digest: str
    """Of names and contents of the clips."""

    def to_json(self) -> dict[str, Any]:
        """Entry of the report."""
        return {
            "names": [clip.name for clip in self.clips],
            "skipped": [list(pair) for pair in self.skipped],
            "known_share": self.known_share,
            "training_is_recorded": self.training_is_recorded,
        }


def read_held_out_clips(
    path: Path, *, annotated: Path, adapter: Path, size: tuple[int, int, int], min_confidence: float, max_clips: int
) -> HeldOutClips:
    """Read held-out clips, without those that the adapter was trained on, or whose source video it was trained on.

    Args:
        path: see `fourdnex.latents.held_out.read_held_out`.
        annotated: folder of annotated shards, unless `path` is one.
        adapter: adapter folder.
        size: frames, height and width; a clip is cropped at its center to this aspect ratio.
        min_confidence: pixels of lower confidence do not count.
        max_clips: of more clips, this number is taken at equal distances in the order of the table.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or no clip can be used.
    """
    path = Path(path)
    folder = path if path.is_dir() and not (path / MANIFEST).is_file() else Path(annotated)
    table = read_held_out(path)
    record = Path(adapter) / "training" / RECORD
    seen = trained_on(table, read_parquet(record)) if record.is_file() else {}
    skipped = [(name, f"held out, but {reason}") for name, reason in seen.items()]
    table = table[~table["name"].isin(seen)]
    if len(table) > max_clips:
        table = table.iloc[np.linspace(0, len(table) - 1, max_clips).astype(int)]
    clips: list[Clip] = []
    for shard, names in table.groupby("shard", sort=True)["name"]:
        found = set()
        for clip in iter_annotated(folder, str(shard), set(names)):
            found.add(clip.name)
            prepared = _prepared(clip, size, min_confidence)
            if isinstance(prepared, str):
                skipped.append((clip.name, prepared))
            else:
                clips.append(prepared)
        skipped += [(name, f"not annotated in {folder}") for name in names if name not in found]
    if not clips:
        some = "; ".join(f"{name}: {reason}" for name, reason in skipped[:3])
        raise ValueError(f"clips: expected held-out clips that can be evaluated in {path}, got none ({some})")
    return HeldOutClips(
        clips=tuple(clips),
        skipped=tuple(skipped),
        known_share=float(np.mean([_is_known(clip).mean() for clip in clips])),
        training_is_recorded=record.is_file(),
        digest=_digest(clips),
    )


def _prepared(clip: Clip, size: tuple[int, int, int], min_confidence: float) -> Clip | str:
    """The clip at this size with depth only where it is confident, or why it cannot be used."""
    num_frames, height, width = size
    if clip.num_frames < num_frames:
        return f"expected at least {num_frames} frames, got {clip.num_frames}"
    clip = clip.window(0, num_frames).resized(height, width)
    if clip.depth is None or clip.confidence is None:
        return "expected depth and confidence, got a clip that is not annotated"
    clip = replace(clip, depth=np.where(clip.confidence >= min_confidence, clip.depth, np.float32(np.nan)))
    lowest = _is_known(clip).mean(axis=(1, 2)).min()
    if lowest < MIN_KNOWN:
        return (
            f"expected at least {MIN_KNOWN:.0%} of the pixels of every frame with a confidence of {min_confidence}, "
            f"got {lowest:.1%}"
        )
    return clip


def _is_known(clip: Clip) -> np.ndarray:
    """Pixels that count, [T, H, W] bool."""
    assert clip.depth is not None
    known: np.ndarray = np.isfinite(clip.depth) & (clip.depth > 0)
    return known


def _digest(clips: list[Clip]) -> str:
    """Digest of the clips' names, images, captions and geometry."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(f"{clip.name}\n{clip.caption}\n".encode())
        for array in (clip.rgb, clip.depth, clip.intrinsics, clip.camera_to_world):
            assert array is not None
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
