"""How a camera may have taken an image: tone, vignette, blur, noise and JPEG. Geometry stays as it is."""

from __future__ import annotations

import io

import numpy as np


def degrade_image(rgb: np.ndarray, rng: np.random.Generator, *, strength: float = 1.0) -> np.ndarray:
    """An image [H, W, 3] uint8 as another camera would have it; each change is made to a part of the images.

    `strength` scales all changes; 0 leaves the image as it is.
    """
    from PIL import Image, ImageFilter

    image = rgb.astype(np.float32) / 255
    if rng.random() < 0.8 * strength:
        image = _toned(image, rng)
    if rng.random() < 0.25 * strength:
        image = image * _vignette(image.shape, rng)
    pixels = (image.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.35 * strength:
        blur = ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.1)))
        pixels = np.asarray(Image.fromarray(pixels).filter(blur))
    if rng.random() < 0.4 * strength:
        noise = rng.normal(0, rng.uniform(1, 12), size=pixels.shape if rng.random() < 0.5 else (*pixels.shape[:2], 1))
        pixels = (pixels + noise).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.3 * strength:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=int(rng.integers(30, 95)))
        pixels = np.asarray(Image.open(file))
    return pixels


def _toned(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    grey = image.mean(axis=-1, keepdims=True)
    image = grey + np.float32(rng.uniform(0.0, 1.3) if rng.random() < 0.4 else 1.0) * (image - grey)
    image = image * rng.uniform(0.85, 1.15, size=3).astype(np.float32)
    middle, contrast = image.mean(), np.float32(np.exp(rng.uniform(-0.5, 0.4)))
    image = middle + contrast * (image - middle)
    return np.clip(image * np.float32(rng.uniform(0.7, 1.3)), 0, 1) ** np.float32(np.exp(rng.uniform(-0.4, 0.4)))


def _vignette(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    y, x = (np.linspace(-1, 1, size, dtype=np.float32) for size in shape[:2])
    return (1 - np.float32(rng.uniform(0.1, 0.6)) * (x**2 + y[:, None] ** 2) / 2)[..., None]
