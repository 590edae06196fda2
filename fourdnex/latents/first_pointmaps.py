"""First-frame point maps of annotated clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fourdnex.clip import Clip
from fourdnex.model.recipe import Recipe


def true_first_pointmaps(recipe: Recipe, clips: Sequence[Clip]) -> np.ndarray | None:
    """First-frame point maps [B, H, W, 3] of annotated clips in their own units; None if the recipe needs none."""
    if recipe.xyz_init == "plane":
        return None
    return np.stack([clip.annotated_pointmaps()[0] for clip in clips])
