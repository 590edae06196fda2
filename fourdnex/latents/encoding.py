"""Encoding of accepted clips into the latents that training reads, so that training needs no VAE and no encoders."""

from __future__ import annotations

import hashlib
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
from fourdnex.datasets.annotated import iter_annotated, read_annotated_table
from fourdnex.datasets.reports import ShardReport
from fourdnex.datasets.versions import copy_data_version
from fourdnex.geometry.pointmaps import normalize_pointmaps
from fourdnex.io.pixels import normalize_pixels
from fourdnex.io.renamed import former_recipe
from fourdnex.latents.codec import REFERENCE_STATISTICS, LatentCodec
from fourdnex.latents.encoders import CaptionCache, Encoders
from fourdnex.latents.held_out import SOURCE_COLUMNS
from fourdnex.latents.input_digests import input_digests
from fourdnex.latents.selection import training_clips
from fourdnex.latents.shards import (
    LatentEncoding,
    LatentSummary,
    estimate_statistics,
    plane_key,
    shard_failures,
    shard_fingerprint,
    write_latent_shard,
)
from fourdnex.latents.unknown_points import cell_weights, fill_unknown
from fourdnex.model.conditioning import normalized_first_pointmap, plane_condition, xyz_first_frame
from fourdnex.model.option_types import Precision
from fourdnex.model.precision import Resolved, resolve_precision
from fourdnex.model.presets import Preset, base_digest, get_preset
from fourdnex.model.recipe import Condition, Normalize, XyzInit, recorded
from fourdnex.model.sizes import fit_clip
from fourdnex.model.vae_threads import map_clips
from fourdnex.progress import track

__all__ = ["LatentSummary", "encode_shard", "estimate_statistics", "release_encoders"]

EXACT = "exact"
"""Name of the annotator whose clips have confidence 1 in all pixels."""
MIN_CONFIDENCE = 0.05
"""The points of pixels of lower confidence are unknown: they count neither in the normalization nor in the loss."""
WEIGHTS_VERSION = 1
"""Incremented when the latents or the weights of clips with unknown points change."""
EncodedClip = tuple[dict[str, torch.Tensor], dict[str, float | str]]
"""Tensors of a clip, by the last part of their keys, and its table row."""


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
    """Encode the accepted training clips of one annotated shard into `{out_dir}/{shard}.safetensors` and `.parquet`.

    Clips are resized to about the area of the base's working size, at their own aspect ratio (see `fit_clip`). A shard
    that was already encoded from the same annotation, selection and base, with the same settings, is not encoded again.
    A clip that cannot be encoded (too few frames, no valid points, too long a caption) is reported as failed, with the
    reason. Each distinct caption is encoded once per shard.

    Args:
        annotated_dir: folder of annotated shards.
        shard: name of the shard.
        curated_path: table of curated clips.
        out_dir: folder of latents.
        model: preset or folder of the base.
        normalization: whether point maps are normalized per clip or per frame.
        xyz_init: "pointmap" also encodes first-frame point maps as conditions. Training can still use the plane, unless
            conditions are joint.
        condition: "joint" encodes both first frames side by side in one pass.
        precision: precision of the VAE on a CPU; on a GPU it is in float32. "auto" depends on the processor; shards
            of another precision are encoded again, so that precisions are never mixed.

    Raises:
        FileNotFoundError: the annotated shard or the curated table is missing.
    """
    started = time.monotonic()
    annotated_dir, out_dir = Path(annotated_dir), Path(out_dir)
    names = list(training_clips(curated_path).get(shard, ()))
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
    fingerprint = _fingerprint(annotated_dir, out_dir, shard, names, preset, encoding)
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
    encoders = _load_encoders(preset.location, resolved)
    tensors: dict[str, torch.Tensor] = {}
    rows, failed, missing = [], [], set(names)
    outcomes = _encode_all(iter_annotated(annotated_dir, shard, names), encoders, preset, encoding)
    for name, outcome in track(outcomes, desc=shard, unit="clip", total=len(names)):
        missing.discard(name)
        if isinstance(outcome, ValueError):
            failed.append((name, str(outcome)))
            continue
        encoded, row = outcome
        tensors |= {f"{name}/{key}": value for key, value in encoded.items()}
        rows.append(row)
    failed += [(name, "accepted by curation, but not in the annotated shard") for name in sorted(missing)]
    if condition == "apart":
        with torch.inference_mode():
            codec = LatentCodec(encoders.vae, REFERENCE_STATISTICS)
            working_size = (preset.height, preset.width)
            for size in sorted({working_size, *_clip_sizes(tensors, codec)}):
                plane = plane_condition(codec, height=size[0], width=size[1], num_frames=preset.num_frames)[0]
                tensors[plane_key(plane.shape, is_working_size=size == working_size)] = plane
    columns = ["name", "center_x", "center_y", "center_z", "scale", "valid_share"]
    sources = read_annotated_table(annotated_dir, shard)[["name", *SOURCE_COLUMNS]]
    table = pd.DataFrame(rows, columns=columns).merge(sources, on="name", how="left", validate="one_to_one")
    write_latent_shard(out_dir, shard, tensors, table, fingerprint, encoding, failed)
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
    clips: Iterator[Clip], encoders: Encoders, preset: Preset, encoding: LatentEncoding
) -> Iterator[tuple[str, EncodedClip | ValueError]]:
    """Name and encoding of each clip in order, or the error that prevented it."""
    captions = CaptionCache(encoders)

    def encode(codec: LatentCodec, clip: Clip) -> tuple[str, EncodedClip | ValueError]:
        try:
            return clip.name, encode_clip(clip, encoders, preset, codec, encoding, captions=captions)
        except ValueError as error:
            return clip.name, error

    yield from map_clips(encode, clips, LatentCodec(encoders.vae, REFERENCE_STATISTICS))


