"""Denormalization of generated point maps to world units."""

from __future__ import annotations

import numpy as np

from fourdnex.geometry.pointmaps import Normalization, denormalize_pointmaps, normalize_pointmaps
from fourdnex.model.adapter_files import AdapterInfo


def denormalize_to_world(
    xyz: np.ndarray, info: AdapterInfo | None, first_pointmap: np.ndarray | None = None
) -> np.ndarray:
    """Convert generated normalized point maps [T, H, W, 3] to world units, float32.

    With a first-frame point map, the result takes its position and unit: the first generated frame gets the point map's
    center and extent. Without one, center and scale are the training clips' medians in `info`, because an image does
    not determine its scale; this also holds for adapters trained with normalization per frame, whose centers per frame
    are lost.

    Args:
        xyz: generated point maps [T, H, W, 3].
        info: metadata of the adapter; None (no adapter) returns `xyz` unchanged.
        first_pointmap: first-frame point map [H, W, 3].

    Raises:
        ValueError: if the first generated frame or the first-frame point map has no extent.
    """
    if info is None:
        return xyz
    normalization = Normalization(center=np.array(info.center, dtype=np.float32), scale=info.scale)
    if first_pointmap is not None:
        _, generated = normalize_pointmaps(xyz[:1])
        _, anchor = normalize_pointmaps(first_pointmap[None])
        scale = anchor.scale / generated.scale
        normalization = Normalization(center=anchor.center - np.float32(scale) * generated.center, scale=scale)
    return denormalize_pointmaps(xyz, normalization)
