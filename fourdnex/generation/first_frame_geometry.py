"""First-frame geometry for adapters that were trained with a given start: from arrays, files or an annotator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fourdnex.annotation.base import Annotator
from fourdnex.clip import Clip
from fourdnex.geometry.cameras import intrinsics_of, unproject, usual_field_of_view
from fourdnex.model.adapter_files import read_adapter_info
from fourdnex.model.conditioning import normalized_first_pointmap
from fourdnex.model.presets import get_preset
from fourdnex.model.sizes import Fit

RATIO_TOLERANCE = 0.03
"""How far a start's width over height may be from its image's: depth is often found at multiples of 14 pixels."""
Start = str | Path | np.ndarray
Starts = Sequence[Start] | np.ndarray | Annotator


def default_network(model: str | Path, adapter: str | Path | None) -> str | None:
    """The depth network that comes with a base, for an adapter with a given start; None for all others."""
    if adapter is None or read_adapter_info(adapter).xyz_init == "plane":
        return None
    return get_preset(model).depth_network


def one_an_image(first_frame_geometry: Starts, count: int) -> list[Start] | Annotator:
    """The first_frame_geometry of `count` images as a list, or the annotator that finds them.

    Args:
        first_frame_geometry: a list, an array [count, H, W, 3] or [count, H, W], or an annotator.

    Raises:
        ValueError: something else, or first_frame_geometry of another number of images.
    """
    if isinstance(first_frame_geometry, np.ndarray):
        if first_frame_geometry.ndim not in (3, 4) or len(first_frame_geometry) != count:
            expected = f"[{count}, H, W, 3] or [{count}, H, W], one for each image"
            raise ValueError(f"first_frame_geometry: expected {expected}, got {first_frame_geometry.shape}")
        return list(first_frame_geometry)
    if isinstance(first_frame_geometry, str) or not (
        isinstance(first_frame_geometry, Sequence) or hasattr(first_frame_geometry, "annotate")
    ):
        raise ValueError(
            f"first_frame_geometry: expected a list or array with one for each image, or an annotator, got {first_frame_geometry!r}"
        )
    if not isinstance(first_frame_geometry, Sequence):
        return first_frame_geometry
    if len(first_frame_geometry) != count:
        raise ValueError(
            f"first_frame_geometry: expected one for each of {count} images, got {len(first_frame_geometry)}"
        )
    for start in first_frame_geometry:
        if not isinstance(start, (str, Path, np.ndarray)):
            raise ValueError(f"first_frame_geometry: expected arrays and .npy files, got {start!r}")
    return list(first_frame_geometry)


def read_first_pointmap(given: Start, fit: Fit, *, name: str) -> np.ndarray:
    """An image's point map in its camera's frame, [H, W, 3] float32, scaled and cut as the image is by `fit`.

    Args:
        given: a point map [h, w, 3] in the camera's frame (OpenCV axes: x right, y down, z forward) or depth [h, w] (z
            in that frame, seen by a camera of `usual_field_of_view`), or a .npy file of one; in any unit. Nothing is
            known where a number is not finite, a point is (0, 0, 0) or depth is 0. Its size may differ from the
            image's, its sides' ratio not.
        fit: how the image is scaled and cut.
        name: begins messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no array in the file, wrong shape or type, other axes (points behind the camera, or upside down),
            sides of another ratio than the image's, or no two valid points within the part of the image that is
            kept.
    """
    if not isinstance(given, np.ndarray):
        name = str(given)
        given = _from_file(given)
    if (
        given.dtype.kind not in "fiu"
        or given.ndim not in (2, 3)
        or 0 in given.shape
        or given.shape[2:] not in ((), (3,))
    ):
        raise ValueError(f"{name}: start: expected points [H, W, 3] or depth [H, W], got {given.shape} {given.dtype}")
    _check_ratio(given.shape[:2], fit.image_size, name)
    values = given.astype(np.float32)
    points = _unprojected(values, name) if values.ndim == 2 else _known_points(values, name)
    blank = np.zeros((1, *points.shape[:2], 3), np.uint8)
    clip = Clip(name="start", rgb=blank, imported_pointmaps=points[None])
    return _with_extent(clip.resized(fit.height, fit.width, ratio=fit.ratio).annotated_pointmaps()[0], name)


def annotated_first_pointmap(
    annotator: Annotator, rgb: np.ndarray, *, name: str, pixel_aspect: float = 1.0
) -> np.ndarray:
    """What an annotator finds in an image [H, W, 3] uint8 alone: its point map [H, W, 3] float32.

    Annotators take pixels for square. Where the image was stretched (`pixel_aspect`: scale of x over that of y), the
    points are put on the rays of its true pixels.

    Raises:
        ValueError: it finds nothing, with its reason, or no two points.
    """
    safe = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in name)
    clip = annotator.annotate(Clip(name=safe.strip(".") or "image", rgb=rgb[None]))
    points = clip.annotated_pointmaps()[0]
    if pixel_aspect != 1:
        points = points * np.array([pixel_aspect**-0.5, pixel_aspect**0.5, 1], np.float32)
    return _with_extent(points, name)


def _from_file(path: str | Path) -> np.ndarray:
    with open(path, "rb") as file:
        try:
            return np.lib.format.read_array(file, allow_pickle=False)
        except ValueError as error:
            raise ValueError(f"{path}: expected an array in a .npy file ({error})") from error


def _check_ratio(size: tuple[int, ...], image_size: tuple[int, int], name: str) -> None:
    (rows, columns), (height, width) = size, image_size
    if not 1 / (1 + RATIO_TOLERANCE) <= (columns * height) / (rows * width) <= 1 + RATIO_TOLERANCE:
        raise ValueError(
            f"{name}: start: expected sides in the ratio of the upright image's, {width} x {height}, "
            f"got {columns} x {rows}"
        )


def _with_extent(points: np.ndarray, name: str) -> np.ndarray:
    """`points` as they are, if the model can be shown them."""
    try:
        normalized_first_pointmap(points)
    except ValueError as error:
        raise ValueError(f"{name}: start: {error}") from error
    return points


def _known_points(points: np.ndarray, name: str) -> np.ndarray:
    """A point map [h, w, 3] with NaN where nothing is known, once its axes are seen to be a camera's of OpenCV."""
    known = np.isfinite(points).all(axis=-1) & points.any(axis=-1)
    x, y, z = points[known].T
    if (behind := (z <= 0)).any():
        raise ValueError(
            f"{name}: start: expected z > 0 at every known point, in OpenCV axes (x right, y down, z forward), got "
            f"{behind.mean():.0%} with z <= 0, down to {z.min():.4g}; points in OpenGL axes (y up, z backward) need y "
            "and z negated, unknown ones are (0, 0, 0) or NaN"
        )
    rows, columns = np.nonzero(known)
    for axis, along, value, place in (("x", "to the right", x / z, columns), ("y", "downward", y / z, rows)):
        varies = len(value) and np.ptp(value) > 0 and np.ptp(place) > 0
        if varies and np.corrcoef(value, place)[0, 1] < -0.5:
            raise ValueError(
                f"{name}: start: expected {axis} to grow {along} in the image, in OpenCV axes (x right, y down, z "
                f"forward), got the opposite; negate {axis}, or turn the array"
            )
    return np.where(known[..., None], points, np.float32(np.nan))


def _unprojected(depth: np.ndarray, name: str) -> np.ndarray:
    """Depth [h, w] to points [h, w, 3], seen by a camera in the middle of `usual_field_of_view`."""
    if (behind := int((depth < 0).sum())) > (depth > 0).sum():
        raise ValueError(
            f"{name}: start: expected depth above 0 (z in OpenCV axes, forward), got {behind} pixels below 0; "
            "depth in OpenGL axes needs its sign changed"
        )
    height, width = depth.shape
    intrinsics = intrinsics_of(usual_field_of_view(height, width), height=height, width=width)
    known = np.where(depth > 0, depth, np.float32(np.nan))
    return unproject(known[None], intrinsics, np.eye(4, dtype=np.float32)[None])[0]
