"""Reader of the public data set 4DNeX-10M in its distributed layout, see `fourdnex10m_layout`."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from pathlib import Path

from fourdnex.clip import Clip
from fourdnex.datasets.fourdnex10m_layout import (
    LAYOUTS,
    ClipFiles,
    find_data_dir,
    iter_clip_paths,
    parse_clip_path,
    resolve_inside,
)
from fourdnex.datasets.fourdnex10m_readers import READERS

LICENSE = "apache-2.0"
SUBSETS = tuple(LAYOUTS)
_SOURCE = "4DNeX-10M, "


def iter_clips(
    root: str | os.PathLike[str],
    *,
    subsets: Collection[str] | None = None,
    failed: list[tuple[str, str]] | None = None,
) -> Iterator[Clip]:
    """Iterate over the clips of 4DNeX-10M in order of subsets and paths, with one clip in memory at a time.

    A clip has a `name` ("static_1-{number}-{start}-{end}", as in its path), `subset`, `caption` ("" if there is none),
    `rgb` at the size of its geometry, `pointmaps` and `camera_to_world` in the frame of its first camera, `fps` (24 if
    there is no video), `tags` ("dynamic" or "static"), `source`, `license` and `annotator`. The unit of length is
    arbitrary and differs between clips.

    - Dynamic subsets have `depth`; values that are not finite and positive are invalid. `intrinsics` is the median over
      the frames if all frames agree with it within `clip_geometry.SAME_INTRINSICS` pixels. Otherwise it is None,
      and `imported_pointmaps` are computed with the intrinsics of each frame. `dynamic_mask` exists in dynamic_1 and
      dynamic_2 if any frame has one; frames without a mask are static.
    - Static subsets have `imported_pointmaps`; `depth`, `intrinsics` and `dynamic_mask` are None.
    - Rotations, which may be rounded in the files, are projected to the nearest rotation.
    - Frames of a video are numbered from 0 in dynamic_1 and dynamic_2, and from 1 in static_2, unless a file of the
      same video starts at frame 0. Frames of static_1 are image files with that number.

    Reading never executes code from the files, and links that lead outside `root` are refused.

    Args:
        root: directory with `dynamic/`, `static/`, `raw/` and `caption/`, or the parent of one that is named `data`.
        subsets: some of `SUBSETS`; None = all that are present.
        failed: receives (name, reason) of every clip that fails; iteration continues. None = the first failure raises.

    Raises:
        FileNotFoundError: there is no such data set at `root`, or a requested subset is missing.
        ValueError: an unknown subset. While iterating, without `failed`: unreadable captions or an invalid clip.
        OSError: an I/O error.
    """
    data = find_data_dir(Path(root))
    if unknown := sorted(set(subsets or ()) - set(SUBSETS)):
        raise ValueError(f"subsets: expected a subset of {', '.join(SUBSETS)}, got {', '.join(unknown)}")
    present = [subset for subset in SUBSETS if (data / LAYOUTS[subset].kind / subset).is_dir()]
    requested = [subset for subset in SUBSETS if subset in (present if subsets is None else subsets)]
    if not requested or not set(requested) <= set(present):
        expected, found = ", ".join(requested or SUBSETS), ", ".join(present) or "none"
        raise FileNotFoundError(f"{data}: expected {expected}, found {found}")
    return chain.from_iterable(_iter_subset(data, subset, failed) for subset in requested)


def read_clip(root: str | os.PathLike[str], source: str) -> Clip:
    """Read one clip by its `source`, as `iter_clips` returns it but without the caption.

    Raises:
        FileNotFoundError: there is no such data set at `root`.
        ValueError: `source` is not the source of a 4DNeX-10M clip, or the clip is invalid.
        OSError: an I/O error.
    """
    data, path = find_data_dir(Path(root)), Path(source.removeprefix(_SOURCE))
    if not source.startswith(_SOURCE) or len(path.parts) < 3 or path.parts[1] not in LAYOUTS:
        raise ValueError(f"source: expected the source of a 4DNeX-10M clip, got {source!r}")
    return _read_clip(parse_clip_path(data, path.parts[1], data / path), caption="")


def _iter_subset(data: Path, subset: str, failed: list[tuple[str, str]] | None) -> Iterator[Clip]:
    """Clips of one subset; see `iter_clips` for `failed`."""
    captions, problems = read_captions(data, subset)
    if problems and failed is None:
        raise ValueError(problems[0])
    if failed is not None:
        failed += [(f"{subset}: captions", problem) for problem in problems]
    names: set[str] = set()
    for path in iter_clip_paths(data, subset):
        name = path.relative_to(data).as_posix()
        try:
            files = parse_clip_path(data, subset, path)
            name = files.name
            if name in names:
                raise ValueError(f"{path}: expected one annotation of these frames, got a second one")
            names.add(name)
            yield _read_clip(files, caption_of(captions, files))
        except (ValueError, MemoryError) as error:
            if failed is None:
                raise ValueError(f"{name}: {error}") from error
            failed.append((name, str(error)))


def _read_clip(files: ClipFiles, caption: str) -> Clip:
    """Read one clip with the reader of its annotator."""
    fields = READERS[files.layout.annotator](files)
    return Clip(
        start=int(files.start) / float(fields.get("fps", 24.0)),
        name=files.name,
        caption=caption,
        subset=files.subset,
        tags=(files.layout.kind,),
        source=_SOURCE + files.path.relative_to(files.data).as_posix(),
        video=f"{files.subset}-{files.number}",
        license=LICENSE,
        annotator=files.layout.annotator,
        **fields,
    )


def read_captions(data: Path, subset: str) -> tuple[dict[str, str], list[str]]:
    """Captions of a subset by normalized video number, and what of the table could not be read.

    A caption that is not UTF-8 is empty. A table that cannot be read, or is not there, gives no captions.
    """
    path = data / "caption" / f"{subset}_with_caption_upload.csv"
    captions: dict[str, str] = {}
    problems: list[str] = []
    if not path.exists():
        return captions, problems
    try:
        with open(resolve_inside(data, path), encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            table = csv.DictReader(file)
            for row in table:
                caption = (row["caption"] or "").strip()
                if any("\udc80" <= letter <= "\udcff" for letter in caption):
                    problems.append(f"{path}: line {table.line_num}: expected UTF-8; the caption is left empty")
                    caption = ""
                captions.setdefault(_normalize_number(row["number"]), caption)
    except (csv.Error, KeyError, ValueError) as error:
        problems.append(f"{path}: expected a table with the columns number,caption: {error!r}")
    return captions, problems


def caption_of(captions: Mapping[str, str], files: ClipFiles) -> str:
    """The caption of a clip's video; empty without one."""
    return captions.get(_normalize_number(files.number), "")


def read_files(files: ClipFiles, caption: str = "") -> Clip:
    """The clip of parsed paths, see `iter_clips`.

    Raises:
        ValueError: the clip is invalid.
        OSError: an I/O error.
    """
    return _read_clip(files, caption)


def _normalize_number(number: str) -> str:
    """Video number without leading zeros and without a decimal ".0", both of which the tables may contain."""
    return number.strip().removesuffix(".0").lstrip("0") or "0"
