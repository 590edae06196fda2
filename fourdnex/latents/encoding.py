"""Encoding: kept clips to the latents that training reads; no VAE or text encoder sits beside the transformer."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate.utils.memory import clear_device_cache

from fourdnex.clip import Clip
from fourdnex.datasets.annotated import iter_annotated
from fourdnex.datasets.reports import ShardReport
from fourdnex.datasets.versions import copy_data_version
from fourdnex.geometry.pointmaps import normalize_pointmaps
from fourdnex.io.files import sha256_file
from fourdnex.io.pixels import normalize_pixels
from fourdnex.io.renamed import former_recipe, renamed_columns
from fourdnex.latents.codec import LatentCodec
from fourdnex.latents.shards import (
    LatentEncoding,
    LatentSummary,
    estimate_statistics,
    plane_key,
    shard_failures,
    shard_fingerprint,
    write_latent_shard,
)
from fourdnex.model.conditioning import normalized_first_pointmap, plane_condition, xyz_first_frame
from fourdnex.model.option_types import Precision
from fourdnex.model.pipeline import SixDPipeline, load_encoders
from fourdnex.model.precision import Resolved, resolve_precision
from fourdnex.model.presets import Preset, base_digest, get_preset
from fourdnex.model.recipe import Condition, Normalize, XyzInit, recorded
from fourdnex.model.sizes import fit_clip
from fourdnex.model.vae_threads import map_clips
from fourdnex.progress import track

__all__ = ["LatentSummary", "encode_shard", "estimate_statistics", "release_encoders"]

MIN_CONFIDENCE = 0.05
"""Pixels below it do not count in a clip's center and scale."""
Encoded = tuple[dict[str, torch.Tensor], dict[str, float | str]]
_TOKENIZING = threading.Lock()  # a tokenizer keeps its truncation in itself while it works


