"""Latents of three worlds, encoded as in production, and the settings of a short run."""

from pathlib import Path

import pytest

SHARD = "worlds-0000"


@pytest.fixture(scope="session")
def latents(tmp_path_factory, random_base, annotate_worlds) -> Path:
    from fourdnex.latents.encoding import encode_shard
    from fourdnex.latents.shards import estimate_statistics

    root = annotate_worlds(tmp_path_factory.mktemp("training"), 3)
    curated = root / "curated.parquet"
    report = encode_shard(root / "annotated", SHARD, curated, root / "latents", model=str(random_base))
    assert (report.requested, report.done, report.failed) == (3, 3, ())
    again = encode_shard(root / "annotated", SHARD, curated, root / "latents", model=str(random_base))
    assert (again.done, again.cached) == (0, 3)
    estimate_statistics(root / "latents")
    return root / "latents"


@pytest.fixture
def config(latents, random_base, tmp_path):
    from fourdnex.training.lora_settings import LoraTraining

    return LoraTraining(
        latents=latents,
        output=tmp_path / "adapter",
        model=str(random_base),
        steps=4,
        batch_size=2,
        rank=2,
        alpha=2.0,
        warmup_steps=1,
        checkpoint_every=2,
        num_samples=0,
        track=False,
    )
