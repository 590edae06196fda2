"""Builds a data set: shards of procedural worlds and of real clips, the manifest and `LICENSES.md`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from fourdnex.datasets.manifest import write_manifest
from fourdnex.datasets.shards import write_shard
from fourdnex.datasets.worlds import HEIGHT, NUM_FRAMES, WIDTH, render_world
from fourdnex.datasets.worlds.families import PRIMITIVES
from fourdnex.datasets.worlds.mix import make_mix
from fourdnex.io.files import atomic_dir, check_empty
from fourdnex.progress import track

FIRST_SEED = 100_000
CLIPS_PER_SHARD = 64


def build_data(
    out_dir: str | os.PathLike[str],
    *,
    num_worlds: int = 256,
    with_real: bool = True,
    first_seed: int = FIRST_SEED,
    families: tuple[str, ...] = (PRIMITIVES,),
    primitives: float | None = None,
    ratios: tuple[str, ...] = (),
    num_frames: int = NUM_FRAMES,
    height: int = HEIGHT,
    width: int = WIDTH,
    downloads: str | os.PathLike[str] | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> int:
    """Build a data set at `out_dir` atomically; returns the number of clips.

    The `data/` of this repository was built by `build_data("data", num_worlds=256)`. Two shards were added later, built
    with `num_worlds=128, first_seed=200_000, families=TRAINING_FAMILIES, primitives=0.5, ratios=("2:3", "1:1")`.

    Args:
        out_dir: directory to create; must be absent or empty.
        num_worlds: number of procedural worlds.
        with_real: add the real clips of `debian_clips`, whose sources are downloaded from Debian's archive.
        first_seed: seed of the first world; seeds are consecutive and skip the held-out ones.
        families: families of worlds (some of `worlds.families.TRAINING_FAMILIES`), distributed evenly over the seeds.
        primitives: share of the family `primitives` among several families; None = an equal share.
        ratios: aspect ratios, width to height, such as "3:2", distributed evenly, at the area of `height` and `width`;
            empty = the ratio of `height` and `width`.
        num_frames: frames per world. Training requires at least as many frames as the base model generates.
        height: height of a world, pixels.
        width: width of a world, pixels.
        downloads: directory that caches the downloaded sources; required with `with_real`.
        progress: called with one line per shard.

    Raises:
        ValueError: nothing to build, a size below 1, an unknown family or ratio, or missing `downloads`.
        FileExistsError: `out_dir` is not empty.
        OSError: no network, or the disk is full or not writable.
    """
    from fourdnex.datasets.debian_clips import REAL_VIDEOS, iter_real_clips

    if num_worlds < 0 or (num_worlds == 0 and not with_real):
        raise ValueError(f"num_worlds: expected at least {0 if with_real else 1}, got {num_worlds}")
    if with_real and downloads is None:
        raise ValueError("downloads: expected a folder for the sources of the real clips (with_real=True), got None")
    mix = make_mix(families, ratios, primitives=primitives, height=height, width=width)
    check_empty(out_dir)
    rows: list[dict[str, Any]] = []
    with atomic_dir(out_dir) as temporary:
        choices = [world for (world,) in mix.choices(num_worlds, first_seed)]
        for number, start in enumerate(range(0, num_worlds, CLIPS_PER_SHARD)):
            shard, part = f"worlds-{number:04d}", choices[start : start + CLIPS_PER_SHARD]
            worlds = (
                render_world(
                    world.seed, family=world.family, num_frames=num_frames, height=world.size[0], width=world.size[1]
                )
                for world in track(part, desc=shard, unit="world")
            )
            rows += write_shard(temporary, shard, worlds)
            progress(f"{shard}: {len(part)} worlds")
        if with_real and downloads is not None:
            real = write_shard(temporary, "real-0000", iter_real_clips(downloads), crf=18)
            rows += real
            progress(f"real-0000: {len(real)} real clips")
        write_manifest(temporary, rows)
        (temporary / "LICENSES.md").write_text(
            _licenses([video.notice for video in REAL_VIDEOS] if with_real else []), encoding="utf-8"
        )
    return len(rows)


def _licenses(notices: list[str]) -> str:
    """Contents of `LICENSES.md`."""
    lines = [
        "# Licenses of the clips",
        "",
        "`manifest.parquet` names source and license of every clip.",
        "",
        "- `world-*`: rendered by `fourdnex.datasets.worlds`. Apache-2.0.",
        *(f"- {notice}" for notice in notices),
    ]
    return "\n".join(lines) + "\n"
