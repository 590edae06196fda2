"""Pretraining of the transformer: encoded worlds in, a whole base in the Diffusers layout out."""

import json

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline
from PIL import Image

from fourdnex.datasets.worlds import render_world
from fourdnex.model.latents import UPSTREAM_STATISTICS, LatentCodec
from fourdnex.training.encoded_worlds import encode_worlds
from fourdnex.training.pretrain_transformer import TransformerPretraining, pretrain_transformer

FIRST_SEED = 40


@pytest.fixture(scope="module")
def worlds(random_base, tmp_path_factory):
    path = tmp_path_factory.mktemp("worlds") / "worlds.safetensors"
    encoded = encode_worlds(random_base / "vae", path, num_rgb=2, num_xyz=1, first_seed=FIRST_SEED)
    written = path.stat().st_mtime_ns
    again = encode_worlds(random_base / "vae", path, num_rgb=2, num_xyz=1, first_seed=FIRST_SEED)
    assert path.stat().st_mtime_ns == written
    assert torch.equal(again.rgb, encoded.rgb)
    return encoded


@pytest.mark.slow
def test_encoded_worlds_are_what_the_vae_gives(worlds, random_base):
    clip = render_world(FIRST_SEED)
    codec = LatentCodec(AutoencoderKLWan.from_pretrained(random_base / "vae").eval(), UPSTREAM_STATISTICS)
    pixels = torch.from_numpy(clip.rgb / np.float32(127.5) - 1).permute(3, 0, 1, 2)[None]
    with torch.inference_mode():
        assert torch.allclose(worlds.rgb[0], codec.encode(pixels, "rgb")[0], atol=1e-4)
        assert torch.allclose(worlds.rgb_condition[0], codec.encode_condition(pixels[:, :, 0], 17)[0], atol=1e-4)
    assert np.array_equal(worlds.rgb_image[0].numpy(), clip.rgb[0])
    assert worlds.captions == [render_world(seed).caption for seed in (FIRST_SEED, FIRST_SEED + 1)]
    assert len(worlds.rgb) == len(worlds.rgb_image) == 2
    assert len(worlds.xyz) == len(worlds.xyz_condition) == 1


@pytest.mark.slow
def test_a_few_steps_write_a_base_that_diffusers_loads(worlds, random_base, tmp_path):
    vae = AutoencoderKLWan.from_pretrained(random_base / "vae").eval().requires_grad_(False)
    pretrain_transformer(TransformerPretraining(minutes=0.05, batch=2, warmup=1), vae, worlds, tmp_path / "base")
    lines = [
        json.loads(line) for line in (tmp_path / "base" / "training" / "transformer.jsonl").read_text().split("\n")[:-1]
    ]
    assert lines[0]["config"]["batch"] == 2
    assert lines[-1]["step"] >= 1
    assert np.isfinite([lines[-1]["generated_psnr_db"], lines[-1]["still_psnr_db"]]).all()

    pipeline = WanImageToVideoPipeline.from_pretrained(tmp_path / "base", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.transformer.config.in_channels == 36
    state = dict(pipeline.vae.named_parameters())
    assert all(torch.equal(state[name], value.half().float()) for name, value in vae.named_parameters())
    frames = pipeline(
        image=Image.fromarray(render_world(1).rgb[0]),
        prompt="A red box slides left.",
        height=64,
        width=96,
        num_frames=5,
        num_inference_steps=1,
        guidance_scale=1.0,
        output_type="np",
    ).frames[0]
    assert frames.shape == (5, 64, 96, 3)
    assert np.isfinite(frames).all()


def test_xyz_worlds_are_some_of_the_rgb_worlds(tmp_path):
    with pytest.raises(ValueError, match="num_xyz: expected at most num_rgb = 2, got 3"):
        encode_worlds(tmp_path, tmp_path / "worlds.safetensors", num_rgb=2, num_xyz=3, first_seed=0)
