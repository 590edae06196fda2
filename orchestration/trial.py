"""One scene made by a served model, as a trial of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What the trial made: points over all frames, the share of them that is finite, first and last frame."""

    num_points: int
    finite_share: float
    image: np.ndarray  # [H, 2W, 3] uint8


def trial_scene(model: Any, folder: Path) -> Trial:
    """Let `model` (as `fourdnex.tracking.load_served` gives it) make a scene of a held-out world's first frame.

    Raises:
        ValueError: the model made no scene; the message holds what it said instead.
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
    count = sum(len(cloud) for cloud in points)
    finite = sum(int(np.isfinite(cloud).all(axis=1).sum()) for cloud in points)
    return Trial(
        num_points=count,
        finite_share=finite / max(1, scene.num_frames * scene.rgb.shape[1] * scene.rgb.shape[2]),
        image=np.concatenate([scene.rgb[0], scene.rgb[-1]], axis=1),
    )
