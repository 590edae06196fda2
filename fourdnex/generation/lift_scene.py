"""Lifting generated scenes to their photographs."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from fourdnex.cores import available_cores
from fourdnex.generation.camera_captions import tells_of_things
from fourdnex.io.images import MAX_DECODED_PIXELS, fit_image, read_image
from fourdnex.lifting import Resolution, affordable_size, lift_scene, lifted_size
from fourdnex.model.sizes import Fit
from fourdnex.scene import Scene4D

_LOG = logging.getLogger(__name__)
ImageInput = str | Path | Image.Image | np.ndarray


def read_fitted(image: ImageInput, fit: Fit, name: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """The part of an image that a scene shows, [H, W, 3] uint8 of `size`; None: the size that is generated."""
    height, width = size or (fit.height, fit.width)
    if isinstance(image, (str, Path)):
        return read_image(image, height=height, width=width, ratio=fit.ratio)
    return fit_image(image, height=height, width=width, ratio=fit.ratio, name=name)


def lifted(scene: Scene4D, image: ImageInput, fit: Fit, resolution: Resolution, *, name: str) -> Scene4D:
    """The scene at a resolution, with the image's detail; as it is where that has no more pixels.

    Raises:
        ValueError: the image cannot be read any more.
    """
    asked = lifted_size(fit.kept, (scene.height, scene.width), resolution)
    if asked is None:
        return scene
    size = _decodable(asked, fit, name)
    size = affordable_size(size, num_frames=scene.num_frames, threads=available_cores(), name=name)
    if size[0] < scene.height or size[1] < scene.width:
        return scene
    known = {"resolution": resolution, "lifted_from": [scene.height, scene.width]}
    asked_to_move = tells_of_things(scene.provenance.get("prompt", ""))
    finer = lift_scene(scene, read_fitted(image, fit, name, size), asked_to_move=asked_to_move)
    return replace(finer, provenance=scene.provenance | known)


def _decodable(size: tuple[int, int], fit: Fit, name: str) -> tuple[int, int]:
    """The size, or a smaller one for which an image with too many pixels is decoded at 1/2, 1/4 or 1/8."""
    part = 1
    while fit.image_size[0] * fit.image_size[1] > MAX_DECODED_PIXELS * part**2:
        part *= 2
    longest = min(fit.image_size) // (2 * part)  # both sides are decoded at twice that or more, and then averaged
    if part == 1 or max(size) <= longest:
        return size
    height, width = (max(2, side * longest // max(size) // 2 * 2) for side in size)
    found = "{} x {}".format(*fit.image_size)
    _LOG.warning("%s: %s pixels are too many to decode; %d x %d instead of %d x %d", name, found, height, width, *size)
    return height, width
