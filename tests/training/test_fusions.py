"""Every fusion end to end on a real base: training, loading the adapter, generation."""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import WanTransformer3DModel

from fourdnex.latents.shards import PLANE, LatentEncoding, estimate_statistics, write_latent_shard
from fourdnex.model.adapter import adapter_state, add_lora, read_adapter_info, save_adapter
from fourdnex.model.option_types import FusionName
from fourdnex.model.pipeline import SixDPipeline, SixDVideo, load_pipeline
from fourdnex.model.presets import base_digest
from fourdnex.model.sampling import SamplingSettings
from fourdnex.model.transformer import SixDTransformer
from fourdnex.training.trainer import LoraTraining, train

FRAMES, HEIGHT, WIDTH = 5, 32, 48
GRID = (2, HEIGHT // 8, WIDTH // 8)
STEPS = 20
SAMPLING = SamplingSettings(num_inference_steps=2, guidance_scale=2.0)


@pytest.fixture(scope="module")
def latents(tmp_path_factory, random_base) -> Path:
    """Two clips of smooth latents, with XYZ a function of RGB: an easy task."""
    folder = tmp_path_factory.mktemp("latents")
    generator = torch.Generator().manual_seed(0)
    tensors = {PLANE: torch.randn(16, *GRID, generator=generator)}
    for name in ("one", "two"):
        rgb = torch.randn(16, 1, 1, 1, generator=generator).expand(16, *GRID)
        clip = {"rgb": rgb, "xyz": 2 * rgb.flip(0) - 0.5, "condition": rgb}
        clip |= {"text": torch.randn(7, 64, generator=generator), "image": torch.randn(17, 64, generator=generator)}
        tensors |= {f"{name}/{key}": value for key, value in clip.items()}
    table = pd.DataFrame({"name": ["one", "two"], "scale": 1.0} | {f"center_{axis}": 0.0 for axis in "xyz"})
    encoding = LatentEncoding(base_digest=base_digest(str(random_base)))
    write_latent_shard(folder, "easy", tensors, table, "by hand", encoding)
    estimate_statistics(folder)
    return folder


def generate(pipeline: SixDPipeline) -> SixDVideo:
    image = np.random.default_rng(0).integers(0, 256, (1, HEIGHT, WIDTH, 3), dtype=np.uint8)
    return pipeline.generate(image, ["A red box."], num_frames=FRAMES, seeds=[1], sampling=SAMPLING)


def save_untrained(trained: Path, random_base: Path, folder: Path) -> Path:
    """An untrained adapter with the metadata of the adapter in folder `trained`."""
    info = read_adapter_info(trained)
    base = WanTransformer3DModel.from_pretrained(random_base, subfolder="transformer")
    transformer = SixDTransformer.from_base(base, fusion=info.fusion, positions=info.positions)
    add_lora(transformer, rank=info.rank, alpha=info.alpha, targets=info.targets)
    save_adapter(folder, adapter_state(transformer), info)
    return folder


@pytest.mark.parametrize("fusion", get_args(FusionName))
def test_trains_saves_loads_and_generates(fusion, latents, random_base, tmp_path):
    config = LoraTraining(
        latents=latents,
        output=tmp_path / "adapter",
        model=str(random_base),
        fusion=fusion,
        steps=STEPS,
        batch_size=2,
        learning_rate=0.02,
        rank=8,
        alpha=8.0,
        warmup_steps=1,
        num_samples=0,
        track=False,
    )
    assert train(config).adapter_norm > 0
    log = [json.loads(line) for line in (config.output / "training" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["rgb_loss"] < 0.9 * log[0]["rgb_loss"]
    assert log[-1]["xyz_loss"] < 0.9 * log[0]["xyz_loss"]
    assert read_adapter_info(config.output).fusion == fusion

    untrained = save_untrained(config.output, random_base, tmp_path / "untrained")
    adapters = (config.output, config.output, untrained)
    first, again, before = (generate(load_pipeline(str(random_base), adapter)[0]) for adapter in adapters)
    assert first.rgb.shape == first.xyz.shape == (1, FRAMES, HEIGHT, WIDTH, 3)
    assert np.array_equal(first.rgb, again.rgb) and np.array_equal(first.xyz, again.xyz)
    assert np.abs(first.xyz - before.xyz).max() > 1e-3
