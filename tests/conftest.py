"""Fixtures shared by all tests: a small base model with random weights, and annotated worlds."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def float32_by_default():
    """Precision "auto" resolves to fp32, so that tests check the same numbers on every processor."""
    from fourdnex.model import precision

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(precision, "cpu_has_bfloat16", lambda: False)
        yield


@pytest.fixture(scope="session")
def random_base(tmp_path_factory) -> Path:
    """A complete base model in the Diffusers layout: real classes, one transformer layer, random weights."""
    import torch
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanImageToVideoPipeline, WanTransformer3DModel

    from fourdnex.pretraining.conditioning_encoders import ConditioningEncoders
    from fourdnex.pretraining.text_encoder import new_text_encoder
    from fourdnex.pretraining.tokenizer import build_tokenizer
    from fourdnex.pretraining.transformer import TRANSFORMER_CONFIG
    from fourdnex.pretraining.vae import VAE_CONFIG

    torch.manual_seed(0)
    tokenizer = build_tokenizer(50)
    encoders = ConditioningEncoders(tokenizer, new_text_encoder(tokenizer))
    folder = tmp_path_factory.mktemp("base") / "fourdnex-tiny-random"
    WanImageToVideoPipeline(
        tokenizer=encoders.tokenizer,
        text_encoder=encoders.text,
        image_encoder=encoders.image,
        image_processor=encoders.processor,
        vae=AutoencoderKLWan(**VAE_CONFIG | {"base_dim": 8, "num_res_blocks": 1}),
        transformer=WanTransformer3DModel(**TRANSFORMER_CONFIG | {"num_layers": 1}),
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0),
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def annotate_worlds() -> Callable[[Path, int], Path]:
    """Function that creates annotated worlds in a folder and returns it.

    The folder has `data`, `annotated` (shard `worlds-0000`) and `curated.parquet`, where all clips are accepted.
    """
    import pandas as pd

    from fourdnex.annotation import annotate_shard
    from fourdnex.datasets.build import build_data

    def make(folder: Path, number: int) -> Path:
        build_data(folder / "data", num_worlds=number, with_real=False)
        assert annotate_shard(folder / "data", "worlds-0000", folder / "annotated").done == number
        names = pd.read_parquet(folder / "annotated" / "worlds-0000.parquet")["name"]
        curated = pd.DataFrame({"name": names, "shard": "worlds-0000", "accepted": True})
        curated.to_parquet(folder / "curated.parquet")
        return folder

    return make
