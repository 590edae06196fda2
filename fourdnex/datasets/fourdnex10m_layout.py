"""Where 4DNeX-10M keeps what.

- `{kind}/{subset}/...`, kind `dynamic` or `static`: the geometry, at the paths of `LAYOUTS`, start and end inclusive;
- `raw/{kind}/{subset}/{number}.mp4`, in static_1 `raw/static/static_1/{number}/images_4/`: the images;
- `caption/{subset}_with_caption_upload.csv`: columns number,caption.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NPZ = "frame_{start}{suffix}-frame_{end}{suffix}.npz"
_FIELDS = {
    "part": "[^/]+",
    "number": "(?P<number>[^/]+)",
    "name": ".*",
    "start": r"(?P<start>\d+)",
    "end": r"(?P<end>\d+)",
    "suffix": r"(?:\.\w+)?",
}


@dataclass(frozen=True)
class Layout:
    """What is particular to one subset."""

    kind: str
    annotator: str
    path: str
    """Of each clip's geometry, below the subset's folder."""

    @property
    def pattern(self) -> re.Pattern[str]:
        """Matches such a path; groups number, start and end."""
        return re.compile(re.sub(r"\\{(\w+)\\}", lambda field: _FIELDS[field[1]], re.escape(self.path)))


LAYOUTS = {
    "dynamic_1": Layout("dynamic", "monst3r", "{number}/{name}_{start}-{end}"),
    "dynamic_2": Layout("dynamic", "monst3r", "{number}/{name}_{start}-{end}"),
    "dynamic_3": Layout("dynamic", "megasam", "{number}/" + _NPZ),
    "static_1": Layout("static", "dust3r", "{number}/" + _NPZ),
    "static_2": Layout("static", "dust3r", "{part}/{number}/" + _NPZ),
}


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One annotated piece of a video, as its path tells it."""

    data: Path
    subset: str
    path: Path
    number: str
    start: str
    end: str

    @property
    def layout(self) -> Layout:
        return LAYOUTS[self.subset]

    @property
    def name(self) -> str:
        return f"{self.subset}-{self.number}-{self.start}-{self.end}"

    @property
    def num_frames(self) -> int:
        return int(self.end) - int(self.start) + 1

    @property
    def raw(self) -> Path:
        """Of the images, without ".mp4" or "images_4"."""
        return self.data / "raw" / self.layout.kind / self.subset / self.number

    @property
    def video(self) -> Path:
        return self.raw.with_name(f"{self.number}.mp4")

    def file(self, path: Path) -> Path:
        return file_inside(self.data, path)


def data_folder(root: Path) -> Path:
    """The folder with the data, links resolved: `root` or the `data` in it.

    Raises:
        FileNotFoundError: neither has `dynamic/` or `static/`.
    """
    for folder in (root, root / "data"):
        if any((folder / layout.kind).is_dir() for layout in LAYOUTS.values()):
            return folder.resolve()
    raise FileNotFoundError(f"{root}: expected dynamic/ or static/ of 4DNeX-10M in it or in its data/, found neither")


def walk(data: Path, subset: str) -> Iterator[Path]:
    """What lies where a subset's clips lie, and what stands in the way of it, sorted; hidden names are passed over."""
    layout = LAYOUTS[subset]
    yield from _walk(data / layout.kind / subset, layout.path.count("/"))


def _walk(folder: Path, levels: int) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if levels and path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            yield from _walk(path, levels - 1)
        elif not path.name.startswith("."):
            yield path


def piece_at(data: Path, subset: str, path: Path) -> Piece:
    """What a path below the subset's folder says.

    Raises:
        ValueError: it is none of this subset.
    """
    layout, base = LAYOUTS[subset], data / LAYOUTS[subset].kind / subset
    found = layout.pattern.fullmatch(path.relative_to(base).as_posix()) if path.is_relative_to(base) else None
    if found is None or ".." in path.parts or int(found["end"]) < int(found["start"]):
        raise ValueError(f"{path}: expected {layout.path} in {subset}")
    return Piece(data=data, subset=subset, path=path, **found.groupdict())


def file_inside(data: Path, path: Path) -> Path:
    """Where a file really lies.

    Raises:
        ValueError: it is not there, no file, or outside `data`.
    """
    try:
        real = path.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError, RuntimeError) as error:
        raise ValueError(f"{path}: expected a file, found none") from error
    if not (real.is_relative_to(data) and real.is_file()):
        raise ValueError(f"{path}: expected a file inside {data}, got {real}")
    return real
