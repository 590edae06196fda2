"""The data card: what a data set holds, as Markdown with the front matter of dataset cards on the Hugging Face Hub."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fourdnex.datasets.annotated import read_annotated_table
from fourdnex.datasets.manifest import FILE, manifest_version, read_manifest
from fourdnex.datasets.shards import SourceShard
from fourdnex.io.files import atomic_path, sha256_file

if TYPE_CHECKING:
    import pandas as pd

CARD, SAMPLES = "README.md", "samples.jpg"
_NUM_SAMPLES, _COLUMNS, _SAMPLE_SIDE = 12, 4, 240
_MAX_ROWS = 20


def describe_data(data_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Counts of a data set: totals, and clips by subset, license, size, frame rate, length and tag.

    Raises:
        FileNotFoundError: there is no data set at `data_dir`.
        ValueError: the manifest is invalid.
    """
    table = read_manifest(data_dir)
    captions = table["caption"][table["caption"] != ""]
    sizes = table["height"].astype(str) + "x" + table["width"].astype(str)
    return {
        "clips": len(table),
        "frames": int(table["num_frames"].sum()),
        "hours": round(float((table["num_frames"] / table["fps"]).sum()) / 3600, 3),
        "shards": int(table["shard"].nunique()),
        "videos": int(table["video"].replace("", np.nan).nunique()),
        "clips_with_caption": len(captions),
        "distinct_captions": int(captions.nunique()),
        "manifest_version": manifest_version(data_dir),
        "manifest_sha256": sha256_file(Path(data_dir) / FILE),
        "clips_by_subset": _counts(table["subset"]),
        "clips_by_license": _counts(table["license"].replace("", "none stated")),
        "clips_by_size": _counts(sizes),
        "clips_by_frames": _counts(table["num_frames"]),
        "clips_by_fps": _counts(table["fps"].round(3)),
        "clips_by_tag": _counts(table["tags"].explode().dropna()),
    }


def describe_annotation(annotated_dir: str | os.PathLike[str], shards: Iterable[str]) -> dict[str, Any]:
    """Counts of annotated clips by annotator, and of failed clips by reason, over the shards that are annotated."""
    import pandas as pd

    folder = Path(annotated_dir)
    present = [shard for shard in shards if (folder / f"{shard}.parquet").is_file()]
    if not present:
        return {"annotated": 0, "failed": 0, "annotated_by": {}, "failed_by_reason": {}}
    table = pd.concat([read_annotated_table(folder, shard) for shard in present], ignore_index=True)
    done = table[table["reason"] == ""]
    annotators = done["annotator"] + " " + done["annotator_version"] + " (" + done["annotator_license"] + ")"
    reasons = table["reason"][table["reason"] != ""].str.split(r"[:(]", n=1, regex=True).str[0].str.strip()
    return {
        "annotated": len(done),
        "failed": len(reasons),
        "annotated_by": _counts(annotators),
        "failed_by_reason": _counts(reasons),
    }


def card_markdown(facts: dict[str, Any], *, title: str, with_samples: bool = False) -> str:
    """The card.

    Args:
        facts: from `describe_data`, joined with those of `describe_annotation` if there is one.
        title: name of the data set.
        with_samples: show the image `SAMPLES` from the same folder.
    """
    licenses = sorted(facts["clips_by_license"])
    parts = [
        "---",
        f"license: {_spdx(licenses)}",
        "task_categories: [image-to-video, image-to-3d]",
        f"size_categories: [{_size_category(facts['clips'])}]",
        "---",
        f"# {title}",
    ]
    totals = f"{facts['clips']:,} clips in {facts['shards']:,} shards"
    parts.append(f"{totals}: {facts['frames']:,} frames, {facts['hours']:g} hours.")
    if with_samples:
        parts.append(f"![A frame of {min(_NUM_SAMPLES, facts['clips'])} clips]({SAMPLES})")
    counts = {
        "videos": facts["videos"],
        "clips with a caption": facts["clips_with_caption"],
        "distinct captions": facts["distinct_captions"],
    }
    if "annotated" in facts:
        counts |= {"annotated clips": facts["annotated"], "clips that could not be annotated": facts["failed"]}
    parts.append(_table("count", counts))
    for heading, key in (
        ("license", "clips_by_license"), ("subset", "clips_by_subset"), ("size, height x width", "clips_by_size"),
        ("frames", "clips_by_frames"), ("frames per second", "clips_by_fps"), ("tag", "clips_by_tag"),
        ("annotator", "annotated_by"), ("not annotated because", "failed_by_reason"),
    ):  # fmt: skip
        if facts.get(key):
            parts.append(_table(heading, facts[key]))
    parts.append(f"Manifest of version {facts['manifest_version']}, sha256 `{facts['manifest_sha256']}`.")
    front, body = parts[:5], parts[5:]
    return "\n".join(front) + "\n\n" + "\n\n".join(body) + "\n"


