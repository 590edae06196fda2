"""Latents of three worlds, made the way the product makes them, and a short run on them."""

from pathlib import Path

import pandas as pd
import pytest

SHARD = "worlds-0000"


@pytest.fixture(scope="session")
def latents(tmp_path_factory, random_base) -> Path:
    from fourdnex.annotation import annotate_shard
    from fourdnex.datasets.build import build_data
    from fourdnex.training.encoding import encode_shard
    from fourdnex.training.latent_shards import estimate_statistics

    root = tmp_path_factory.mktemp("training")
    build_data(root / "data", num_worlds=3, with_real=False)
    report = annotate_shard(root / "data", SHARD, root / "annotated")
    assert report.done == 3
    names = pd.read_parquet(root / "annotated" / f"{SHARD}.parquet")["name"]
    curated = root / "curated.parquet"
    pd.DataFrame({"name": names, "shard": SHARD, "kept": True}).to_parquet(curated)
    report = encode_shard(root / "annotated", SHARD, curated, root / "latents", model=str(random_base))
    assert (report.asked, report.done, report.set_aside) == (3, 3, ())
    again = encode_shard(root / "annotated", SHARD, curated, root / "latents", model=str(random_base))
    assert (again.done, again.skipped) == (0, 3)
    estimate_statistics(root / "latents")
    return root / "latents"


@pytest.fixture
def config(latents, random_base, tmp_path):
    from fourdnex.training.settings import LoraTraining

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
