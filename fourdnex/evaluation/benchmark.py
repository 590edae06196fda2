"""The benchmark: a model and three baselines on held-out worlds, in depth, pose, points and RGB.

Every method gives RGB and normalized point maps for a world's first frame. From there all go the same way: put back in
the way a user could (at the training clips' typical center and scale, or at the given first point map), cameras
recovered, one alignment a clip, metrics against exact truth.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate.utils.memory import clear_device_cache

from fourdnex.annotation.depth_network import DepthNetwork, network_identity
from fourdnex.clip import Clip
from fourdnex.datasets.annotated import iter_annotated, read_annotated_table
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.evaluation import scoring
from fourdnex.evaluation.scoring import METRICS, Prediction, score_all
from fourdnex.geometry.pointmaps import normalize_pointmaps, sloped_plane
from fourdnex.io.files import atomic_path, read_json, write_json
from fourdnex.io.pixels import denormalize_pixels, normalize_pixels, pointmap_colors
from fourdnex.io.renamed import renamed_columns
from fourdnex.latents.codec import LatentCodec, Modality
from fourdnex.latents.encoding import MIN_CONFIDENCE
from fourdnex.model.adapter import AdapterInfo, adapter_digest, read_adapter_info
from fourdnex.model.base import Base
from fourdnex.model.conditioning import true_first_pointmaps
from fourdnex.model.denormalization import denormalize_to_world
from fourdnex.model.memory_settings import MemorySettings
from fourdnex.model.pipeline import SixDPipeline, load_pipeline
from fourdnex.model.precision import resolve_precision
from fourdnex.model.presets import Preset, base_digest, get_preset
from fourdnex.model.recipe import Normalize, Recipe
from fourdnex.model.sampling import SamplingSettings

BASELINES = ("base", "still_sloped_plane", "mean_pointmap")
LOWER_IS_BETTER = ("abs_rel", "chamfer")
EXACT = "exact"
FLOOR_WORLDS = 16
"""Worlds that the VAE's own error is measured on."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is evaluated and on what."""

    adapter: Path
    """Folder of the adapter."""
    out: Path
    """Folder of the report."""
    model: str = "tiny"
    """Preset or folder of the base."""
    annotated: Path = Path("workspace/annotated")
    """Annotated clips; those that were kept give the baseline of the mean point map."""
    curated: Path = Path("workspace/curation/curated.parquet")
    """Which of them were kept."""
    num_worlds: int = 64
    """Held-out worlds; none of them is ever trained on."""
    num_inference_steps: int | None = None
    """Of sampling; None: as many as the preset says."""
    batch_size: int = 8
    """Worlds generated at a time."""
    seed: int = 0
    """Of the noise."""
    depth_network: str | None = None
    """Finds the first point maps for an adapter with a given start, as in generation; None: the one that comes with the
    base, if one does. "exact" tells it the true ones, as a perfect annotator would."""

    def __post_init__(self) -> None:
        if not 1 <= self.num_worlds <= len(HELD_OUT_SEEDS):
            raise ValueError(f"num_worlds: expected 1 to {len(HELD_OUT_SEEDS)}, got {self.num_worlds}")


def evaluate(
    config: Evaluation, *, identity: dict[str, Any] | None = None, memory: MemorySettings | None = None
) -> dict[str, Any]:
    """Run the benchmark and write `report.json`, `worlds.parquet` and `contact_sheet.png` into `config.out`.

    The held-out worlds are rendered at the size that the adapter was trained for. A report of the same adapter and
    settings that is already there is returned as it is; `memory` says what to do when not all fits into a GPU.

    Raises:
        FileNotFoundError: if the adapter, or the annotated clips for the mean point map, are missing.
    """
    preset = get_preset(config.model)
    settings = {
        "adapter_digest": adapter_digest(config.adapter),
        "model": config.model,
        "base_digest": base_digest(preset.location),
        "num_worlds": config.num_worlds,
        "metrics": list(METRICS),
        "scoring": scoring.VERSION,
        "sampling": _sampling(config, preset).to_json(),
        "seed": config.seed,
    } | (memory or MemorySettings()).changes()
    info = read_adapter_info(config.adapter)
    if (network := _network(config, info)) is not None:
        settings["geometry_network"] = network if network == EXACT else network_identity(network)
    report_path = config.out / "report.json"
    if report_path.exists() and (report := read_json(report_path)).get("settings") == settings:
        return report
    started = time.monotonic()
    size: dict[str, Any] = {"num_frames": info.num_frames, "height": info.height, "width": info.width}
    clips = [render_world(seed, **size) for seed in HELD_OUT_SEEDS[: config.num_worlds]]
    mean_map = mean_pointmap(config.annotated, config.curated, info)
    first_pointmaps = _first_pointmaps(config, info, clips)
    rows: list[dict[str, Any]] = []
    shown: dict[str, list[Prediction]] = {}
    for method, given in _methods(config, clips, info, mean_map, first_pointmaps, memory):
        predictions = list(given)
        shown[method] = predictions[:8]
        given_there = first_pointmaps if method == "adapter" else None
        scores = score_all(clips[: len(predictions)], _placed(predictions, info, given_there))
        rows += [{"method": method, "world": clip.name} | row for clip, row in zip(clips, scores, strict=False)]
    table = pd.DataFrame(rows)
    means = {str(method): metric_means(part) for method, part in table.groupby("method")}
    errors = table.groupby("method")[list(LOWER_IS_BETTER)].mean()
    report = {
        "settings": settings,
        "precision": resolve_precision((memory or MemorySettings()).precision, _device()),
        "num_worlds": config.num_worlds,
        "adapter": means["adapter"],
        "baselines": {name: means[name] for name in BASELINES},
        "gain": {
            metric: float(1 - errors.loc["adapter", metric] / errors.loc[list(BASELINES), metric].min())
            for metric in LOWER_IS_BETTER
        },
        "vae_floor": means["vae_floor"],
        "seconds": time.monotonic() - started,
        "identity": identity or {},
    }
    config.out.mkdir(parents=True, exist_ok=True)
    with atomic_path(config.out / "worlds.parquet") as path:
        table.to_parquet(path, index=False)
    _contact_sheet(clips, shown, info.normalization, config.out / "contact_sheet.png")
    write_json(report_path, report)
    return report


