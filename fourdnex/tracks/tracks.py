"""Tracks: points of a scene that keep their identity over its frames."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

_FIELDS: tuple[tuple[str, tuple[str | int, ...], type], ...] = (
    ("positions", ("N", "T", 3), np.float32),
    ("visible", ("N", "T"), np.bool_),
    ("first_frame", ("N",), np.int32),
    ("pixel", ("N", 2), np.int32),
    ("rgb", ("N", 3), np.uint8),
    ("moves", ("N",), np.bool_),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tracks:
    """N points followed through the T frames of a scene, in the order of their first frames, then row-major.

    A track has a position in every frame from its first one on, seen or not. Arrays are converted to the types below.

    Raises:
        ValueError: a field has the wrong shape, type or range; the message names it.
    """

    positions: np.ndarray  # [N, T, 3] float32, world; NaN before the first frame, finite from it on
    visible: np.ndarray  # [N, T] bool, seen by the camera of the frame
    first_frame: np.ndarray  # [N] int32, not decreasing
    pixel: np.ndarray  # [N, 2] int32, (row, column) in the first frame
    rgb: np.ndarray  # [N, 3] uint8, of that pixel
    moves: np.ndarray  # [N] bool; a track that does not move has one position

    def __post_init__(self) -> None:
        sizes: dict[str | int, int] = {}
        for name, shape, dtype in _FIELDS:
            object.__setattr__(self, name, _converted(name, getattr(self, name), shape, dtype, sizes))
        num_frames = sizes["T"]
        if not ((self.first_frame >= 0) & (self.first_frame < num_frames)).all():
            raise ValueError(f"first_frame: expected frames from 0 to {num_frames - 1}")
        if (np.diff(self.first_frame) < 0).any():
            raise ValueError("first_frame: expected tracks in the order of their first frames")
        begun = np.arange(num_frames) >= self.first_frame[:, None]
        if not (np.isfinite(self.positions).all(axis=-1) == begun).all():
            raise ValueError("positions: expected NaN before the first frame and finite values from it on")
        if (self.visible & ~begun).any():
            raise ValueError("visible: expected False before the first frame")
        if (self.pixel < 0).any():
            raise ValueError("pixel: expected rows and columns from 0 on")

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def num_frames(self) -> int:
        return self.positions.shape[1]

    def select(self, chosen: np.ndarray) -> "Tracks":
        """Some of the tracks: a mask [N] or increasing indices."""
        return Tracks(**{name: getattr(self, name)[chosen] for name, _, _ in _FIELDS})


def as_static(tracks: Tracks) -> Tracks:
    """The tracks with every point where it is in its first frame."""
    first = np.take_along_axis(tracks.positions, tracks.first_frame[:, None, None], axis=1)
    begun = np.isfinite(tracks.positions)
    positions = np.where(tracks.moves[:, None, None] & begun, first, tracks.positions)
    return replace(tracks, positions=positions, moves=np.zeros_like(tracks.moves))


def _converted(name: str, value: Any, shape: tuple[str | int, ...], dtype: type, sizes: dict[str | int, int]) -> Any:
    array = np.asarray(value)
    kinds = {np.float32: "fiu", np.bool_: "b"}.get(dtype, "iu")
    expected = f"{name}: expected [{', '.join(map(str, shape))}] {np.dtype(dtype)}"
    if array.ndim != len(shape) or array.dtype.kind not in kinds:
        raise ValueError(f"{expected}, got {array.shape} {array.dtype}")
    for letter, size in zip(shape, array.shape, strict=True):
        if size != sizes.setdefault(letter, letter if isinstance(letter, int) else size) or (
            letter == "T" and not size
        ):
            raise ValueError(f"{expected}, got {array.shape}" + (f" with {sizes}" if sizes else ""))
    if kinds == "iu" and array.size and not np.iinfo(dtype).min <= array.min() <= array.max() <= np.iinfo(dtype).max:
        raise ValueError(f"{expected}, got values from {array.min()} to {array.max()}")
    return array.astype(dtype, copy=False)
