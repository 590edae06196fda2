"""Image degradation for training: tone, vignette, blur, noise and JPEG compression. Geometry is unchanged."""

from __future__ import annotations

import io

import numpy as np


def degrade_image(rgb: np.ndarray, rng: np.random.Generator, *, strength: float = 1.0) -> np.ndarray:
    """Randomly degrade an image [H, W, 3] uint8 in the ways a camera does; each degradation has its own probability.

    `strength` scales the probabilities; with 0 the image is unchanged.
    """
    from PIL import Image, ImageFilter

    image = rgb.astype(np.float32) / 255
    if rng.random() < 0.8 * strength:
        image = _change_tone(image, rng)
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


def _change_tone(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change saturation, white balance, contrast, exposure and gamma of an image [H, W, 3] in [0, 1]."""
    gray = image.mean(axis=-1, keepdims=True)
    image = gray + np.float32(rng.uniform(0.0, 1.3) if rng.random() < 0.4 else 1.0) * (image - gray)
    image = image * rng.uniform(0.85, 1.15, size=3).astype(np.float32)
    middle, contrast = image.mean(), np.float32(np.exp(rng.uniform(-0.5, 0.4)))
    image = middle + contrast * (image - middle)
    return np.clip(image * np.float32(rng.uniform(0.7, 1.3)), 0, 1) ** np.float32(np.exp(rng.uniform(-0.4, 0.4)))


def _vignette(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Random vignette [H, W, 1]: 1 in the center, darker toward the corners."""
    y, x = (np.linspace(-1, 1, size, dtype=np.float32) for size in shape[:2])
    return (1 - np.float32(rng.uniform(0.1, 0.6)) * (x**2 + y[:, None] ** 2) / 2)[..., None]
