"""The public data set 4DNeX-10M, read as it is distributed (layout: `fourdnex10m_layout`)."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Iterator
from itertools import chain
from pathlib import Path

from fourdnex.clip import Clip
from fourdnex.datasets.fourdnex10m_layout import LAYOUTS, Piece, data_folder, file_inside, piece_at, walk
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
    """Clips of 4DNeX-10M, one in memory at a time, in the order of the subsets and of their paths.

    A clip has a `name` ("static_1-{number}-{start}-{end}", as in its path), `subset`, `caption` ("" where there is
    none), `rgb` at the size of its geometry, `pointmaps` and `camera_to_world` in the frame of its first camera, `fps`
    (24 where there is no video to tell), `tags` ("dynamic" or "static"), `source`, `license` and `annotator`. Units of
    length are arbitrary, other ones in each clip.

    - Dynamic subsets have `depth`; what is not finite or not above 0 is not known. `intrinsics` is the median over
      the frames where none is off it by more than `fourdnex10m_readers.SAME_INTRINSICS` pixels. Where one is, it is
      None, and `imported_pointmaps` are made with each frame's own. `dynamic_mask` is there in dynamic_1 and dynamic_2
      where any frame has one (in a frame without, nothing moves).
    - Static subsets have `imported_pointmaps`; `depth`, `intrinsics` and `dynamic_mask` are None.
    - Rotations, which the files may have rounded, become the nearest rotations.
    - Frames of a video are numbered from 0 in dynamic_1 and dynamic_2, and from 1 in static_2, unless a file of the
      same video begins with frame 0. Frames of static_1 are files of that name.

    Nothing that is read can run, and nothing outside `root` is read: a link that leads there is refused.

    Args:
        root: the folder that holds `dynamic/`, `static/`, `raw/` and `caption/`, or the one that has it as `data/`.
        subsets: some of `SUBSETS`; None = all that are there.
        failed: takes (name, reason) of each clip that cannot be read, and the rest goes on. None: the first raises.

    Raises:
        FileNotFoundError: `root` holds no such data set, or not a subset that is asked for.
        ValueError: an unknown subset; while iterating, captions that cannot be read or, without `failed`, a clip
            that cannot: the message names the file, what was expected and what came.
        OSError: a file is there and the machine cannot read it.
    """
    data = data_folder(Path(root))
    if unknown := sorted(set(subsets or ()) - set(SUBSETS)):
        raise ValueError(f"subsets: expected some of {', '.join(SUBSETS)}, got {', '.join(unknown)}")
    there = [subset for subset in SUBSETS if (data / LAYOUTS[subset].kind / subset).is_dir()]
    wanted = [subset for subset in SUBSETS if subset in (there if subsets is None else subsets)]
    if not wanted or not set(wanted) <= set(there):
        raise FileNotFoundError(f"{data}: expected {', '.join(wanted or SUBSETS)}, found {', '.join(there) or 'none'}")
    return chain.from_iterable(_clips(data, subset, failed) for subset in wanted)


def read_clip(root: str | os.PathLike[str], source: str) -> Clip:
    """One clip by its `source`, as `iter_clips` gives it, but for the caption.

    Raises:
        FileNotFoundError: `root` holds no such data set.
        ValueError: `source` is not that of such a clip, or the clip cannot be read.
        OSError: a file is there and the machine cannot read it.
    """
    data, path = data_folder(Path(root)), Path(source.removeprefix(_SOURCE))
    if not source.startswith(_SOURCE) or len(path.parts) < 3 or path.parts[1] not in LAYOUTS:
        raise ValueError(f"source: expected that of a clip of 4DNeX-10M, got {source!r}")
    return _read(piece_at(data, path.parts[1], data / path), caption="")


def _clips(data: Path, subset: str, failed: list[tuple[str, str]] | None) -> Iterator[Clip]:
    captions = _read_captions(data, subset)
    names: set[str] = set()
    for path in walk(data, subset):
        name = path.relative_to(data).as_posix()
        try:
            piece = piece_at(data, subset, path)
            name = piece.name
            if name in names:
                raise ValueError(f"{path}: expected one annotation of these frames, got another one")
            names.add(name)
            yield _read(piece, captions.get(_plain(piece.number), ""))
        except (ValueError, MemoryError) as error:
            if failed is None:
                raise ValueError(f"{name}: {error}") from error
            failed.append((name, str(error)))


def _read(piece: Piece, caption: str) -> Clip:
    return Clip(
        name=piece.name,
        caption=caption,
        subset=piece.subset,
        tags=(piece.layout.kind,),
        source=_SOURCE + piece.path.relative_to(piece.data).as_posix(),
        license=LICENSE,
        annotator=piece.layout.annotator,
        **READERS[piece.layout.annotator](piece),
    )


def _read_captions(data: Path, subset: str) -> dict[str, str]:
    """Caption of each video by its plain number; none where there is no table."""
    path = data / "caption" / f"{subset}_with_caption_upload.csv"
    if not path.exists():
        return {}
    captions: dict[str, str] = {}
    try:
        with open(file_inside(data, path), encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                captions.setdefault(_plain(row["number"]), (row["caption"] or "").strip())
    except (csv.Error, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a table with the columns number,caption: {error!r}") from error
    return captions


def _plain(number: str) -> str:
    """Tables may have taken the leading zeros from a video's number, or made it 12.0."""
    return number.strip().removesuffix(".0").lstrip("0") or "0"
