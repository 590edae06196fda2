"""Resizing images: the whole image to a size, or its center crop of another aspect ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class CenterCrop:
    """The centered part of an image that is scaled to another size."""

    scale_y: float
    """Target height divided by the height of the crop."""
    scale_x: float
    top: float
    """First row of the crop, in pixels from the image's border."""
    left: float
    box: tuple[float, float, float, float]
    """Left, top, right and bottom of the crop, as Pillow's `resize` expects them: within the image."""


def center_crop(
    source: tuple[int, int], height: int, width: int, *, ratio: tuple[float, float] | None = None
) -> CenterCrop:
    """The largest centered crop of an image that covers a size.

    Args:
        source: height and width of the image.
        height, width: target size.
        ratio: (height, width) of the crop, in any unit. Default: that of the target. Where it differs from the
            target's, the scales of x and y differ.
    """
    ratio = ratio or (height, width)
    cover = max(ratio[0] / source[0], ratio[1] / source[1])
    scale_y, scale_x = height / ratio[0] * cover, width / ratio[1] * cover
    top, left = (source[0] - height / scale_y) / 2, (source[1] - width / scale_x) / 2
    box = (
        max(left, 0.0),
        max(top, 0.0),
        min(left + width / scale_x, float(source[1])),
        min(top + height / scale_y, float(source[0])),
    )
    return CenterCrop(scale_y, scale_x, top, left, box)


def resize_and_crop(
    image: Image.Image | np.ndarray,
    height: int,
    width: int,
    *,
    ratio: tuple[float, float] | None = None,
    shrink: Literal["bicubic", "area"] = "bicubic",
) -> np.ndarray:
    """The center crop of an image at another size, as [height, width, 3] uint8.

    Args:
        image: RGB, a Pillow image or [H, W, 3] uint8.
        ratio: (height, width) of the crop, see `center_crop`.
        shrink: how images are made smaller: bicubic with anti-aliasing, or by the mean of the area that each pixel
            covers. They are enlarged by bicubic interpolation.
    """
    from PIL import Image

    pillow = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    crop = center_crop((pillow.height, pillow.width), height, width, ratio=ratio)
    by_area = shrink == "area" and crop.scale_y <= 1
    resample = Image.Resampling.BOX if by_area else Image.Resampling.BICUBIC
    return np.asarray(pillow.resize((width, height), resample, box=crop.box))


def resize_frame(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """A whole video frame [H, W, 3] uint8 at another size: each pixel is the mean of the area that it covers."""
    from PIL import Image

    if rgb.shape[:2] == (height, width):
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BOX))
