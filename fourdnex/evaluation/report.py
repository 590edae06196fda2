"""Means of the metrics of an evaluation, and an image of its predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from fourdnex.clip import Clip
from fourdnex.evaluation.scoring import METRICS, Prediction
from fourdnex.geometry.pointmaps import normalize_pointmaps
from fourdnex.io.files import atomic_path
from fourdnex.io.pixels import pointmap_colors
from fourdnex.model.recipe import Normalize
from fourdnex.rendering.contact_sheet import contact_sheet, enlarge


def metric_means(part: pd.DataFrame) -> dict[str, float | None]:
    """Mean of each metric; median of the length ratios over clips with a moving camera (None if there are none)."""
    result: dict[str, float | None] = {metric: float(part[metric].mean()) for metric in METRICS}
    ratios = part["length_ratio"].dropna()
    return result | {
        "length_ratio": float(ratios.median()) if len(ratios) else None,
        "recovered": float(part["recovered"].mean()),
    }


def write_contact_sheet(
    clips: list[Clip], samples: dict[str, list[Prediction]], normalization: Normalize, path: Path
) -> None:
    """Write an image with one row per clip: first, middle and last frame, then last XYZ, each true and generated."""
    from PIL import Image

    images: list[np.ndarray] = []
    for clip, (rgb, xyz) in zip(clips, samples["adapter"], strict=False):
        frames = [0, clip.num_frames // 2, clip.num_frames - 1]
        truth, _ = normalize_pointmaps(clip.annotated_pointmaps(), per=normalization)
        last_xyz = pointmap_colors(np.nan_to_num(np.stack([truth[-1], xyz[-1]]), nan=-1.0))  # unknown is black
        images += [*clip.rgb[frames], *rgb[frames], *last_xyz]
    sheet = Image.fromarray(enlarge(contact_sheet(images, 8, gap=0), 2))
    with atomic_path(path) as temporary:
        sheet.save(temporary)
