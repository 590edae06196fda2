"""Benchmark of an adapter and baselines on held-out worlds or clips: depth, pose, points and RGB.

Each method predicts RGB and normalized point maps from a clip's first frame. All predictions are then processed the
same way: denormalized as in generation (with the training clips' median center and scale, or with the first-frame
point map), cameras recovered, one alignment per clip, and metrics against exact ground truth.
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
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.evaluation import scoring
from fourdnex.evaluation.held_out_clips import HeldOutClips, read_held_out_clips
from fourdnex.evaluation.mean_pointmap import mean_pointmap
from fourdnex.evaluation.report import metric_means, write_contact_sheet
from fourdnex.evaluation.scoring import METRICS, Prediction, score_all
from fourdnex.geometry.pointmaps import normalize_pointmaps, sloped_plane
from fourdnex.io.files import atomic_path, read_json, write_json
from fourdnex.io.pixels import denormalize_pixels, normalize_pixels
from fourdnex.io.renamed import SCENE_KEYS, renamed_keys, renamed_report
from fourdnex.latents.codec import LatentCodec, Modality
from fourdnex.latents.first_pointmaps import true_first_pointmaps
from fourdnex.latents.unknown_points import fill_unknown
from fourdnex.model.adapter import AdapterInfo, adapter_digest, read_adapter_info
from fourdnex.model.base import Base
from fourdnex.model.conditioning import normalized_first_pointmap
from fourdnex.model.denormalization import denormalize_to_world
from fourdnex.model.memory_settings import MemorySettings
from fourdnex.model.pipeline import SixDPipeline, load_pipeline
from fourdnex.model.precision import resolve_precision
from fourdnex.model.presets import Preset, base_digest, get_preset
from fourdnex.model.recipe import Normalize, Recipe
from fourdnex.model.sampling import SamplingSettings
from fourdnex.progress import progress_bar

BASELINES = ("base", "static_sloped_plane", "mean_pointmap")
"""The base without adapter; a static first frame with the sloped plane; a static first frame with the mean point map of
the training clips."""
FIRST_POINTMAP = "static_first_pointmap"
"""Further baseline of an adapter that starts from a first-frame point map: that map and a static first frame."""
LOWER_IS_BETTER = ("abs_rel", "chamfer")
EXACT = "exact"
"""Value of `depth_network` for ground-truth first-frame point maps."""
FLOOR_WORLDS = 16
"""Number of worlds on which the VAE's reconstruction error is measured."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Settings of an evaluation."""

    adapter: Path
    """Adapter folder."""
    out: Path
    """Output folder of the report."""
    model: str = "tiny"
    """Preset or folder of the base model."""
    annotated: Path = Path("workspace/annotated")
    """Folder of annotated clips; the accepted ones define the mean point map baseline."""
    curated: Path = Path("workspace/curation/curated.parquet")
    """Table of accepted and rejected clips."""
    num_worlds: int = 64
    """Number of held-out worlds, which are never used in training, or max number of `clips`."""
    clips: Path | None = None
    """Held-out annotated clips to evaluate on in place of worlds: a folder of annotated shards, or a data set, a
    manifest or a table of curated clips with splits, whose geometry is read from `annotated`."""
    min_confidence: float = 0.3
    """Errors on such clips count only pixels of at least this confidence."""
    num_inference_steps: int | None = None
    """Number of sampling steps; None takes the preset's."""
    batch_size: int = 8
    """Number of worlds generated at once."""
    seed: int = 0
    """Seed of the initial noise."""
    depth_network: str | None = None
    """Depth network for an adapter that needs first-frame point maps, as in generation; None takes the preset's, if it
    has one. "exact" passes ground-truth point maps, as a perfect annotator would."""

    def __post_init__(self) -> None:
        if not 1 <= self.num_worlds <= len(HELD_OUT_SEEDS):
            raise ValueError(f"num_worlds: expected 1 to {len(HELD_OUT_SEEDS)}, got {self.num_worlds}")
        if not 0 < self.min_confidence <= 1:
            raise ValueError(f"min_confidence: expected a number above 0 and at most 1, got {self.min_confidence}")