def encode_shard(
    annotated_dir: Path,
    shard: str,
    curated_path: Path,
    out_dir: Path,
    *,
    model: str = "tiny",
    normalization: Normalize = "clip",
    xyz_init: XyzInit = "plane",
    condition: Condition = "apart",
    precision: Precision = "auto",
) -> ShardReport:
    """Encode the kept clips of one annotated shard into `{out_dir}/{shard}.safetensors` and `.parquet`.

    Clips have about the area that the base works at, at their own ratio (see `fit_clip`). A shard that was encoded
    before from the same annotation, selection and base, in the same way, is left alone. A clip that cannot be encoded
    (too short, no valid points, too long a caption) is set aside with its reason.

    Args:
        annotated_dir: folder of annotated shards.
        shard: which of them.
        curated_path: table of kept clips.
        out_dir: folder of latents.
        model: preset or folder of the base.
        normalization: of the point maps, per clip or per frame.
        xyz_init: "pointmap" encodes the clips' first point maps as conditions too; training may still take the plane,
            unless conditions are joint.
        condition: "joint" encodes both first frames side by side in one pass.
        precision: of the VAE on a CPU, on a GPU it is in float32; "auto" is the processor's own, so that another kind
            of processor encodes the shards again instead of mixing precisions.

    Raises:
        FileNotFoundError: if the annotated shard or the curated table is missing.
    """
    started = time.monotonic()
    annotated_dir, out_dir = Path(annotated_dir), Path(out_dir)
    curated = renamed_columns(pd.read_parquet(curated_path), source=curated_path)
    names = sorted(curated.loc[(curated["shard"] == shard) & curated["accepted"], "name"])
    preset = get_preset(model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    resolved = resolve_precision(precision, device)
    encoding = LatentEncoding(
        normalization=normalization,
        xyz_init=xyz_init,
        condition=condition,
        base_digest=base_digest(preset.location),
        precision="fp32" if device == "cuda" else resolved,
    )
    fingerprint = _fingerprint(annotated_dir, shard, names, preset, encoding)
    if shard_fingerprint(out_dir, shard) == fingerprint:
        copy_data_version(annotated_dir, out_dir, shard)
        table = pd.read_parquet(out_dir / f"{shard}.parquet")
        return ShardReport(
            shard=shard,
            requested=len(names),
            done=0,
            cached=len(table),
            seconds=time.monotonic() - started,
            failed=shard_failures(out_dir, shard),
        )
    pipeline = _encoders(preset.location, resolved)
    tensors: dict[str, torch.Tensor] = {}
    rows, failed, missing = [], [], set(names)
    outcomes = _encode_all(iter_annotated(annotated_dir, shard, names), pipeline, preset, encoding)
    for name, outcome in track(outcomes, desc=shard, unit="clip", total=len(names)):
        missing.discard(name)
        if isinstance(outcome, ValueError):
            failed.append((name, str(outcome)))
            continue
        encoded, row = outcome
        tensors |= {f"{name}/{key}": value for key, value in encoded.items()}
        rows.append(row)
    failed += [(name, "kept by curation but not in the annotated shard") for name in sorted(missing)]
    if condition == "apart":
        with torch.inference_mode():
            codec = LatentCodec(pipeline.vae, pipeline.statistics)
            for height, width in sorted({(preset.height, preset.width), *_sizes(tensors, codec)}):
                plane = plane_condition(codec, height=height, width=width, num_frames=preset.num_frames)[0]
                tensors[plane_key(plane.shape, own=(height, width) == (preset.height, preset.width))] = plane
    columns = ["name", "center_x", "center_y", "center_z", "scale", "valid_share"]
    write_latent_shard(out_dir, shard, tensors, pd.DataFrame(rows, columns=columns), fingerprint, encoding, failed)
    copy_data_version(annotated_dir, out_dir, shard)
    return ShardReport(
        shard=shard,
        requested=len(names),
        done=len(rows),
        cached=0,
        failed=tuple(failed),
        seconds=time.monotonic() - started,
    )


def _encode_all(
    clips: Iterator[Clip], pipeline: SixDPipeline, preset: Preset, encoding: LatentEncoding
) -> Iterator[tuple[str, Encoded | ValueError]]:
    """Name and outcome of every clip, in order."""

    def encode(codec: LatentCodec, clip: Clip) -> tuple[str, Encoded | ValueError]:
        try:
            return clip.name, encode_clip(clip, pipeline, preset, codec, encoding)
        except ValueError as error:
            return clip.name, error

    yield from map_clips(encode, clips, LatentCodec(pipeline.vae, pipeline.statistics))


@torch.inference_mode()
def encode_clip(
    clip: Clip, pipeline: SixDPipeline, preset: Preset, codec: LatentCodec, encoding: LatentEncoding
) -> Encoded:
    """Latents and embeddings of one annotated clip, and its row of the table.

    Raises:
        ValueError: if the clip is shorter than the preset asks, is not annotated, has no valid points, or has a caption
            that the text encoder would not read to its end.
    """
    if clip.num_frames < preset.num_frames:
        raise ValueError(f"{clip.name}: expected at least {preset.num_frames} frames, got {clip.num_frames}")
    fit = fit_clip((clip.height, clip.width), (preset.height, preset.width))
    clip = clip.window(0, preset.num_frames).resized(fit.height, fit.width, ratio=fit.ratio)
    pointmaps = clip.annotated_pointmaps()
    trusted = np.isfinite(pointmaps).all(axis=-1)
    if clip.confidence is not None:
        trusted &= clip.confidence > MIN_CONFIDENCE
    normalized, normalization = normalize_pointmaps(pointmaps, per=encoding.normalization, mask=trusted)
    xyz = np.clip(np.nan_to_num(normalized, nan=0.0), -1, 1)
    device = pipeline.vae.device
    rgb_pixels = torch.from_numpy(normalize_pixels(clip.rgb)).permute(3, 0, 1, 2)[None].to(device)
    xyz_pixels = torch.from_numpy(xyz).permute(3, 0, 1, 2)[None].to(device)
    with _TOKENIZING:
        tokens = pipeline.tokens(clip.caption, f"{clip.name}: caption")
    text = pipeline.text_encoder(tokens.input_ids.to(device), tokens.attention_mask.to(device)).last_hidden_state[0]
    videos = {"rgb": rgb_pixels, "xyz": xyz_pixels}
    first_rgb, first_xyz = rgb_pixels[:, :, 0], None
    if encoding.xyz_init == "pointmap":
        first = normalized_first_pointmap(np.where(trusted[0][..., None], pointmaps[0], np.nan))
        first_xyz = torch.from_numpy(first).permute(2, 0, 1)[None].to(device)
    if encoding.condition == "apart":
        videos["condition"] = codec.condition_video(first_rgb, preset.num_frames)
        if first_xyz is not None:
            videos["xyz_condition"] = codec.condition_video(first_xyz, preset.num_frames)
    # Wan's normalization alone: the statistics of XYZ come from these.
    latents = codec.encode(torch.cat(list(videos.values())), "rgb")
    encoded = dict(zip(videos, latents, strict=True)) | {
        "text": text,
        "image": pipeline.encode_image([clip.rgb[0]], device)[0],
    }
    if encoding.condition == "joint":
        if first_xyz is None:
            first_xyz = xyz_first_frame(None, height=clip.height, width=clip.width).to(first_rgb)
        halves = codec.encode_joint_condition(first_rgb, first_xyz, preset.num_frames)
        encoded |= {"condition": halves[0][0], "xyz_condition": halves[1][0]}
    x, y, z = map(float, np.median(np.atleast_2d(normalization.center), axis=0))
    row: dict[str, float | str] = {
        "name": clip.name,
        "center_x": x,
        "center_y": y,
        "center_z": z,
        "scale": float(normalization.scale),
        "valid_share": float(trusted.mean()),
    }
    return {key: value.float().cpu().clone() for key, value in encoded.items()}, row


def release_encoders() -> None:
    """Free the memory of the encoders that `encode_shard` keeps for the next shard."""
    _encoders.cache_clear()
    clear_device_cache(garbage_collection=True)


@lru_cache(maxsize=1)
def _encoders(location: str, precision: Resolved) -> SixDPipeline:
    """The base's encoders, kept from shard to shard."""
    return load_encoders(location, precision=precision)[0]


def _sizes(tensors: dict[str, torch.Tensor], codec: LatentCodec) -> set[tuple[int, int]]:
    """Height and width in pixels of the clips whose latents are among `tensors`."""
    factor = int(codec.vae.config.scale_factor_spatial)
    shapes = {tensor.shape[-2:] for key, tensor in tensors.items() if key.endswith("/rgb")}
    return {(factor * height, factor * width) for height, width in shapes}


def _fingerprint(annotated_dir: Path, shard: str, names: list[str], preset: Preset, encoding: LatentEncoding) -> str:
    files = [
        annotated_dir / f"{shard}.safetensors",
        annotated_dir / f"{shard}.parquet",
    ]  # the captions are in the table
    for path in files:
        if not path.exists():
            raise FileNotFoundError(f"annotated shard: {path} is missing")
    base = (preset.height, preset.width)
    table = pd.read_parquet(files[1], columns=["name", "height", "width"])
    kept = table[table["name"].isin(names)]
    fits = {
        name: fit_clip((h, w), base) for name, h, w in zip(kept["name"], kept["height"], kept["width"], strict=True)
    }
    parts = [
        *map(sha256_file, files),
        *former_recipe(recorded(asdict(encoding))).values(),
        *map(str, (preset.num_frames, preset.height, preset.width)),
        *names,
        # Of the base's size all clips once were.
        *(f"{name} {fit.height}x{fit.width}" for name, fit in fits.items() if (fit.height, fit.width) != base),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
