"""Linear RGB for formats that require it (USD, glTF)."""

import numpy as np


def linear_from_srgb() -> np.ndarray:
    """Lookup table [256] float32 from sRGB bytes (IEC 61966-2-1) to linear values in [0, 1]."""
    value = np.arange(256) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)