def score_adapter(config: Evaluation, clips: Sequence[Clip], *, recipe: Recipe | None = None) -> list[dict[str, float]]:
    """Metrics of the adapter alone on annotated clips of the adapter's size, one row a clip, in order.

    Args:
        config: whose adapter, model, sampling and seed are used.
        clips: with exact annotation.
        recipe: in place of the adapter's own, for choices that training does not depend on.
    """
    pipeline, preset = load_pipeline(config.model, config.adapter)
    info = read_adapter_info(config.adapter)
    pipeline.recipe = recipe or info
    first_pointmaps = _first_pointmaps(config, pipeline.recipe, clips)
    predictions = list(_generated(clips, pipeline, preset, config, first_pointmaps))
    return score_all(clips, _placed(predictions, info, first_pointmaps))


def mean_pointmap(annotated: Path, curated: Path, info: AdapterInfo) -> np.ndarray:
    """Mean normalized point map [T, H, W, 3] of the training clips: what one knows without looking at the image.

    Of the kept clips it takes the exactly annotated ones, or all where none is exact, and leaves out those that
    encoding sets aside because their point maps cannot be normalized. A pixel that no clip knows is 0.

    Raises:
        FileNotFoundError: if the curated table or a shard is missing.
        ValueError: if no kept clip has the adapter's number of frames and enough valid points.
    """
    total = np.zeros((info.num_frames, info.height, info.width, 3))
    count = np.zeros((info.num_frames, info.height, info.width, 1), int)
    for clip in _training_clips(annotated, curated, info.num_frames):
        window = clip.window(0, info.num_frames).resized(info.height, info.width)
        trusted = None if window.confidence is None else window.confidence > MIN_CONFIDENCE
        try:
            normalized, _ = normalize_pointmaps(window.annotated_pointmaps(), per=info.normalization, mask=trusted)
        except ValueError:
            continue
        known = np.isfinite(normalized).all(axis=-1, keepdims=True)
        total += np.where(known, normalized, 0)
        count += known
    if not count.any():
        expected = f"expected kept clips with at least {info.num_frames} frames and enough valid points"
        raise ValueError(f"annotated: {expected} in {annotated}, got none")
    return (total / np.maximum(count, 1)).astype(np.float32)


def _training_clips(annotated: Path, curated: Path, num_frames: int) -> Iterator[Clip]:
    """The kept clips with at least `num_frames`: the exactly annotated ones, or all where none is exact."""
    table = renamed_columns(pd.read_parquet(curated), source=curated)
    long = {}
    for shard, names in table[table["accepted"]].groupby("shard")["name"]:
        rows = read_annotated_table(annotated, shard)
        long[shard] = rows[rows["name"].isin(names) & (rows["num_frames"] >= num_frames)]
    exact = {shard: rows[rows["annotator"] == "exact"] for shard, rows in long.items()}
    for shard, rows in (exact if any(map(len, exact.values())) else long).items():
        yield from iter_annotated(annotated, shard, set(rows["name"]))