def evaluate(
    config: Evaluation, *, identity: dict[str, Any] | None = None, memory: MemorySettings | None = None
) -> dict[str, Any]:
    """Run the benchmark and write `report.json`, `worlds.parquet` and `contact_sheet.png` into `config.out`.

    The held-out worlds are rendered at the size that the adapter was trained for; held-out clips are cropped and
    scaled to it. An existing report with the same
    adapter and settings is returned unchanged. `memory` holds precision and memory options.

    Raises:
        FileNotFoundError: if the adapter, the held-out clips or the annotated clips for the mean point map are missing.
        ValueError: if no held-out clip can be used.
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
    held_out = None if config.clips is None else _held_out_clips(config, info)
    if held_out is not None:
        settings |= {"clips": held_out.digest, "min_confidence": config.min_confidence}
    report_path = config.out / "report.json"
    if report_path.exists() and (cached := _read_report(report_path)).get("settings") == settings:
        if "worlds" in cached:  # reports of earlier versions lack it
            return cached
    started = time.monotonic()
    size: dict[str, Any] = {"num_frames": info.num_frames, "height": info.height, "width": info.width}
    if held_out is None:
        clips = [render_world(seed, **size) for seed in HELD_OUT_SEEDS[: config.num_worlds]]
    else:
        clips = list(held_out.clips)
    mean_map = mean_pointmap(config.annotated, config.curated, info)
    first_pointmaps = _first_pointmaps(config, info, clips)
    rows: list[dict[str, Any]] = []
    samples: dict[str, list[Prediction]] = {}
    for method, method_predictions in _methods(config, clips, info, mean_map, first_pointmaps, memory):
        predictions = list(method_predictions)
        samples[method] = predictions[:8]
        anchors = first_pointmaps if method in ("adapter", FIRST_POINTMAP) else None
        scores = score_all(clips[: len(predictions)], _denormalized(predictions, info, anchors))
        rows += [{"method": method, "world": clip.name} | row for clip, row in zip(clips, scores, strict=False)]
    table = pd.DataFrame(rows)
    means = {str(method): metric_means(part) for method, part in table.groupby("method")}
    errors = table.groupby("method")[list(LOWER_IS_BETTER)].mean()
    baselines = [*BASELINES, *([FIRST_POINTMAP] if FIRST_POINTMAP in means else [])]
    report = {
        "settings": settings,
        "precision": resolve_precision((memory or MemorySettings()).precision, _device()),
        "num_worlds": len(clips),
        "adapter": means["adapter"],
        "baselines": {name: means[name] for name in baselines},
        "gain": {
            metric: float(1 - errors.loc["adapter", metric] / errors.loc[baselines, metric].min())
            for metric in LOWER_IS_BETTER
        },
        "vae_floor": means["vae_floor"],
        "worlds": _by_world(table[table["method"] == "adapter"]),
        "seconds": time.monotonic() - started,
        "identity": identity or {},
    } | ({} if held_out is None else {"clips": held_out.to_json()})
    config.out.mkdir(parents=True, exist_ok=True)
    with atomic_path(config.out / "worlds.parquet") as path:
        table.to_parquet(path, index=False)
    write_contact_sheet(clips, samples, info.normalization, config.out / "contact_sheet.png")
    write_json(report_path, report)
    return report


def _by_world(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """World -> metric -> error, for comparisons world by world."""
    return {
        str(row["world"]): {metric: float(row[metric]) for metric in LOWER_IS_BETTER}
        for row in table.to_dict("records")
    }


def _held_out_clips(config: Evaluation, info: AdapterInfo) -> HeldOutClips:
    """The held-out clips of `config`, at the adapter's size."""
    assert config.clips is not None
    return read_held_out_clips(
        config.clips,
        annotated=config.annotated,
        adapter=config.adapter,
        size=(info.num_frames, info.height, info.width),
        min_confidence=config.min_confidence,
        max_clips=config.num_worlds,
    )


def _read_report(path: Path) -> dict[str, Any]:
    """A report with current names of settings and baselines."""
    report = renamed_report(read_json(path), source=path)
    return report | {"settings": renamed_keys(report.get("settings") or {}, SCENE_KEYS, source=path)}


def score_adapter(config: Evaluation, clips: Sequence[Clip], *, recipe: Recipe | None = None) -> list[dict[str, float]]:
    """Metrics of the adapter, without baselines, on annotated clips of the adapter's size: one row per clip, in order.

    Args:
        config: provides adapter, model, sampling and seed.
        clips: exactly annotated clips.
        recipe: replaces the adapter's recipe, for fields that training does not depend on.
    """
    pipeline, preset = load_pipeline(config.model, config.adapter)
    info = read_adapter_info(config.adapter)
    pipeline.recipe = recipe or info
    first_pointmaps = _first_pointmaps(config, pipeline.recipe, clips)
    predictions = list(_generated(clips, pipeline, preset, config, first_pointmaps))
    return score_all(clips, _denormalized(predictions, info, first_pointmaps))


