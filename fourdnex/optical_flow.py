"""Optical flow between two images."""

import numpy as np


def optical_flow(first: np.ndarray, second: np.ndarray, *, accurate: bool = False) -> np.ndarray:
    """Where each pixel of the first image went: [H, W, 2] float32, (x, y) in pixels (DIS, down to single pixels).

    Args:
        first: [H, W] uint8, luminance.
        second: the same of the second image.
        accurate: with more iterations and variational refinement, several times slower.
    """
    import cv2

    preset = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM if accurate else cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST
    dis = cv2.DISOpticalFlow.create(preset)
    dis.setFinestScale(0)
    return np.asarray(dis.calc(first, second, np.zeros((*first.shape, 2), np.float32)))


def luminance(rgb: np.ndarray) -> np.ndarray:
    """[..., H, W] uint8 of [..., H, W, 3] uint8 (Rec. 601)."""
    return np.rint(rgb @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.uint8)
