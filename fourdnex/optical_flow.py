"""Dense optical flow (DIS) between two images."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

FlowPreset = Literal["fast", "accurate", "coarse"]


@dataclass(frozen=True)
class _Settings:
    """Settings of OpenCV's DIS optical flow."""

    opencv_preset: str
    finest_scale: int | None
    """Finest pyramid level that is computed: 0 for single pixels. None: the level of OpenCV's preset."""


_PRESETS: dict[FlowPreset, _Settings] = {
    "fast": _Settings("DISOPTICAL_FLOW_PRESET_ULTRAFAST", finest_scale=0),
    "accurate": _Settings("DISOPTICAL_FLOW_PRESET_MEDIUM", finest_scale=0),
    "coarse": _Settings("DISOPTICAL_FLOW_PRESET_FAST", finest_scale=None),
}


def optical_flow(first: np.ndarray, second: np.ndarray, preset: FlowPreset = "fast") -> np.ndarray:
    """Displacement of every pixel from the first image to the second: [H, W, 2] float32, (x, y) in pixels.

    Args:
        first: [H, W] uint8, luminance.
        second: [H, W] uint8, luminance.
        preset: "fast": single pixels, without variational refinement. "accurate": single pixels, more iterations and
            variational refinement, several times slower. "coarse": a quarter of the resolution, interpolated, with
            variational refinement.
    """
    import cv2

    settings = _PRESETS[preset]
    dis = cv2.DISOpticalFlow.create(getattr(cv2, settings.opencv_preset))
    if settings.finest_scale is not None:
        dis.setFinestScale(settings.finest_scale)
    return np.asarray(dis.calc(first, second, np.zeros((*first.shape, 2), np.float32)))


def luminance(rgb: np.ndarray) -> np.ndarray:
    """Luminance [..., H, W] uint8 of RGB [..., H, W, 3] uint8 (Rec. 601 weights)."""
    return np.rint(rgb @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.uint8)
