"""Point tracks: points with an identity over the frames of a scene."""

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
    """N points tracked through the T frames of a scene, ordered by first frame, then by pixel in row-major order.

    A track has a position in every frame from its first frame on, visible or not. Arrays are converted to the types
    below.

    Raises:
        ValueError: a field has the wrong shape, type or range; the message names the field.
    """

    positions: np.ndarray  # [N, T, 3] float32, world; NaN before the first frame, finite from it on
    visible: np.ndarray  # [N, T] bool, visible in the frame
    first_frame: np.ndarray  # [N] int32, non-decreasing
    pixel: np.ndarray  # [N, 2] int32, (row, column) in the first frame
    rgb: np.ndarray  # [N, 3] uint8, color of that pixel
    moves: np.ndarray  # [N] bool; the position of a static track is constant

    def __post_init__(self) -> None:
        sizes: dict[str | int, int] = {}
        for name, shape, dtype in _FIELDS:
            object.__setattr__(self, name, _converted(name, getattr(self, name), shape, dtype, sizes))
        num_frames = sizes["T"]
        if not ((self.first_frame >= 0) & (self.first_frame < num_frames)).all():
            raise ValueError(f"first_frame: expected frames from 0 to {num_frames - 1}")
        if (np.diff(self.first_frame) < 0).any():
            raise ValueError("first_frame: expected tracks in the order of their first frames")
        has_started = np.arange(num_frames) >= self.first_frame[:, None]
        if not (np.isfinite(self.positions).all(axis=-1) == has_started).all():
            raise ValueError("positions: expected NaN before the first frame and finite values from it on")
        if (self.visible & ~has_started).any():
            raise ValueError("visible: expected False before the first frame")
        if (self.pixel < 0).any():
            raise ValueError("pixel: expected non-negative rows and columns")

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def num_frames(self) -> int:
        """Number of frames T of the scene."""
        return self.positions.shape[1]

    def select(self, selection: np.ndarray) -> "Tracks":
        """A subset of the tracks, by a mask [N] or increasing indices."""
        return Tracks(**{name: getattr(self, name)[selection] for name, _, _ in _FIELDS})


def as_static(tracks: Tracks) -> Tracks:
    """The tracks with every position fixed to that of the first frame."""
    first = np.take_along_axis(tracks.positions, tracks.first_frame[:, None, None], axis=1)
    has_started = np.isfinite(tracks.positions)
    positions = np.where(tracks.moves[:, None, None] & has_started, first, tracks.positions)
    return replace(tracks, positions=positions, moves=np.zeros_like(tracks.moves))


def _converted(name: str, value: Any, shape: tuple[str | int, ...], dtype: type, sizes: dict[str | int, int]) -> Any:
    """The field as an array of its type, after checks of shape, kind and range; `sizes` collects named sizes."""
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
