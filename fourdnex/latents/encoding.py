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
from fourdnex.datasets.annotated import iter_annotated
from fourdnex.datasets.reports import ShardReport
from fourdnex.datasets.versions import copy_data_version
from fourdnex.geometry.pointmaps import normalize_pointmaps
from fourdnex.io.files import sha256_file
from fourdnex.io.pixels import normalize_pixels
from fourdnex.io.renamed import former_recipe, renamed_columns
from fourdnex.latents.codec import REFERENCE_STATISTICS, LatentCodec
from fourdnex.latents.encoders import Encoders
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
from fourdnex.model.precision import Resolved, resolve_precision
from fourdnex.model.presets import Preset, base_digest, get_preset
from fourdnex.model.recipe import Condition, Normalize, XyzInit, recorded
from fourdnex.model.sizes import fit_clip
from fourdnex.model.vae_threads import map_clips
from fourdnex.progress import track

__all__ = ["LatentSummary", "encode_shard", "estimate_statistics", "release_encoders"]

MIN_CONFIDENCE = 0.05
"""Pixels of lower confidence do not count in the center and scale of a clip."""
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
    """Encode the accepted clips of one annotated shard into `{out_dir}/{shard}.safetensors` and `.parquet`.

    Clips are resized to about the area of the base's working size, at their own aspect ratio (see `fit_clip`). A shard
    that was already encoded from the same annotation, selection and base, with the same settings, is not encoded again.
    A clip that cannot be encoded (too few frames, no valid points, too long a caption) is reported as failed, with the
    reason.

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
    clips: Iterator[Clip], encoders: Encoders, preset: Preset, encoding: LatentEncoding
) -> Iterator[tuple[str, EncodedClip | ValueError]]:
    """Name and encoding of each clip in order, or the error that prevented it."""

    def encode(codec: LatentCodec, clip: Clip) -> tuple[str, EncodedClip | ValueError]:
        try:
            return clip.name, encode_clip(clip, encoders, preset, codec, encoding)
        except ValueError as error:
            return clip.name, error

    yield from map_clips(encode, clips, LatentCodec(encoders.vae, REFERENCE_STATISTICS))


@torch.inference_mode()
def encode_clip(
    clip: Clip, encoders: Encoders, preset: Preset, codec: LatentCodec, encoding: LatentEncoding
) -> EncodedClip:
    """Encode one annotated clip.

    Args:
        clip: the clip; its first `preset.num_frames` frames are encoded.
        encoders: text and image encoder.
        preset: number of frames and working size.
        codec: VAE; apart from `encoders`, because threads have codecs of their own.
        encoding: settings.

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
    xyz = np.clip(np.nan_to_num(normalized, nan=0.0), -1, 1)
    device = encoders.device
    rgb_pixels = torch.from_numpy(normalize_pixels(clip.rgb)).permute(3, 0, 1, 2)[None].to(device)
    xyz_pixels = torch.from_numpy(xyz).permute(3, 0, 1, 2)[None].to(device)
    text = encoders.encode_caption(clip.caption, f"{clip.name}: caption")
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


def _fingerprint(annotated_dir: Path, shard: str, names: list[str], preset: Preset, encoding: LatentEncoding) -> str:
    """Sha256 over everything that the latents of a shard depend on."""
    files = [annotated_dir / f"{shard}.safetensors", annotated_dir / f"{shard}.parquet"]  # captions are in the table
    for path in files:
        if not path.exists():
            raise FileNotFoundError(f"annotated shard: {path} is missing")
    base = (preset.height, preset.width)
    table = pd.read_parquet(files[1], columns=["name", "height", "width"])
    accepted = table[table["name"].isin(names)]
    sizes = zip(accepted["name"], accepted["height"], accepted["width"], strict=True)
    fits = {name: fit_clip((height, width), base) for name, height, width in sizes}
    parts = [
        *map(sha256_file, files),
        *former_recipe(recorded(asdict(encoding))).values(),
        *map(str, (preset.num_frames, preset.height, preset.width)),
        *names,
        # Earlier versions encoded all clips at the working size: their fingerprints stay valid.
        *(f"{name} {fit.height}x{fit.width}" for name, fit in fits.items() if (fit.height, fit.width) != base),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