def write_card(
    data_dir: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    annotated_dir: str | os.PathLike[str] | None = None,
    title: str | None = None,
) -> Path:
    """Write the card of a data set and an image of sample frames into `out_dir`; returns the path of the card.

    Raises:
        FileNotFoundError: there is no data set at `data_dir`.
        ValueError: the data set is damaged.
        OSError: the disk is full or not writable.
    """
    from PIL import Image

    facts, out = describe_data(data_dir), Path(out_dir)
    table = read_manifest(data_dir)
    if annotated_dir is not None:
        facts |= describe_annotation(annotated_dir, table["shard"].unique())
    out.mkdir(parents=True, exist_ok=True)
    if len(table):
        with atomic_path(out / SAMPLES) as temporary:
            Image.fromarray(sample_sheet(data_dir, table)).save(temporary, "JPEG", quality=88)
    text = card_markdown(facts, title=title or Path(data_dir).resolve().name, with_samples=bool(len(table)))
    with atomic_path(out / CARD) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return out / CARD


def sample_sheet(data_dir: str | os.PathLike[str], table: pd.DataFrame) -> np.ndarray:
    """The middle frames of clips from all parts of a data set in a grid, [H, W, 3] uint8."""
    import cv2

    from fourdnex.rendering.contact_sheet import contact_sheet

    rows = table.iloc[np.unique(np.linspace(0, len(table) - 1, _NUM_SAMPLES).astype(int))]
    images = []
    for name, shard in zip(rows["name"], rows["shard"], strict=True):
        frame = SourceShard(data_dir, shard).read(name).rgb
        frame = frame[len(frame) // 2]
        scale = _SAMPLE_SIDE / max(frame.shape[:2])
        side = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
        images.append(cv2.resize(frame, side, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC))
    return contact_sheet(images, _COLUMNS, cell_width=_SAMPLE_SIDE)


def _counts(values: pd.Series) -> dict[str, int]:
    """Value -> how often it occurs, most frequent first, equal counts by value."""
    counts = values.astype(str).value_counts()
    return {str(value): int(count) for value, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))}


def _table(heading: str, counts: dict[str, int]) -> str:
    """A Markdown table of counts; rare values are summed up in a last row."""
    rows = list(counts.items())
    if len(rows) > _MAX_ROWS:
        rest = rows[_MAX_ROWS - 1 :]
        rows = [*rows[: _MAX_ROWS - 1], (f"{len(rest)} others", sum(count for _, count in rest))]
    lines = [f"| {heading} | clips |" if heading != "count" else "| | count |", "| --- | ---: |"]
    return "\n".join([*lines, *(f"| {_escape(value)} | {count:,} |" for value, count in rows)])


def _escape(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _spdx(licenses: Sequence[str]) -> str:
    """The license field of the front matter: the identifier of the only license, in lower case, or "other"."""
    known = {"apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"}
    only = licenses[0].lower() if len(licenses) == 1 else ""
    return only if only in known else "other"


def _size_category(clips: int) -> str:
    """The size of a data set in the words of the Hugging Face Hub."""
    limits = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for limit, name in limits if clips < limit), "1M<n<10M")
