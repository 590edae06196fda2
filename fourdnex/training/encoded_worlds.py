"""Worlds encoded once by the tiny VAE, in parts; the transformer's pretraining draws its batches from them.

Parts that are there are not made again, and training may begin while later parts are still being encoded.
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
from fourdnex.files import atomic_path
from fourdnex.model.latents import UPSTREAM_STATISTICS, LatentCodec, LatentStatistics
from fourdnex.training.pretrain_vae import pair_pixels, world_pair

PART = 25
_CODEC: LatentCodec  # of a worker process, set by `_start`


@dataclass(frozen=True, eq=False)
class EncodedWorlds:
    """Latents of N worlds, after Wan's normalisation alone."""

    rgb: torch.Tensor  # [N, 16, F, h, w]
    xyz: torch.Tensor  # [N, 16, F, h, w]
    rgb_condition: torch.Tensor  # [N, 16, F, h, w], of the first RGB frame
    xyz_condition: torch.Tensor  # [N, 16, F, h, w], of the first XYZ frame
    rgb_image: torch.Tensor  # [N, H, W, 3] uint8, first frames
    xyz_image: torch.Tensor  # [N, H, W, 3] uint8
    captions: list[str]
    seeds: list[int]
    num_parts: int

    def xyz_statistics(self) -> LatentStatistics:
        """Mean and standard deviation of the XYZ latents, one a channel."""
        flat = self.xyz.transpose(0, 1).flatten(1)
        return LatentStatistics(mean=tuple(flat.mean(dim=1).tolist()), std=tuple(flat.std(dim=1).tolist()))


def load_worlds(folder: Path) -> EncodedWorlds:
    """All parts in `folder`.

    Raises:
        FileNotFoundError: if there is none.
    """
    paths = sorted(folder.glob("[!.]*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"encoded worlds: no parts in {folder}")
    captions: list[str] = []
    seeds: list[int] = []
    tensors: dict[str, list[torch.Tensor]] = {}
    for path in paths:
        with safe_open(path, framework="pt") as file:
            told = json.loads(file.metadata()["captions"])
            captions += told
            seeds += training_seeds(int(path.stem), len(told))
            for key in file.keys():
                tensors.setdefault(key, []).append(file.get_tensor(key))
    joined = {key: torch.cat(parts) for key, parts in tensors.items()}
    return EncodedWorlds(captions=captions, seeds=seeds, num_parts=len(paths), **joined)


def encoder_digest(vae: AutoencoderKLWan) -> str:
    """12 hexadecimal digits of what latents depend on: the weights in half precision, as they are stored."""
    digest = hashlib.sha256()
    for name, value in sorted(vae.state_dict().items()):
        if name.startswith(("encoder.", "quant_conv.")):
            digest.update(name.encode() + value.half().numpy().tobytes())
    return digest.hexdigest()[:12]


def set_latent_moments(vae: AutoencoderKLWan, *, num_worlds: int = 48, first_seed: int = 5_000) -> None:
    """Set the VAE's `latents_mean` and `latents_std` from RGB clips of worlds, in its configuration."""
    latents = []
    for seed in training_seeds(first_seed, num_worlds):
        with torch.inference_mode():
            latents.append(vae.encode(pair_pixels(world_pair(seed))[:1]).latent_dist.mode()[0].flatten(1))
    joined = torch.cat(latents, dim=1)
    mean, std = joined.mean(dim=1).tolist(), joined.std(dim=1).tolist()
    vae.register_to_config(latents_mean=[round(v, 5) for v in mean], latents_std=[round(v, 5) for v in std])


def encode_worlds(vae: Path, folder: Path, *, num_worlds: int, first_seed: int, workers: int | None = None) -> None:
    """Encode training worlds with the VAE in folder `vae` into parts in `folder`, one process a core."""
    seeds = list(training_seeds(first_seed, num_worlds))
    parts = [(folder / f"{seeds[i]:09d}.safetensors", seeds[i : i + PART]) for i in range(0, num_worlds, PART)]
    missing = [part for part in parts if not part[0].exists()]
    spawn = get_context("spawn")
    with ProcessPoolExecutor(
        workers or available_cores(), mp_context=spawn, initializer=_start, initargs=(vae,)
    ) as pool:
        for done, _ in enumerate(pool.map(_encode_part, missing), start=1):
            print(f"encoded {done} of {len(missing)} parts", flush=True)


def _start(vae: Path) -> None:
    global _CODEC
    torch.set_num_threads(1)
    _CODEC = LatentCodec(AutoencoderKLWan.from_pretrained(vae).eval(), UPSTREAM_STATISTICS)


def _encode_part(part: tuple[Path, list[int]]) -> None:
    path, seeds = part
    worlds = [_encode(seed) for seed in seeds]
    tensors = {key: torch.stack([world[key] for world in worlds]) for key in worlds[0] if key != "caption"}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"captions": json.dumps([world["caption"] for world in worlds])})


@torch.inference_mode()
def _encode(seed: int) -> dict[str, Any]:
    """One world: the RGB and XYZ clips and their conditions go through the VAE as one batch."""
    pair = pair_pixels(world_pair(seed))
    conditions = torch.zeros_like(pair)
    conditions[:, :, 0] = pair[:, :, 0]
    rgb, xyz, rgb_condition, xyz_condition = _CODEC.encode(torch.cat([pair, conditions]), "rgb")
    images = ((pair[:, :, 0].permute(0, 2, 3, 1) + 1) * 127.5).round().byte()
    return {
        "caption": render_world(seed, num_frames=1, height=8, width=8).caption,
        "rgb": rgb.clone(),
        "xyz": xyz.clone(),
        "rgb_condition": rgb_condition.clone(),
        "xyz_condition": xyz_condition.clone(),
        "rgb_image": images[0],
        "xyz_image": images[1],
    }
