"""Training worlds, encoded once by the tiny VAE and stored in parts, for the pretraining of the transformer.

A part holds worlds of one family and size; its file name is family, size and first seed. Parts that exist are not
encoded again, and training may start while later parts are still being encoded.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from safetensors import safe_open
from safetensors.torch import save_file

from fourdnex.cores import available_cores
from fourdnex.datasets.worlds import render_world, training_seeds
from fourdnex.datasets.worlds.mix import Size, WorldChoice, WorldMix, make_mix
from fourdnex.io.files import atomic_path
from fourdnex.io.pixels import denormalize_pixels
from fourdnex.latents.codec import REFERENCE_STATISTICS, LatentCodec, LatentStatistics
from fourdnex.model.bfloat_vae import use_bfloat16
from fourdnex.model.option_types import Precision
from fourdnex.model.precision import Resolved, resolve_precision
from fourdnex.pretraining.world_pairs import pair_pixels, world_pair

PART = 25
"""Worlds per part."""
_CODEC: LatentCodec  # codec of a worker process, set by `_load_codec`


@dataclass(frozen=True, eq=False)
class EncodedWorlds:
    """Latents of N worlds of one size, with Wan's normalization only."""

    rgb: torch.Tensor  # [N, 16, F, h, w]
    xyz: torch.Tensor  # [N, 16, F, h, w]
    rgb_condition: torch.Tensor  # [N, 16, F, h, w], of the first RGB frame
    xyz_condition: torch.Tensor  # [N, 16, F, h, w], of the first XYZ frame
    rgb_image: torch.Tensor  # [N, H, W, 3] uint8, first frames
    xyz_image: torch.Tensor  # [N, H, W, 3] uint8
    captions: list[str]
    seeds: list[int]
    families: list[str]
    num_parts: int

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return self.rgb_image.shape[1], self.rgb_image.shape[2]


def load_worlds(folder: Path) -> list[EncodedWorlds]:
    """All parts in `folder`; parts of one size are concatenated.

    Raises:
        FileNotFoundError: there are no parts.
    """
    by_size: dict[Size, list[Path]] = {}
    for path in sorted(folder.glob("[!.]*.safetensors")):
        by_size.setdefault(_parse_part_name(path)[1], []).append(path)
    if not by_size:
        raise FileNotFoundError(f"encoded worlds: no parts in {folder}")
    return [_concatenate(paths) for paths in by_size.values()]


def xyz_statistics(groups: list[EncodedWorlds]) -> LatentStatistics:
    """Mean and standard deviation of the XYZ latents of all sizes, one value per channel."""
    flat = torch.cat([group.xyz.transpose(0, 1).flatten(1) for group in groups], dim=1)
    return LatentStatistics(mean=tuple(flat.mean(dim=1).tolist()), std=tuple(flat.std(dim=1).tolist()))


def _concatenate(paths: list[Path]) -> EncodedWorlds:
    """The worlds of several parts of one size."""
    captions: list[str] = []
    seeds: list[int] = []
    families: list[str] = []
    tensors: dict[str, list[torch.Tensor]] = {}
    for path in paths:
        family, _, first_seed = _parse_part_name(path)
        with safe_open(path, framework="pt") as file:
            part_captions = json.loads(file.metadata()["captions"])
            captions += part_captions
            seeds += training_seeds(first_seed, len(part_captions))
            families += [family] * len(part_captions)
            for key in file.keys():
                tensors.setdefault(key, []).append(file.get_tensor(key))
    whole = {key: torch.cat(parts) for key, parts in tensors.items()}
    return EncodedWorlds(captions=captions, seeds=seeds, families=families, num_parts=len(paths), **whole)


def _part_name(first: WorldChoice) -> str:
    """File name of the part with this first world."""
    return f"{first.family}-{first.size[0]}x{first.size[1]}-{first.seed:09d}.safetensors"


def _parse_part_name(path: Path) -> tuple[str, Size, int]:
    """Family, size and first seed of a part, the inverse of `_part_name`."""
    family, size, seed = path.stem.split("-")
    height, width = size.split("x")
    return family, (int(height), int(width)), int(seed)


