"""Worlds encoded once by the tiny VAE, which the transformer's pretraining draws its batches from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from safetensors import safe_open
from safetensors.torch import save_file

from fourdnex.datasets.worlds import render_world, training_seeds
from fourdnex.files import atomic_path
from fourdnex.model.latents import UPSTREAM_STATISTICS, LatentCodec, LatentStatistics
from fourdnex.training.pretrain_vae import world_pair


@dataclass(frozen=True, eq=False)
class EncodedWorlds:
    """Latents of N worlds in RGB, the first M of them in XYZ too; all after Wan's normalisation alone."""

    rgb: torch.Tensor  # [N, 16, F, h, w]
    xyz: torch.Tensor  # [M, 16, F, h, w]
    rgb_condition: torch.Tensor  # [N, 16, F, h, w], of the first frame
    xyz_condition: torch.Tensor  # [M, 16, F, h, w]
    rgb_image: torch.Tensor  # [N, H, W, 3] uint8 first frames
    xyz_image: torch.Tensor  # [M, H, W, 3] uint8
    captions: list[str]

    def xyz_statistics(self) -> LatentStatistics:
        """Mean and standard deviation of the XYZ latents, a channel."""
        flat = self.xyz.transpose(0, 1).flatten(1)
        return LatentStatistics(mean=tuple(flat.mean(dim=1).tolist()), std=tuple(flat.std(dim=1).tolist()))


def set_latent_moments(vae: AutoencoderKLWan, *, num_worlds: int = 48, first_seed: int = 5_000) -> None:
    """Set the VAE's `latents_mean` and `latents_std` from RGB clips of worlds, in its configuration."""
    latents = []
    for seed in training_seeds(first_seed, num_worlds):
        with torch.inference_mode():
            latents.append(vae.encode(_pixels(world_pair(seed))[:1]).latent_dist.mode()[0].flatten(1))
    joined = torch.cat(latents, dim=1)
    mean, std = joined.mean(dim=1).tolist(), joined.std(dim=1).tolist()
    vae.register_to_config(latents_mean=[round(v, 5) for v in mean], latents_std=[round(v, 5) for v in std])


def encode_worlds(vae: Path, path: Path, *, num_rgb: int, num_xyz: int, first_seed: int) -> EncodedWorlds:
    """Encode training worlds with the VAE in folder `vae`, one process a core; kept in `path` for the next time.

    Raises:
        ValueError: if more worlds are asked for in XYZ than in RGB.
    """
    if num_xyz > num_rgb:
        raise ValueError(f"num_xyz: expected at most num_rgb = {num_rgb}, got {num_xyz}")
    if not path.exists():
        seeds = list(training_seeds(first_seed, num_rgb))
        worlds = list(_encoded(vae, seeds, num_xyz))
        tensors = {key: torch.stack([w[key] for w in worlds if key in w]) for key in worlds[0] if key != "caption"}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata={"captions": json.dumps([w["caption"] for w in worlds])})
    with safe_open(path, framework="pt") as file:
        captions = json.loads(file.metadata()["captions"])
        return EncodedWorlds(captions=captions, **{key: file.get_tensor(key) for key in file.keys()})


def _encoded(vae: Path, seeds: list[int], num_xyz: int) -> Iterator[dict]:
    jobs = [(seed, i < num_xyz) for i, seed in enumerate(seeds)]
    with ProcessPoolExecutor(
        os.cpu_count(), mp_context=get_context("spawn"), initializer=_start, initargs=(vae,)
    ) as pool:
        for done, world in enumerate(pool.map(partial(_encode), jobs, chunksize=8), start=1):
            if done % 100 == 0:
                print(f"encoded {done} of {len(jobs)} worlds", flush=True)
            yield world


def _start(vae: Path) -> None:
    global _CODEC
    torch.set_num_threads(1)
    _CODEC = LatentCodec(AutoencoderKLWan.from_pretrained(vae).eval(), UPSTREAM_STATISTICS)


def _encode(job: tuple[int, bool]) -> dict:
    seed, with_xyz = job
    pair = _pixels(world_pair(seed))
    world: dict = {"caption": render_world(seed, num_frames=1, height=8, width=8).caption}
    with torch.inference_mode():
        for modality, clip in (("rgb", pair[:1]), ("xyz", pair[1:]))[: 2 if with_xyz else 1]:
            world[modality] = _CODEC.encode(clip, "rgb")[0]
            world[f"{modality}_condition"] = _CODEC.encode_condition(clip[:, :, 0], clip.shape[2])[0]
            world[f"{modality}_image"] = ((clip[0, :, 0].permute(1, 2, 0) + 1) * 127.5).byte()
    return world


def _pixels(pair: tuple[np.ndarray, np.ndarray]) -> torch.Tensor:
    """RGB and XYZ of a world as [2, 3, T, H, W] in [-1, 1]."""
    stacked = np.stack([pair[0] / np.float32(127.5) - 1, pair[1].astype(np.float32)])
    return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 4, 1, 2, 3), dtype=np.float32))
