"""Plots of training curves, and sample images of a trained adapter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fourdnex.model.memory_settings import MemorySettings


def plot_curves(log: Path, image: Path) -> None:
    """Plot all `*_loss` and `*_l1` values of a JSON-lines log over the steps, on a logarithmic axis."""
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in Path(log).read_text().splitlines()]
    lines = [line for line in lines if "step" in line]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for key, value in line.items():
            if key.endswith(("_loss", "_l1")) and value is not None:
                curves.setdefault(" ".join(filter(None, (line.get("stage"), key))), []).append((line["step"], value))
    for label, points in sorted(curves.items()):
        axes.plot(*zip(*points, strict=True), label=label, linewidth=1.2)
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(image, dpi=110)


def sample_images(
    model: str, adapter: Path, folder: Path, *, count: int, seed: int = 0, memory: MemorySettings | None = None
) -> list[Path]:
    """Generate held-out worlds, and write one image per world.

    Rows of an image: true RGB, generated RGB, true XYZ, generated XYZ. Columns: first, middle and last frame.

    Args:
        model: preset or folder of the base.
        adapter: folder of the adapter.
        folder: folder of the images.
        count: number of worlds.
        seed: seed of the noise of each world.
        memory: see `load_pipeline`.
    """
    from PIL import Image

    from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
    from fourdnex.geometry.pointmaps import normalize_pointmaps
    from fourdnex.io.pixels import pointmap_colors
    from fourdnex.latents.first_pointmaps import true_first_pointmaps
    from fourdnex.model.pipeline import load_pipeline
    from fourdnex.rendering.contact_sheet import contact_sheet, enlarge

    if count < 1:
        return []
    pipeline, preset = load_pipeline(model, adapter, memory=memory)
    clips = [
        render_world(s, num_frames=preset.num_frames, height=preset.height, width=preset.width)
        for s in HELD_OUT_SEEDS[:count]
    ]
    video = pipeline.generate(
        np.stack([clip.rgb[0] for clip in clips]),
        [clip.caption for clip in clips],
        num_frames=preset.num_frames,
        seeds=[seed] * count,
        sampling=preset.sampling,
        first_pointmaps=true_first_pointmaps(pipeline.recipe, clips),
    )
    folder.mkdir(parents=True, exist_ok=True)
    shown = [0, preset.num_frames // 2, preset.num_frames - 1]
    paths = []
    for clip, rgb, xyz in zip(clips, video.rgb, video.xyz, strict=True):
        truth, _ = normalize_pointmaps(clip.annotated_pointmaps(), per=pipeline.recipe.normalization)
        rows = [clip.rgb, rgb, pointmap_colors(truth), pointmap_colors(xyz)]
        sheet = contact_sheet([row[t] for row in rows for t in shown], len(shown), gap=0)
        path = folder / f"{clip.name}.png"
        Image.fromarray(enlarge(sheet, 2)).save(path)
        paths.append(path)
    return paths
