"""Where generated point maps are put: normalized ones back into the units of a world."""

from __future__ import annotations

import numpy as np

from fourdnex.geometry.pointmaps import Normalization, denormalize_pointmaps, normalize_pointmaps
from fourdnex.model.adapter_files import AdapterInfo


def denormalize_to_world(xyz: np.ndarray, info: AdapterInfo | None, start: np.ndarray | None = None) -> np.ndarray:
    """Generated point maps [T, H, W, 3] in the units of a world, float32.

    Without a start they take the training clips' median center and scale, which `info` knows: nothing in an image
    tells its true scale. So do those of an adapter trained per frame, whose frames' own centers are lost. With a
    `start`, the given point map [H, W, 3] of the first frame, they take its place and unit: the first generated frame
    gets its center and extent. Without an adapter (None) they stay as they are.

    Raises:
        ValueError: with a start, if the first generated frame or the start has no extent.
    """
    if info is None:
        return xyz
    known = Normalization(center=np.array(info.center, dtype=np.float32), scale=info.scale)
    if start is not None:
        (_, made), (_, given) = normalize_pointmaps(xyz[:1]), normalize_pointmaps(start[None])
        scale = given.scale / made.scale
        known = Normalization(center=given.center - np.float32(scale) * made.center, scale=scale)
    return denormalize_pointmaps(xyz, known)