def _methods(
    config: Evaluation,
    clips: list[Clip],
    info: AdapterInfo,
    mean_map: np.ndarray,
    first_pointmaps: np.ndarray | None,
    memory: MemorySettings | None,
) -> Iterator[tuple[str, Iterator[Prediction]]]:
    """Name and predictions of each method: baselines, VAE reconstruction and adapter; one base is loaded at a time."""
    plane = np.repeat(sloped_plane(info.height, info.width)[None], info.num_frames, axis=0)
    yield "static_sloped_plane", ((_static_video(clip), plane) for clip in clips)
    yield "mean_pointmap", ((_static_video(clip), mean_map) for clip in clips)
    if first_pointmaps is not None:
        xyz = [normalized_first_pointmap(first)[None].repeat(info.num_frames, axis=0) for first in first_pointmaps]
        yield FIRST_POINTMAP, ((_static_video(clip), own) for clip, own in zip(clips, xyz, strict=True))
    pipeline, preset = load_pipeline(config.model, memory=memory)
    pipeline.statistics = info.statistics
    yield "vae_floor", (_vae_reconstruction(clip, pipeline, info.normalization) for clip in clips[:FLOOR_WORLDS])
    yield "base", _generated(clips, pipeline, preset, config)
    del pipeline  # two bases may not fit into memory
    clear_device_cache(garbage_collection=True)
    pipeline, preset = load_pipeline(config.model, config.adapter, memory=memory)
    yield "adapter", _generated(clips, pipeline, preset, config, first_pointmaps)


def _device() -> str:
    """Device that the models run on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _sampling(config: Evaluation, preset: Preset) -> SamplingSettings:
    """The preset's sampling settings with the number of steps of `config`."""
    steps = config.num_inference_steps
    return preset.sampling if steps is None else replace(preset.sampling, num_inference_steps=steps)


def _denormalized(
    predictions: Sequence[Prediction], info: AdapterInfo, first_pointmaps: np.ndarray | None
) -> list[Prediction]:
    """Predictions with point maps in world units, anchored at the first-frame point maps if given."""
    anchors = [None] * len(predictions) if first_pointmaps is None else first_pointmaps
    return [
        (rgb, denormalize_to_world(xyz, info, anchor)) for (rgb, xyz), anchor in zip(predictions, anchors, strict=True)
    ]


def _first_pointmaps(config: Evaluation, recipe: Recipe, clips: Sequence[Clip]) -> np.ndarray | None:
    """First-frame point maps [B, H, W, 3] if the recipe needs them: the depth network's, or ground truth."""
    if (name := _network(config, recipe)) is None:
        return None
    if name == EXACT:
        return true_first_pointmaps(recipe, clips)
    network = DepthNetwork(name)
    return np.stack([network.annotate(clip.window(0, 1)).annotated_pointmaps()[0] for clip in clips])


def _network(config: Evaluation, recipe: Recipe) -> str | None:
    """Name of the depth network for this recipe, or `EXACT`; None if it starts from the sloped plane."""
    network = Base.resolve(config.model).depth_network_for(recipe, config.depth_network)
    return network or (None if recipe.xyz_init == "plane" else EXACT)


def _static_video(clip: Clip) -> np.ndarray:
    """The first frame repeated, [T, H, W, 3]."""
    return np.repeat(clip.rgb[:1], clip.num_frames, axis=0)


def _generated(
    clips: Sequence[Clip],
    pipeline: SixDPipeline,
    preset: Preset,
    config: Evaluation,
    first_pointmaps: np.ndarray | None = None,
) -> Iterator[Prediction]:
    """Predictions of the pipeline for the clips' first frames and captions, generated in batches."""
    with progress_bar(len(clips), desc="evaluate", unit="world") as advance:
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
            advance(len(part))


@torch.inference_mode()
def _vae_reconstruction(clip: Clip, pipeline: SixDPipeline, normalization: Normalize) -> Prediction:
    """RGB and normalized point maps of the clip, encoded and decoded by the VAE."""
    codec = LatentCodec(pipeline.vae, pipeline.statistics)
    xyz, _ = normalize_pointmaps(clip.annotated_pointmaps(), per=normalization)
    xyz = fill_unknown(xyz, np.isfinite(xyz).all(axis=-1))
    decoded = []
    modalities: tuple[tuple[np.ndarray, Modality], ...] = (
        (normalize_pixels(clip.rgb), "rgb"),
        (np.clip(xyz, -1, 1), "xyz"),
    )
    for pixels, modality in modalities:
        tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(3, 0, 1, 2))[None])
        video = codec.decode(codec.encode(tensor, modality), modality)[0]
        decoded.append(video.permute(1, 2, 3, 0).float().cpu().numpy())
    return denormalize_pixels(decoded[0]), decoded[1]