def encoder_digest(vae: AutoencoderKLWan) -> str:
    """First 12 hexadecimal digits of the sha256 of the encoder's weights in half precision, as they are stored."""
    digest = hashlib.sha256()
    for name, value in sorted(vae.state_dict().items()):
        if name.startswith(("encoder.", "quant_conv.")):
            digest.update(name.encode() + value.half().numpy().tobytes())
    return digest.hexdigest()[:12]


def set_latent_moments(vae: AutoencoderKLWan, *, num_worlds: int = 48, first_seed: int = 5_000) -> None:
    """Estimate `latents_mean` and `latents_std` on RGB clips of worlds, and set them in the configuration of `vae`."""
    latents = []
    for seed in training_seeds(first_seed, num_worlds):
        with torch.inference_mode():
            latents.append(vae.encode(pair_pixels(world_pair(seed))[:1]).latent_dist.mode()[0].flatten(1))
    joined = torch.cat(latents, dim=1)
    mean, std = joined.mean(dim=1).tolist(), joined.std(dim=1).tolist()
    vae.register_to_config(latents_mean=[round(v, 5) for v in mean], latents_std=[round(v, 5) for v in std])


def encode_worlds(
    vae: Path,
    folder: Path,
    *,
    num_worlds: int,
    first_seed: int,
    mix: WorldMix | None = None,
    precision: Precision = "fp32",
    workers: int | None = None,
) -> None:
    """Encode training worlds into parts in `folder`, with one process per core.

    Args:
        vae: folder of the VAE.
        folder: folder of the parts.
        num_worlds: number of worlds.
        first_seed: seed of the first world.
        mix: families and sizes of the worlds; None: primitives at 64x96, like the held-out worlds.
        precision: precision of the VAE; the latents in bf16 differ by 48 dB from those in fp32.
        workers: number of processes; None: one per core.
    """
    blocks = (mix or make_mix()).choices(num_worlds, first_seed, block=PART)
    missing = [(path, block) for block in blocks if not (path := folder / _part_name(block[0])).exists()]
    spawn = get_context("spawn")
    with ProcessPoolExecutor(
        workers or available_cores(),
        mp_context=spawn,
        initializer=_load_codec,
        initargs=(vae, resolve_precision(precision, "cpu")),
    ) as pool:
        for done, _ in enumerate(pool.map(_encode_part, missing), start=1):
            print(f"encoded {done} of {len(missing)} parts", flush=True)


def _load_codec(vae: Path, precision: Resolved) -> None:
    """Initializer of a worker process."""
    global _CODEC
    torch.set_num_threads(1)
    model = AutoencoderKLWan.from_pretrained(vae, dtype=torch.float32).eval()
    if precision == "bf16":
        use_bfloat16(model)
    _CODEC = LatentCodec(model, REFERENCE_STATISTICS)


def _encode_part(part: tuple[Path, list[WorldChoice]]) -> None:
    """Encode the worlds of a part and write it."""
    path, choices = part
    worlds = [_encode(world) for world in choices]
    tensors = {key: torch.stack([world[key] for world in worlds]) for key in worlds[0] if key != "caption"}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"captions": json.dumps([world["caption"] for world in worlds])})


@torch.inference_mode()
def _encode(world: WorldChoice) -> dict[str, Any]:
    """Encode one world: the RGB and XYZ clips and their conditions are one batch of the VAE."""
    pair = pair_pixels(world_pair(world.seed, world.family, world.size))
    conditions = torch.zeros_like(pair)
    conditions[:, :, 0] = pair[:, :, 0]
    rgb, xyz, rgb_condition, xyz_condition = _CODEC.encode(torch.cat([pair, conditions]), "rgb")
    images = denormalize_pixels(pair[:, :, 0].permute(0, 2, 3, 1))
    return {
        "caption": render_world(world.seed, family=world.family, num_frames=1, height=8, width=8).caption,
        "rgb": rgb.clone(),
        "xyz": xyz.clone(),
        "rgb_condition": rgb_condition.clone(),
        "xyz_condition": xyz_condition.clone(),
        "rgb_image": images[0],
        "xyz_image": images[1],
    }
