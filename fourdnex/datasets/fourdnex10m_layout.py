"""Directory layout of 4DNeX-10M.

- `{kind}/{subset}/...`, kind `dynamic` or `static`: geometry at the paths of `LAYOUTS`; start and end are inclusive.
- `raw/{kind}/{subset}/{number}.mp4` (static_1: `raw/static/static_1/{number}/images_4/`): images.
- `caption/{subset}_with_caption_upload.csv`: captions, with the columns number,caption.
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
    """Layout of one subset."""

    kind: str
    """"dynamic" or "static"."""
    annotator: str
    """Key of `fourdnex10m_readers.READERS`."""
    path: str
    """Path template of a clip's geometry, relative to the subset's folder."""

    @property
    def pattern(self) -> re.Pattern[str]:
        """Pattern of `path`, with the groups number, start and end."""
        return re.compile(re.sub(r"\\{(\w+)\\}", lambda field: _FIELDS[field[1]], re.escape(self.path)))


LAYOUTS = {
    "dynamic_1": Layout("dynamic", "monst3r", "{number}/{name}_{start}-{end}"),
    "dynamic_2": Layout("dynamic", "monst3r", "{number}/{name}_{start}-{end}"),
    "dynamic_3": Layout("dynamic", "megasam", "{number}/" + _NPZ),
    "static_1": Layout("static", "dust3r", "{number}/" + _NPZ),
    "static_2": Layout("static", "dust3r", "{part}/{number}/" + _NPZ),
}


@dataclass(frozen=True, kw_only=True)
class ClipFiles:
    """Files of one annotated segment of a video, parsed from the path of its geometry."""

    data: Path
    subset: str
    path: Path
    number: str
    start: str
    end: str

    @property
    def layout(self) -> Layout:
        """Layout of the subset."""
        return LAYOUTS[self.subset]

    @property
    def name(self) -> str:
        """Name of the clip."""
        return f"{self.subset}-{self.number}-{self.start}-{self.end}"

    @property
    def num_frames(self) -> int:
        """Number of frames of the clip."""
        return int(self.end) - int(self.start) + 1

    @property
    def raw(self) -> Path:
        """Path of the images, without ".mp4" or "images_4"."""
        return self.data / "raw" / self.layout.kind / self.subset / self.number

    @property
    def video(self) -> Path:
        """Path of the source video."""
        return self.raw.with_name(f"{self.number}.mp4")

    def resolve(self, path: Path) -> Path:
        """Resolve a file inside the data set, see `resolve_inside`."""
        return resolve_inside(self.data, path)


def find_data_dir(root: Path) -> Path:
    """Resolved directory of the data: `root` or its subdirectory `data`.

    Raises:
        FileNotFoundError: neither contains `dynamic/` or `static/`.
    """
    for folder in (root, root / "data"):
        if any((folder / layout.kind).is_dir() for layout in LAYOUTS.values()):
            return folder.resolve()
    raise FileNotFoundError(
        f"{root}: expected dynamic/ or static/ of 4DNeX-10M in it or in its data/ folder, found neither"
    )


def iter_clip_paths(data: Path, subset: str) -> Iterator[Path]:
    """Sorted paths at the depth of a subset's clips, and unexpected files above it; hidden names are skipped."""
    layout = LAYOUTS[subset]
    yield from _iter_paths(data / layout.kind / subset, layout.path.count("/"))


def _iter_paths(folder: Path, levels: int) -> Iterator[Path]:
    """Paths `levels` below the contents of `folder`, and files above that level; links are not followed."""
    for path in sorted(folder.iterdir()):
        if levels and path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            yield from _iter_paths(path, levels - 1)
        elif not path.name.startswith("."):
            yield path


def parse_clip_path(data: Path, subset: str, path: Path) -> ClipFiles:
    """Parse the path of a clip's geometry.

    Raises:
        ValueError: the path does not match the layout of the subset.
    """
    layout, base = LAYOUTS[subset], data / LAYOUTS[subset].kind / subset
    found = layout.pattern.fullmatch(path.relative_to(base).as_posix()) if path.is_relative_to(base) else None
    if found is None or ".." in path.parts or int(found["end"]) < int(found["start"]):
        raise ValueError(f"{path}: expected a path of the form {layout.path} in {subset}")
    return ClipFiles(data=data, subset=subset, path=path, **found.groupdict())


def resolve_inside(data: Path, path: Path) -> Path:
    """Resolve the links of a path.

    Raises:
        ValueError: the path does not exist, is not a file, or resolves to a location outside `data`.
    """
    try:
        real = path.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError, RuntimeError) as error:
        raise ValueError(f"{path}: expected a file, found none") from error
    if not (real.is_relative_to(data) and real.is_file()):
        raise ValueError(f"{path}: expected a file inside {data}, got {real}")
    return real
