"""Sizes for generation and training: about the base's area at the image's aspect ratio, without cropping.

Both sides are multiples of 16, so the aspect ratio is only approximately that of the image. Scales along x and y
therefore differ slightly, which the scene's intrinsics account for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from math import log, sqrt
from typing import Any, Literal

MULTIPLE = 16
"""Both sides are multiples of this: factor 8 of the VAE times patch size 2 of the transformer."""
MAX_RATIO = 3
"""Images beyond 3:1 or 1:3 are center-cropped to that ratio."""
AREA_TOLERANCE = 4 / 3
"""Max ratio between the area and the base's area, in both directions; large bases deviate far less."""
AREA_WEIGHT = 0.25
"""Weight of a deviation of the area relative to one of the aspect ratio."""
MAX_AREA = 4
"""Max ratio between the area of a requested size and the base's area, in both directions."""

MAX_LOSS = 1 / 8
"""Training clips are cropped to the base's size if this removes at most this share: fewer sizes give fuller batches."""

Size = Literal["image", "base"] | tuple[int, int]
"""image: the image's aspect ratio at the base's area; base: the base's size; or height and width."""
Rule = Literal["fixed", "area"]
"""Rule for `image` sizes: the nearest size, or that of the reference implementation (see `AdapterInfo.size`)."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Crop and scale from an image to the generated size."""

    image_size: tuple[int, int]
    """Height and width of the full upright image."""
    height: int
    width: int
    ratio: tuple[int, int]
    """Aspect ratio of the center crop: height and width, in any unit."""

    @property
    def crop_size(self) -> tuple[float, float]:
        """Height and width of the crop, in image pixels."""
        scale = max(self.ratio[0] / self.image_size[0], self.ratio[1] / self.image_size[1])
        return self.ratio[0] / scale, self.ratio[1] / scale

    @property
    def crop(self) -> tuple[float, float, float, float]:
        """The crop: left, top, right and bottom border, in image pixels."""
        (height, width), (crop_height, crop_width) = self.image_size, self.crop_size
        left, top = (width - crop_width) / 2, (height - crop_height) / 2
        return left, top, left + crop_width, top + crop_height

    @property
    def scale(self) -> tuple[float, float]:
        """Generated pixels per image pixel, along x and y."""
        return self.width / self.crop_size[1], self.height / self.crop_size[0]

    @property
    def pixel_aspect(self) -> float:
        """Scale along x over scale along y: fx / fy if the image has square pixels."""
        along_x, along_y = self.scale
        return along_x / along_y

    def to_json(self) -> dict[str, Any]:
        """Fields stored in scenes."""
        return {
            "image_size": list(self.image_size),
            "crop": [round(border, 3) for border in self.crop],
            "scale": [round(scale, 6) for scale in self.scale],
        }


def fit_image(image_size: tuple[int, int], base: tuple[int, int], *, size: Size = "image", rule: Rule = "fixed") -> Fit:
    """Fit an image of height and width `image_size` to a base of size `base`.

    `size` "image" keeps the image's aspect ratio (`nearest_size`, or `area_size` for `rule` "area"), and crops only
    beyond 3:1 or 1:3. Other sizes are covered, with a center crop.
    """
    if size == "image":
        ratio = _within_limits(image_size)
        height, width = (nearest_size if rule == "fixed" else area_size)(ratio, area=base[0] * base[1])
    else:
        height, width = ratio = base if size == "base" else size
    return Fit(image_size=image_size, height=height, width=width, ratio=ratio)


def fit_clip(clip_size: tuple[int, int], base: tuple[int, int]) -> Fit:
    """Fit a training clip of height and width `clip_size` to a base of size `base`.

    Like `fit_image`, but crops to the base's size if this removes at most an eighth of the clip.
    """
    cropped = fit_image(clip_size, base, size="base")
    share = cropped.crop_size[0] * cropped.crop_size[1] / (clip_size[0] * clip_size[1])
    return cropped if share >= 1 - MAX_LOSS else fit_image(clip_size, base)


@lru_cache(maxsize=1024)
def nearest_size(image_size: tuple[int, int], *, area: int) -> tuple[int, int]:
    """Height and width, multiples of 16, nearest in ratio to `image_size` (height, width) and in area to `area`.

    Minimizes |log ratio of aspect ratios| + 0.25 |log ratio of areas|, with the ratio of areas within 3/4 to 4/3.
    """
    ratio = image_size[0] / image_size[1]
    longest = round(sqrt(area * AREA_TOLERANCE * max(ratio, 1 / ratio))) // MULTIPLE + 1
    costs = {}
    for rows in range(1, longest + 1):
        for columns in range(1, longest + 1):
            height, width = MULTIPLE * rows, MULTIPLE * columns
            area_error = abs(log(height * width / area))
            if area_error <= log(AREA_TOLERANCE) + 1e-9:
                costs[height, width] = abs(log(height / width / ratio)) + AREA_WEIGHT * area_error
    # Prefer the larger of two equally good sizes.
    return min(costs, key=lambda size: (round(costs[size], 9), -size[0] * size[1]))


def area_size(image_size: tuple[int, int], *, area: int) -> tuple[int, int]:
    """Height and width of about `area` pixels in the ratio of `image_size` (height, width), rounded down.

    The rule of the reference implementation (3DTopia/4DNeX, core/inference/wan.py), except that sides have at least 16
    pixels.
    """
    ratio = image_size[0] / image_size[1]
    height, width = (round(side) // MULTIPLE * MULTIPLE for side in (sqrt(area * ratio), sqrt(area / ratio)))
    return max(MULTIPLE, height), max(MULTIPLE, width)


def parse_size(size: str | tuple[int, int], base: tuple[int, int]) -> Size:
    """Parse a requested size: "image", "base", (height, width), or a string such as "480x720".

    Raises:
        ValueError: if it is another value, a side is not a multiple of 16, or the area is outside of 1/4 to 4 times the
            base's.
    """
    if size == "image":
        return "image"
    if size == "base":
        return "base"
    if isinstance(size, str):
        match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", size)
        if match is None:
            raise ValueError(
                f"size: expected image, base, or height and width such as {base[0]}x{base[1]}, got {size!r}"
            )
        size = int(match[1]), int(match[2])
    height, width = size
    for name, side in (("height", height), ("width", width)):
        if side % MULTIPLE or side < MULTIPLE:
            nearest = max(1, round(side / MULTIPLE)) * MULTIPLE
            raise ValueError(
                f"size: expected a {name} that is a multiple of {MULTIPLE}, got {side}; nearest: {nearest}"
            )
    area, base_area = height * width, base[0] * base[1]
    if not base_area <= MAX_AREA * area or not area <= MAX_AREA * base_area:
        raise ValueError(
            f"size: expected {base_area // MAX_AREA:,} to {MAX_AREA * base_area:,} pixels "
            f"(the base has {base[0]}x{base[1]}), got {height}x{width} = {area:,}"
        )
    return height, width


def size_identity(size: Size) -> dict[str, str]:
    """Fields for a scene's identity; empty for the base's size, which was once the only one."""
    if size == "base":
        return {}
    return {"size": size if size == "image" else "{}x{}".format(*size)}


def _within_limits(image_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the center crop within the allowed aspect ratios."""
    height, width = image_size
    return min(height, MAX_RATIO * width), min(width, MAX_RATIO * height)
