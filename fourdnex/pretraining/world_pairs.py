"""RGB and XYZ clips of procedural worlds, as the VAE reads them."""

from __future__ import annotations

import numpy as np
import torch

from fourdnex.clip import Clip
from fourdnex.datasets.worlds import HEIGHT, WIDTH, render_world
from fourdnex.datasets.worlds.families import PRIMITIVES
from fourdnex.geometry.pointmaps import normalize_pointmaps
from fourdnex.io.pixels import normalize_pixels

WorldPair = tuple[np.ndarray, np.ndarray]
"""RGB [T, H, W, 3] uint8, and normalized XYZ [T, H, W, 3] float16 in [-1, 1]."""


def world_pair(seed: int, family: str = PRIMITIVES, size: tuple[int, int] = (HEIGHT, WIDTH)) -> WorldPair:
    """Render a world at `size` (height, width) as an RGB and an XYZ clip."""
    return clip_pair(render_world(seed, family=family, height=size[0], width=size[1]))


def clip_pair(clip: Clip) -> WorldPair:
    """RGB and XYZ of an annotated clip; XYZ is normalized per clip and clipped to [-1, 1]."""
    xyz, _ = normalize_pointmaps(clip.annotated_pointmaps())
    return clip.rgb, np.clip(xyz, -1, 1).astype(np.float16)


def pair_pixels(pair: WorldPair) -> torch.Tensor:
    """A pair as VAE input [2, 3, T, H, W] float32 in [-1, 1]: RGB, XYZ."""
    stacked = np.stack([normalize_pixels(pair[0]), pair[1].astype(np.float32)])
    return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 4, 1, 2, 3), dtype=np.float32))
