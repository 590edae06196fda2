"""First-frame point maps: read from arrays and .npy files of points or depth, or estimated by an annotator."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fourdnex.annotation.base import ClipAnnotator
from fourdnex.clip import Clip
from fourdnex.geometry.cameras import default_field_of_view, intrinsics_from_field_of_view, unproject
from fourdnex.io.numpy_files import read_npy
from fourdnex.model.conditioning import normalized_first_pointmap
from fourdnex.model.sizes import Fit

RATIO_TOLERANCE = 0.03
"""Relative difference of aspect ratio between geometry and image that is accepted: many networks estimate depth at
multiples of 14 pixels."""
PointMapSource = str | Path | np.ndarray
"""A point map or depth of one image: an array, or a .npy file of one."""


def read_first_pointmap(source: PointMapSource, fit: Fit, *, name: str) -> np.ndarray:
    """The point map of an image in its camera's frame, [H, W, 3] float32, scaled and cropped like the image by `fit`.

    Args:
        source: a point map [h, w, 3] in the camera's frame (OpenCV axes: x right, y down, z forward) or depth [h, w] (z
            in that frame, for a camera of `default_field_of_view`), or a .npy file of one; in any unit. Pixels are
            unknown where a number is not finite, a point is (0, 0, 0) or depth is 0. The size may differ from the
            image's, the aspect ratio may not.
        fit: how the image is scaled and cropped.
        name: begins error messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no array; wrong shape or type; other axes (points behind the camera, or upside down);
            another aspect ratio than the image's; or fewer than two valid points within the crop.
    """
    if not isinstance(source, np.ndarray):
        name = str(source)
        source = read_npy(source)
    if (
        source.dtype.kind not in "fiu"
        or source.ndim not in (2, 3)
        or 0 in source.shape
        or source.shape[2:] not in ((), (3,))
    ):
        got = f"{source.shape} {source.dtype}"
        raise ValueError(f"{name}: first-frame geometry: expected points [H, W, 3] or depth [H, W], got {got}")
    _check_ratio(source.shape[:2], fit.image_size, name)
    values = source.astype(np.float32)
    points = _unproject_depth(values, name) if values.ndim == 2 else _mask_unknown(values, name)
    blank = np.zeros((1, *points.shape[:2], 3), np.uint8)
    clip = Clip(name="first-frame", rgb=blank, imported_pointmaps=points[None])
    return _check_extent(clip.resized(fit.height, fit.width, ratio=fit.ratio).annotated_pointmaps()[0], name)


def estimated_first_pointmap(
    annotator: ClipAnnotator, rgb: np.ndarray, *, name: str, pixel_aspect: float = 1.0
) -> np.ndarray:
    """The point map [H, W, 3] float32 that an annotator estimates from an image [H, W, 3] uint8 alone.

    Annotators assume square pixels. Where the image was stretched (`pixel_aspect`: scale of x over that of y), the
    points are moved to the rays of its true pixels.

    Raises:
        ValueError: the annotator fails, with its reason, or finds fewer than two points.
    """
    safe = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in name)
    clip = annotator.annotate(Clip(name=safe.strip(".") or "image", rgb=rgb[None]))
    points = clip.annotated_pointmaps()[0]
    if pixel_aspect != 1:
        points = points * np.array([pixel_aspect**-0.5, pixel_aspect**0.5, 1], np.float32)
    return _check_extent(points, name)


def _check_ratio(size: tuple[int, ...], image_size: tuple[int, int], name: str) -> None:
    """Raise ValueError if the aspect ratio of the geometry is not the image's."""
    (rows, columns), (height, width) = size, image_size
    if not 1 / (1 + RATIO_TOLERANCE) <= (columns * height) / (rows * width) <= 1 + RATIO_TOLERANCE:
        raise ValueError(
            f"{name}: first-frame geometry: expected the aspect ratio of the upright image, {width} x {height}, "
            f"got {columns} x {rows}"
        )


def _check_extent(points: np.ndarray, name: str) -> np.ndarray:
    """Return `points` if they can be normalized for the model."""
    try:
        normalized_first_pointmap(points)
    except ValueError as error:
        raise ValueError(f"{name}: first-frame geometry: {error}") from error
    return points


def _mask_unknown(points: np.ndarray, name: str) -> np.ndarray:
    """A point map [h, w, 3] with NaN at unknown pixels, after a check that its axes are OpenCV's."""
    known = np.isfinite(points).all(axis=-1) & points.any(axis=-1)
    x, y, z = points[known].T
    if (behind := (z <= 0)).any():
        raise ValueError(
            f"{name}: first-frame geometry: expected z > 0 at every known point, in OpenCV axes (x right, y down, z "
            f"forward), got {behind.mean():.0%} with z <= 0, down to {z.min():.4g}; negate y and z of points in OpenGL "
            "axes (y up, z backward); unknown points are (0, 0, 0) or NaN"
        )
    rows, columns = np.nonzero(known)
    for axis, along, value, place in (("x", "to the right", x / z, columns), ("y", "downward", y / z, rows)):
        varies = len(value) and np.ptp(value) > 0 and np.ptp(place) > 0
        if varies and np.corrcoef(value, place)[0, 1] < -0.5:
            raise ValueError(
                f"{name}: first-frame geometry: expected {axis} to grow {along} in the image, in OpenCV axes (x right, "
                f"y down, z forward), got the opposite; negate {axis}, or rotate the array"
            )
    return np.where(known[..., None], points, np.float32(np.nan))


def _unproject_depth(depth: np.ndarray, name: str) -> np.ndarray:
    """Depth [h, w] to points [h, w, 3], for a centered camera of `default_field_of_view`."""
    if (behind := int((depth < 0).sum())) > (depth > 0).sum():
        raise ValueError(
            f"{name}: first-frame geometry: expected depth above 0 (z in OpenCV axes, forward), got {behind} pixels "
            "below 0; depth in OpenGL axes needs its sign changed"
        )
    height, width = depth.shape
    intrinsics = intrinsics_from_field_of_view(default_field_of_view(height, width), height=height, width=width)
    known = np.where(depth > 0, depth, np.float32(np.nan))
    return unproject(known[None], intrinsics, np.eye(4, dtype=np.float32)[None])[0]
