"""The size that an image keeps its ratio at."""

from math import sqrt

MULTIPLE = 16
"""Both sides are multiples of it: 8 of the VAE times 2 of the transformer's patches."""


def area_size(image_size: tuple[int, int], *, area: int) -> tuple[int, int]:
    """Height and width of about `area` pixels in the ratio of `image_size` (height, width), rounded down.

    The rule of the reference implementation (3DTopia/4DNeX, core/inference/wan.py), but that a side has at least 16
    pixels.
    """
    ratio = image_size[0] / image_size[1]
    height, width = (round(side) // MULTIPLE * MULTIPLE for side in (sqrt(area * ratio), sqrt(area / ratio)))
    return max(MULTIPLE, height), max(MULTIPLE, width)
