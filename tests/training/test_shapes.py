"""Clips of several aspect ratios in one data set: annotation, curation, encoding, training in batches of one size."""

from collections import Counter
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors import safe_open

from fourdnex.annotation import annotate_shard
from fourdnex.curation import score_shard
from fourdnex.datasets.manifest import write_manifest
from fourdnex.datasets.shards import write_shard
from fourdnex.datasets.worlds import render_world
from fourdnex.io.files import read_json, sha256_file
from fourdnex.latents.dataset import LatentClips
from fourdnex.latents.encoding import encode_shard
from fourdnex.latents.shards import LatentEncoding, estimate_statistics, shard_fingerprint
from fourdnex.model.presets import base_digest
from fourdnex.model.recipe import recorded
from fourdnex.model.sizes import fit_clip
from fourdnex.training.batches import draw_batch
from fourdnex.training.trainer import train
from tests.training.test_processes import torchrun

SIZES = [(64, 96), (96, 64), (96, 64), (64, 96), (72, 72), (60, 80)]
ENCODED = [(8, 12), (12, 8), (12, 8), (8, 12), (10, 10), (8, 12)]  # the last is 4:3: a ninth of it is cut


@pytest.fixture(scope="module")
def root(tmp_path_factory, random_base) -> Path:
    """Landscape, portrait and square clips, annotated, curated and encoded."""
    root = tmp_path_factory.mktemp("shapes")
    worlds = [render_world(seed, num_frames=17, height=h, width=w) for seed, (h, w) in enumerate(SIZES)]
    write_manifest(root / "data", write_shard(root / "data", "mixed", worlds))
    assert annotate_shard(root / "data", "mixed", root / "annotated").done == len(SIZES)
    assert score_shard(root / "annotated", "mixed", root / "scores").done == len(SIZES)
    names = [clip.name for clip in worlds]
    pd.DataFrame({"name": names, "shard": "mixed", "accepted": True}).to_parquet(root / "curated.parquet")
    report = encode_shard(
        root / "annotated", "mixed", root / "curated.parquet", root / "latents", model=str(random_base)
    )
    assert (report.done, report.failed) == (len(SIZES), ())
    estimate_statistics(root / "latents")
    return root


def test_clips_keep_their_aspect_ratio_unless_the_crop_is_small():
    assert fit_clip((240, 320), (64, 96)).crop == pytest.approx((0, 240 / 18, 320, 240 - 240 / 18))
    fit = fit_clip((360, 240), (480, 720))
    assert (fit.height, fit.width, fit.crop) == (720, 480, (0, 0, 240, 360))
    assert fit_clip((1080, 1920), (64, 96)).crop == (0, 0, 1920, 1080)


def test_latents_and_plane_have_the_shape_of_their_clip(root):
    clips = LatentClips(root / "latents")
    assert [tuple(clips[i]["latents"].shape[-2:]) for i in range(len(clips))] == ENCODED
    assert [tuple(clips[i]["condition"].shape[-2:]) for i in range(len(clips))] == ENCODED
    shapes = {bucket.shape[-2:]: bucket.indices for bucket in clips.buckets}
    assert shapes == {(8, 12): (0, 3, 5), (12, 8): (1, 2), (10, 10): (4,)}
    with safe_open(root / "latents" / "mixed.safetensors", framework="pt") as file:
        assert {key for key in file.keys() if key.startswith("plane")} == {"plane", "plane/12x8", "plane/10x10"}
        assert file.get_tensor("plane/12x8").shape[-2:] == (12, 8)


def test_fingerprint_of_clips_at_the_working_size_is_unchanged(root, random_base, tmp_path):
    """With a clip of another size it differs from the fingerprint of cropped clips."""
    table = pd.read_parquet(root / "curated.parquet")
    landscape = [name for name, size in zip(table["name"], SIZES, strict=True) if size == (64, 96)]
    files = [root / "annotated" / f"mixed.{suffix}" for suffix in ("safetensors", "parquet")]
    encoding = recorded(asdict(LatentEncoding(base_digest=base_digest(str(random_base)))))

    def former(names: list[str]) -> str:
        parts = [*map(sha256_file, files), *encoding.values(), "17", "64", "96", *names]
        return sha256("\n".join(parts).encode()).hexdigest()

    table.assign(accepted=table["name"].isin(landscape)).to_parquet(tmp_path / "curated.parquet")
    encode_shard(root / "annotated", "mixed", tmp_path / "curated.parquet", tmp_path / "out", model=str(random_base))
    assert shard_fingerprint(tmp_path / "out", "mixed") == former(landscape)
    assert shard_fingerprint(root / "latents", "mixed") != former(sorted(table["name"]))


def test_batches_have_one_size_and_all_clips_are_drawn_equally_often(root, config):
    clips = LatentClips(root / "latents")
    shown: Counter[int] = Counter()
    for step in range(90):
        chosen, sigma, noise = draw_batch(config, clips, step)
        (shape,) = {tuple(clips[i]["latents"].shape) for i in chosen}
        assert noise.shape == (config.batch_size, *shape) and len(sigma) == config.batch_size
        shown.update(chosen)
    assert set(shown) == set(range(6)) and max(shown.values()) - min(shown.values()) <= 2  # 30 on average
    again = draw_batch(config, clips, 41)  # out of order, and from a new data set
    other = draw_batch(config, LatentClips(root / "latents"), 41)
    assert again[0] == other[0] and torch.equal(again[2], other[2])


def test_batches_of_one_size_are_unchanged(config, latents):
    """Consecutive parts of one permutation per epoch."""
    clips = LatentClips(latents)
    orders = [torch.randperm(3, generator=torch.Generator().manual_seed(config.seed * 100_003 + e)) for e in range(4)]
    expected = torch.cat(orders).tolist()
    assert [i for step in range(6) for i in draw_batch(config, clips, step)[0]] == expected
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + 3)
    torch.rand(config.batch_size, generator=generator)
    assert torch.equal(draw_batch(config, clips, 3)[2], torch.randn(2, 2, 16, 5, 8, 12, generator=generator))


@pytest.mark.slow
def test_training_on_several_sizes_resumes(root, config, tmp_path):
    mixed = replace(config, latents=root / "latents", steps=6, checkpoint_every=3)
    whole = train(mixed)
    interrupted = replace(mixed, output=tmp_path / "interrupted")
    import fourdnex.training.loop as loop

    original, taken = loop.TrainingLoop.update, []

    def until_step_4(self, step):
        if step == 4 and not taken:
            taken.append(step)
            raise KeyboardInterrupt
        return original(self, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.TrainingLoop, "update", until_step_4)
        with pytest.raises(KeyboardInterrupt):
            train(interrupted)
        assert train(interrupted).adapter_digest == whole.adapter_digest


@pytest.mark.slow
def test_two_processes_share_batches_of_one_size(root, config, tmp_path):
    mixed = replace(config, latents=root / "latents", steps=6)
    one = train(replace(mixed, gradient_accumulation=2))
    two = replace(mixed, output=tmp_path / "two" / "adapter")
    torchrun(two)
    summary = read_json(two.output / "training" / "summary.json")
    assert summary["adapter_norm"] == pytest.approx(one.adapter_norm, rel=1e-5)
    assert summary["loss"] == pytest.approx(one.loss, abs=5e-6)