@torch.inference_mode()
def encode_clip(
    clip: Clip,
    encoders: Encoders,
    preset: Preset,
    codec: LatentCodec,
    encoding: LatentEncoding,
    *,
    captions: CaptionCache | None = None,
) -> EncodedClip:
    """Encode one annotated clip.

    Only pixels with a point and some confidence count in the normalization. The others are filled smoothly for the VAE,
    and `xyz_weight`, the mean confidence of each latent cell, keeps them out of the loss. A clip with confidence 1 in
    all pixels has no `xyz_weight`.

    Args:
        clip: the clip; its first `preset.num_frames` frames are encoded.
        encoders: text and image encoder.
        preset: number of frames and working size.
        codec: VAE; apart from `encoders`, because threads have codecs of their own.
        encoding: settings.
        captions: text embeddings of captions that were encoded before.

    Returns:
        Tensors in float32 on the CPU, and the clip's table row.

    Raises:
        ValueError: the clip has fewer frames than the preset, is not annotated or has no valid points, or its caption
            is too long for the text encoder.
    """
    if clip.num_frames < preset.num_frames:
        raise ValueError(f"{clip.name}: expected at least {preset.num_frames} frames, got {clip.num_frames}")
    fit = fit_clip((clip.height, clip.width), (preset.height, preset.width))
    clip = clip.window(0, preset.num_frames).resized(fit.height, fit.width, ratio=fit.ratio)
    pointmaps = clip.annotated_pointmaps()
    is_valid = np.isfinite(pointmaps).all(axis=-1)
    if clip.confidence is not None:
        is_valid &= clip.confidence > MIN_CONFIDENCE
    normalized, normalization = normalize_pointmaps(pointmaps, per=encoding.normalization, mask=is_valid)
    xyz = np.clip(fill_unknown(normalized, is_valid), -1, 1)
    device = encoders.device
    rgb_pixels = torch.from_numpy(normalize_pixels(clip.rgb)).permute(3, 0, 1, 2)[None].to(device)
    xyz_pixels = torch.from_numpy(xyz).permute(3, 0, 1, 2)[None].to(device)
    text = (captions or CaptionCache(encoders)).encode(clip.caption, f"{clip.name}: caption")
    videos = {"rgb": rgb_pixels, "xyz": xyz_pixels}
    first_rgb, first_xyz = rgb_pixels[:, :, 0], None
    if encoding.xyz_init == "pointmap":
        first = normalized_first_pointmap(np.where(is_valid[0][..., None], pointmaps[0], np.nan))
        first_xyz = torch.from_numpy(first).permute(2, 0, 1)[None].to(device)
    if encoding.condition == "apart":
        videos["condition"] = codec.condition_video(first_rgb, preset.num_frames)
        if first_xyz is not None:
            videos["xyz_condition"] = codec.condition_video(first_xyz, preset.num_frames)
    # With Wan's normalization only: the statistics of XYZ are estimated from these latents.
    latents = codec.encode(torch.cat(list(videos.values())), "rgb")
    encoded = dict(zip(videos, latents, strict=True)) | {
        "text": text,
        "image": encoders.encode_image(clip.rgb[0]),
    }
    if encoding.condition == "joint":
        if first_xyz is None:
            first_xyz = xyz_first_frame(None, height=clip.height, width=clip.width).to(first_rgb)
        halves = codec.encode_joint_condition(first_rgb, first_xyz, preset.num_frames)
        encoded |= {"condition": halves[0][0], "xyz_condition": halves[1][0]}
    weight = is_valid * (np.float32(1) if clip.confidence is None else clip.confidence)
    if weight.min() < 1:
        frames, height, width = latents.shape[-3:]
        factor = int(codec.vae.config.scale_factor_temporal)
        cells = cell_weights(weight, num_latent_frames=frames, height=height, width=width, temporal_factor=factor)
        encoded["xyz_weight"] = torch.from_numpy(cells)
    x, y, z = map(float, np.median(np.atleast_2d(normalization.center), axis=0))
    row: dict[str, float | str] = {
        "name": clip.name,
        "center_x": x,
        "center_y": y,
        "center_z": z,
        "scale": float(normalization.scale),
        "valid_share": float(is_valid.mean()),
    }
    return {key: value.float().cpu().clone() for key, value in encoded.items()}, row


