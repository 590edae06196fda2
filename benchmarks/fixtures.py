"""Inputs shared by the benchmarks: procedural worlds, a folder of their latents, and base models with fewer layers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from fourdnex.clip import Clip
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world, training_seeds
from fourdnex.io.pixels import normalize_pixels
from fourdnex.latents.codec import REFERENCE_STATISTICS, LatentCodec
from fourdnex.latents.encoders import Encoders
from fourdnex.latents.encoding import encode_clip
from fourdnex.latents.shards import PLANE, LatentEncoding, estimate_statistics, write_latent_shard
from fourdnex.model.base_components import COMPONENTS, component_configs
from fourdnex.model.conditioning import plane_condition
from fourdnex.model.presets import Preset, base_digest

FIRST_SEED = 70_000
"""Training seed of the first world of `training_worlds`."""


def size_of(preset: Preset) -> dict[str, int]:
    """Number of frames, height and width of a preset, as keyword arguments."""
    return {"num_frames": preset.num_frames, "height": preset.height, "width": preset.width}


def held_out_worlds(count: int) -> list[Clip]:
    """The first `count` worlds that no training sees, at the tiny base's size."""
    return [render_world(seed) for seed in HELD_OUT_SEEDS[:count]]


def training_worlds(count: int, preset: Preset) -> list[Clip]:
    """`count` training worlds at the preset's size."""
    return [render_world(seed, **size_of(preset)) for seed in training_seeds(FIRST_SEED, count)]


def write_latents(folder: Path, clips: list[Clip], encoders: Encoders, preset: Preset) -> None:
    """Encode `clips` into a latents folder of one shard, with its statistics."""
    codec = LatentCodec(encoders.vae, REFERENCE_STATISTICS)
    with torch.inference_mode():
        tensors = {PLANE: plane_condition(codec, **size_of(preset))[0].clone()}
    rows, encoding = [], LatentEncoding(base_digest=base_digest(preset.location))
    for clip in clips:
        encoded, row = encode_clip(clip, encoders, preset, codec, encoding)
        tensors |= {f"{clip.name}/{key}": value for key, value in encoded.items()}
        rows.append(row)
    write_latent_shard(folder, "worlds", tensors, pd.DataFrame(rows), "benchmark", encoding)
    estimate_statistics(folder)


def with_fewer_layers(preset: Preset, num_layers: int, folder: Path, *, name: str) -> Preset:
    """The preset with a transformer of `num_layers` blocks, its configurations (no weights) written to `folder`."""
    configs = component_configs(preset)
    configs = configs | {"transformer": configs["transformer"] | {"num_layers": num_layers}}
    for component in COMPONENTS:
        (folder / component).mkdir()
        (folder / component / "config.json").write_text(json.dumps(configs[component]))
    return replace(preset, name=name, location=str(folder))


def to_tensor(
    rgb: np.ndarray,  # [T, H, W, 3] uint8
) -> torch.Tensor:
    """RGB frames as [1, 3, T, H, W] in [-1, 1]."""
    return torch.from_numpy(normalize_pixels(rgb)).permute(3, 0, 1, 2)[None]
