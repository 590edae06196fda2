"""Tests a served model by generating one scene."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Result of a trial."""

    num_points: int
    """Points over all frames."""
    finite_share: float
    """Share of pixels with a finite point."""
    image: np.ndarray  # [H, 2W, 3] uint8
    """First and last frame side by side."""


def trial_scene(model: Any, folder: Path) -> Trial:
    """Generate a scene from the first frame of a held-out world.

    Args:
        model: as returned by `fourdnex.tracking.load_served`.
        folder: for the image and the scene.

    Raises:
        ValueError: the model returned no scene; the message holds its answer.
    """
    import pandas as pd
    from PIL import Image

    from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
    from fourdnex.scene import Scene4D

    path = folder / "world.png"
    Image.fromarray(render_world(HELD_OUT_SEEDS[0], num_frames=1).rgb[0]).save(path)
    answer = model.predict(pd.DataFrame({"image": [str(path)]}), params={"output_dir": str(folder / "scenes")})
    if len(answer) != 1:
        raise ValueError(f"served model: expected one scene, got {answer}")
    scene = Scene4D.load(answer["scene"].iloc[0])
    points = [scene.points(t)[0] for t in range(scene.num_frames)]
    num_points = sum(len(cloud) for cloud in points)
    num_finite = sum(int(np.isfinite(cloud).all(axis=1).sum()) for cloud in points)
    return Trial(
        num_points=num_points,
        finite_share=num_finite / max(1, scene.num_frames * scene.rgb.shape[1] * scene.rgb.shape[2]),
        image=np.concatenate([scene.rgb[0], scene.rgb[-1]], axis=1),
    )