def release_encoders() -> None:
    """Free the encoders that `encode_shard` keeps in memory for the next shard."""
    _load_encoders.cache_clear()
    clear_device_cache(garbage_collection=True)


@lru_cache(maxsize=1)
def _load_encoders(location: str, precision: Resolved) -> Encoders:
    """The encoders of a base, kept in memory from shard to shard."""
    return Encoders.load(location, precision=precision)


def _clip_sizes(tensors: dict[str, torch.Tensor], codec: LatentCodec) -> set[tuple[int, int]]:
    """Heights and widths in pixels of the clips whose latents are among `tensors`."""
    factor = int(codec.vae.config.scale_factor_spatial)
    shapes = {tensor.shape[-2:] for key, tensor in tensors.items() if key.endswith("/rgb")}
    return {(factor * height, factor * width) for height, width in shapes}


def _fingerprint(
    annotated_dir: Path, out_dir: Path, shard: str, names: list[str], preset: Preset, encoding: LatentEncoding
) -> str:
    """Sha256 over everything that the latents of a shard depend on."""
    files = [annotated_dir / f"{shard}.safetensors", annotated_dir / f"{shard}.parquet"]  # captions are in the table
    for path in files:
        if not path.exists():
            raise FileNotFoundError(f"annotated shard: {path} is missing")
    base = (preset.height, preset.width)
    table = pd.read_parquet(files[1], columns=["name", "height", "width", "annotator"])
    accepted = table[table["name"].isin(names)]
    weighted = accepted["name"][accepted["annotator"] != EXACT]
    sizes = zip(accepted["name"], accepted["height"], accepted["width"], strict=True)
    fits = {name: fit_clip((height, width), base) for name, height, width in sizes}
    parts = [
        *input_digests(files, out_dir, shard),
        *former_recipe(recorded(asdict(encoding))).values(),
        *map(str, (preset.num_frames, preset.height, preset.width)),
        *names,
        # Earlier versions encoded all clips at the working size: their fingerprints stay valid.
        *(f"{name} {fit.height}x{fit.width}" for name, fit in fits.items() if (fit.height, fit.width) != base),
        # Exactly annotated clips have confidence 1 in all pixels; their fingerprints of earlier versions stay valid.
        *(f"{name} weights {WEIGHTS_VERSION}" for name in weighted),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