def _methods(
    config: Evaluation,
    clips: list[Clip],
    info: AdapterInfo,
    mean_map: np.ndarray,
    first_pointmaps: np.ndarray | None,
    memory: MemorySettings | None,
) -> Iterator[tuple[str, Iterator[Prediction]]]:
    plane = np.repeat(sloped_plane(info.height, info.width)[None], info.num_frames, axis=0)
    yield "still_sloped_plane", ((_still(clip), plane) for clip in clips)
    yield "mean_pointmap", ((_still(clip), mean_map) for clip in clips)
    pipeline, preset = load_pipeline(config.model, memory=memory)
    pipeline.statistics = info.statistics
    yield "vae_floor", (_through_vae(clip, pipeline, info.normalization) for clip in clips[:FLOOR_WORLDS])
    yield "base", _generated(clips, pipeline, preset, config)
    del pipeline  # two bases at once need not fit
    clear_device_cache(garbage_collection=True)
    pipeline, preset = load_pipeline(config.model, config.adapter, memory=memory)
    yield "adapter", _generated(clips, pipeline, preset, config, first_pointmaps)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _sampling(config: Evaluation, preset: Preset) -> SamplingSettings:
    steps = config.num_inference_steps
    return preset.sampling if steps is None else replace(preset.sampling, num_inference_steps=steps)


def _placed(
    predictions: Sequence[Prediction], info: AdapterInfo, first_pointmaps: np.ndarray | None
) -> list[Prediction]:
    """Predictions with normalized points to those with points in a world's units."""
    given = [None] * len(predictions) if first_pointmaps is None else first_pointmaps
    return [(rgb, denormalize_to_world(xyz, info, start)) for (rgb, xyz), start in zip(predictions, given, strict=True)]


def _first_pointmaps(config: Evaluation, recipe: Recipe, clips: Sequence[Clip]) -> np.ndarray | None:
    """First point maps [B, H, W, 3] for a recipe that asks for them: the depth network's, or the exact ones."""
    if (chosen := _network(config, recipe)) is None:
        return None
    if chosen == EXACT:
        return true_first_pointmaps(recipe, clips)
    network = DepthNetwork(chosen)
    return np.stack([network.annotate(clip.window(0, 1)).annotated_pointmaps()[0] for clip in clips])


def _network(config: Evaluation, recipe: Recipe) -> str | None:
    """What finds the first point maps for this recipe, or `EXACT`; None where it begins with the sloped plane."""
    network = Base.resolve(config.model).depth_network_for(recipe, config.depth_network)
    return network or (None if recipe.xyz_init == "plane" else EXACT)


def _still(clip: Clip) -> np.ndarray:
    return np.repeat(clip.rgb[:1], clip.num_frames, axis=0)


def _generated(
    clips: Sequence[Clip],
    pipeline: SixDPipeline,
    preset: Preset,
    config: Evaluation,
    first_pointmaps: np.ndarray | None = None,
) -> Iterator[Prediction]:
    for start in range(0, len(clips), config.batch_size):
        part = clips[start : start + config.batch_size]
        video = pipeline.generate(
            np.stack([clip.rgb[0] for clip in part]),
            [clip.caption for clip in part],
            num_frames=part[0].num_frames,
            seeds=[config.seed + start + i for i in range(len(part))],
            sampling=_sampling(config, preset),
            first_pointmaps=None if first_pointmaps is None else first_pointmaps[start : start + len(part)],
        )
        yield from zip(video.rgb, video.xyz, strict=True)


@torch.inference_mode()
def _through_vae(clip: Clip, pipeline: SixDPipeline, normalization: Normalize) -> Prediction:
    codec = LatentCodec(pipeline.vae, pipeline.statistics)
    xyz, _ = normalize_pointmaps(clip.annotated_pointmaps(), per=normalization)
    out = []
    halves: tuple[tuple[np.ndarray, Modality], ...] = (
        (normalize_pixels(clip.rgb), "rgb"),
        (np.clip(xyz, -1, 1), "xyz"),
    )
    for pixels, modality in halves:
        tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(3, 0, 1, 2))[None])
        decoded = codec.decode(codec.encode(tensor, modality), modality)[0]
        out.append(decoded.permute(1, 2, 3, 0).float().cpu().numpy())
    return denormalize_pixels(out[0]), out[1]


def metric_means(part: pd.DataFrame) -> dict[str, float | None]:
    """Mean of each metric; the median of length ratios, over worlds whose camera moves (None if there are none)."""
    result: dict[str, float | None] = {metric: float(part[metric].mean()) for metric in METRICS}
    ratios = part["length_ratio"].dropna()
    return result | {
        "length_ratio": float(ratios.median()) if len(ratios) else None,
        "recovered": float(part["recovered"].mean()),
    }


def _contact_sheet(clips: list[Clip], shown: dict[str, list[Prediction]], normalization: Normalize, path: Path) -> None:
    """A row a world: first, middle, last frame, true and generated; then the last XYZ, true and generated."""
    from PIL import Image

    rows = []
    for clip, (rgb, xyz) in zip(clips, shown["adapter"], strict=False):
        frames = [0, clip.num_frames // 2, clip.num_frames - 1]
        truth, _ = normalize_pointmaps(clip.annotated_pointmaps(), per=normalization)
        last_xyz = pointmap_colors(np.stack([truth[-1], xyz[-1]]))
        rows.append(np.concatenate([*clip.rgb[frames], *rgb[frames], *last_xyz], axis=1))
    sheet = Image.fromarray(np.concatenate(rows, axis=0))
    with atomic_path(path) as temporary:
        sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST).save(temporary)
