"""Scores of single images: brightness, contrast, sharpness, noise, black bars, sky, and a fingerprint for duplicates.

Frames are scaled down to at most `PIXELS`, so that the scores of clips of different resolutions are comparable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fourdnex.clip import Clip
from fourdnex.curation.fingerprints import fingerprint

VERSION = "1"
"""Incremented when the definition of a score of this stage changes."""
PIXELS = 160 * 240
"""Max pixels of a frame in this stage."""
DARK, BRIGHT = 16, 250
"""Luminance at or below which a pixel counts as black, and at or above which it counts as overexposed."""
_NUM_DETAIL_FRAMES = 5
_LEVEL = 4  # factor between the fine and the coarse scale of the sharpness
_MIN_EDGE = 4.0  # gradient per pixel at the coarse scale; weaker edges say nothing about sharpness


@dataclass(frozen=True, kw_only=True)
class ImageScores:
    """Scores of the frames of a clip, one by one."""

    brightness: float
    """Mean luminance, 0..255."""
    contrast: float
    """Standard deviation of luminance over all pixels of the clip, 0..255."""
    bright_share: float
    """Share of overexposed pixels: luminance of at least 250."""
    sharpness: float
    """Strength of the strongest edges relative to those of the clip at a quarter of the resolution: 1 for steps, about
    .5 for edges blurred by 2 pixels (sigma), .25 for very wide ones. Noise is subtracted. Median over 5 frames. NaN
    without any edge."""
    noise: float
    """Standard deviation of the noise, 0..255 (median of Immerkaer's Laplacian). Median over 5 frames."""
    bar_share: float
    """Share of the frame in black bars that are at the borders of all frames."""
    sky_share: float
    """Share of the middle frame in bright, smooth areas that touch the upper border and are not reddish."""
    frames: float
    """Number of frames."""
    fingerprint: bytes
    """Perceptual hashes of the first, middle and last frame, and colors; see `fourdnex.curation.fingerprints`."""


def image_scores(clip: Clip) -> ImageScores:
    """Scores of the RGB frames of a clip; annotation is not needed."""
    import cv2

    scaled = scaled_frames(clip.rgb, PIXELS)
    gray = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in scaled])
    shown = np.unique(np.linspace(0, len(scaled) - 1, _NUM_DETAIL_FRAMES).astype(int))
    noises = [_noise(gray[t]) for t in shown]
    sharpnesses = [_sharpness(gray[t], noise) for t, noise in zip(shown, noises, strict=True)]
    known = [value for value in sharpnesses if np.isfinite(value)]
    return ImageScores(
        brightness=float(gray.mean()),
        contrast=float(gray.std()),
        bright_share=float((gray >= BRIGHT).mean()),
        sharpness=float(np.median(known)) if known else float("nan"),
        noise=float(np.median(noises)),
        bar_share=_bar_share(gray),
        sky_share=_sky_share(scaled[len(scaled) // 2]),
        frames=float(clip.num_frames),
        fingerprint=fingerprint(clip.rgb),
    )


def scaled_frames(rgb: np.ndarray, pixels: int) -> list[np.ndarray]:
    """Frames [h, w, 3] of a video [T, H, W, 3], scaled down to at most `pixels` by area averaging."""
    import cv2

    height, width = rgb.shape[1:3]
    scale = (pixels / (height * width)) ** 0.5
    if scale >= 1:
        return list(rgb)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    return [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in rgb]


def _gradient(gray: np.ndarray) -> np.ndarray:
    """Length of the gradient of luminance [h, w] by central differences, per pixel."""
    import cv2

    smooth = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), 0.8)
    x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)
    y = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=1, scale=0.5)
    return np.asarray(cv2.magnitude(x, y))


def _sharpness(gray: np.ndarray, noise: float) -> float:
    """Sharpness of one frame, see `ImageScores.sharpness`."""
    import cv2

    height, width = gray.shape
    small = cv2.resize(gray, (max(8, width // _LEVEL), max(8, height // _LEVEL)), interpolation=cv2.INTER_AREA)
    # White noise of standard deviation 1 has gradients of about 0.2 after the smoothing; its 99th percentile is 3 times
    # as large. Averaging 16 pixels divides noise by 4.
    fine, coarse = (
        np.sqrt(max(float(np.percentile(_gradient(image), 99)) ** 2 - (0.6 * sigma) ** 2, 0.0))
        for image, sigma in ((gray, noise), (small, noise / _LEVEL))
    )
    return float(fine / coarse) if coarse >= _MIN_EDGE else float("nan")


def _noise(gray: np.ndarray) -> float:
    """Standard deviation of the noise of one frame: a Laplacian without response to edges, robust by its median."""
    import cv2

    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = cv2.filter2D(gray.astype(np.float32), -1, kernel)
    return float(np.median(np.abs(response)) / 0.6745 / 6)


def _bar_share(gray: np.ndarray) -> float:
    """Share of the frame in black bars; 0 if there is nothing but black."""
    brightest = gray.max(axis=0)  # [h, w] over time: bars stay black
    height, width = brightest.shape
    rows = _border_length(brightest) + _border_length(brightest[::-1])
    columns = _border_length(brightest.T) + _border_length(brightest.T[::-1])
    if rows >= height or columns >= width:
        return 0.0
    return 1 - (1 - rows / height) * (1 - columns / width)


def _border_length(brightest: np.ndarray) -> int:
    """Number of black rows at the start of an image [h, w], if content starts behind them along most of the width.

    Dark scenery at the border is no bar: its outline is not straight.
    """
    is_black = np.percentile(brightest, 98, axis=1) <= DARK + 8
    length = int(np.argmin(is_black)) if not is_black.all() else len(is_black)
    if 0 < length < len(is_black) and (brightest[length : length + 3].max(axis=0) > DARK + 16).mean() < 0.7:
        return 0
    return length


def _sky_share(frame: np.ndarray) -> float:
    """Share of a frame in bright, smooth areas that touch the upper border and are not reddish."""
    import cv2

    small = cv2.resize(frame, (72, 48), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    red, blue = small[..., 0].astype(int), small[..., 2].astype(int)
    sky = (gray >= 120) & (blue >= red + 4) & (_gradient(gray) < 5)
    _, labels = cv2.connectedComponents(sky.astype(np.uint8), connectivity=4)
    touching = np.unique(labels[0])
    return float(np.isin(labels, touching[touching > 0]).mean())
