"""Lifting generated scenes to the resolution of their photographs."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from fourdnex.cores import available_cores
from fourdnex.generation.camera_captions import mentions_content
from fourdnex.io.images import MAX_DECODED_PIXELS, fit_image, read_image
from fourdnex.lifting import Resolution, affordable_size, lift_scene, lifted_size
from fourdnex.model.sizes import Fit
from fourdnex.scene import Scene4D

_LOG = logging.getLogger(__name__)
ImageInput = str | Path | Image.Image | np.ndarray
"""An image as users pass it: a file, a PIL image, or [H, W, 3] uint8."""


def read_fitted(image: ImageInput, fit: Fit, name: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """The crop of an image that its scene shows, [H, W, 3] uint8 at `size` (None: the size of the generated frames)."""
    height, width = size or (fit.height, fit.width)
    if isinstance(image, (str, Path)):
        return read_image(image, height=height, width=width, ratio=fit.ratio)
    return fit_image(image, height=height, width=width, ratio=fit.ratio, name=name)


def lift_to_photo(scene: Scene4D, image: ImageInput, fit: Fit, resolution: Resolution, *, name: str) -> Scene4D:
    """The scene at the requested resolution, with the detail of the image.

    Args:
        scene: the generated scene. It is returned unchanged if the image has no more pixels than its frames.
        image: the photograph.
        fit: how it was scaled and cropped for the model.
        resolution: requested, see `fourdnex.lifting.parse_resolution`.
        name: begins log messages.

    Raises:
        ValueError: the image can no longer be read.
    """
    requested = lifted_size(fit.crop_size, (scene.height, scene.width), resolution)
    if requested is None:
        return scene
    size = _decodable_size(requested, fit, name)
    size = affordable_size(size, num_frames=scene.num_frames, threads=available_cores(), name=name)
    if size[0] < scene.height or size[1] < scene.width:
        return scene
    lifting = {"resolution": resolution, "lifted_from": [scene.height, scene.width]}
    describes_motion = mentions_content(scene.provenance.get("prompt", ""))
    result = lift_scene(scene, read_fitted(image, fit, name, size), object_motion=describes_motion)
    return replace(result, provenance=scene.provenance | lifting)


def _decodable_size(size: tuple[int, int], fit: Fit, name: str) -> tuple[int, int]:
    """The size, reduced for an image with so many pixels that it is decoded at 1/2, 1/4 or 1/8 of its size."""
    part = 1
    while fit.image_size[0] * fit.image_size[1] > MAX_DECODED_PIXELS * part**2:
        part *= 2
    longest = min(fit.image_size) // (2 * part)  # decoded at twice that or more, then averaged
    if part == 1 or max(size) <= longest:
        return size
    height, width = (max(2, side * longest // max(size) // 2 * 2) for side in size)
    found = "{} x {}".format(*fit.image_size)
    _LOG.warning("%s: too many pixels to decode (%s): %d x %d instead of %d x %d", name, found, height, width, *size)
    return height, width
