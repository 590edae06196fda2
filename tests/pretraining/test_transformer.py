"""Pretraining of the transformer: from encoded worlds to a whole base in the Diffusers layout."""

import json

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline, WanTransformer3DModel
from PIL import Image
from safetensors.torch import save_file

from fourdnex.datasets.worlds import render_world
from fourdnex.latents.codec import REFERENCE_STATISTICS, LatentCodec
from fourdnex.pretraining.encoded_worlds import encode_worlds, load_worlds, xyz_statistics
from fourdnex.pretraining.text_encoder import new_text_encoder
from fourdnex.pretraining.tokenizer import build_tokenizer
from fourdnex.pretraining.transformer import (
    TRANSFORMER_CONFIG,
    TransformerPretraining,
    init_cross_attention_bias,
    pretrain_transformer,
)
from fourdnex.pretraining.world_pairs import world_pair

FIRST_SEED = 40


@pytest.fixture(scope="module")
def worlds(random_base, tmp_path_factory):
    """Folder of two encoded worlds; encoding again does not write the part again."""
    folder = tmp_path_factory.mktemp("encoded") / "worlds"
    encode_worlds(random_base / "vae", folder, num_worlds=2, first_seed=FIRST_SEED, workers=1)
    (part,) = folder.iterdir()
    written = part.stat().st_mtime_ns
    encode_worlds(random_base / "vae", folder, num_worlds=2, first_seed=FIRST_SEED, workers=1)
    assert part.stat().st_mtime_ns == written
    return folder


@pytest.mark.slow
def test_encoded_worlds_equal_the_output_of_the_vae(worlds, random_base):
    (encoded,) = load_worlds(worlds)
    clip = render_world(FIRST_SEED)
    codec = LatentCodec(AutoencoderKLWan.from_pretrained(random_base / "vae").eval(), REFERENCE_STATISTICS)
    rgb = torch.from_numpy(clip.rgb / np.float32(127.5) - 1).permute(3, 0, 1, 2)[None]
    xyz = torch.from_numpy(world_pair(FIRST_SEED)[1].astype(np.float32)).permute(3, 0, 1, 2)[None]
    with torch.inference_mode():
        assert torch.allclose(encoded.rgb[0], codec.encode(rgb, "rgb")[0], atol=1e-4)
        assert torch.allclose(encoded.xyz[0], codec.encode(xyz, "rgb")[0], atol=1e-4)
        assert torch.allclose(encoded.rgb_condition[0], codec.encode_condition(rgb[:, :, 0], 17)[0], atol=1e-4)
        assert torch.allclose(encoded.xyz_condition[0], codec.encode_condition(xyz[:, :, 0], 17)[0], atol=1e-4)
    assert np.array_equal(encoded.rgb_image[0].numpy(), clip.rgb[0])
    assert encoded.captions == [render_world(seed).caption for seed in (FIRST_SEED, FIRST_SEED + 1)]
    assert len(encoded.rgb) == len(encoded.xyz_image) == 2
    statistics = xyz_statistics([encoded])
    assert np.allclose(statistics.mean, encoded.xyz.mean(dim=(0, 2, 3, 4)), atol=1e-4)
    assert np.allclose(statistics.std, encoded.xyz.std(dim=(0, 2, 3, 4)), atol=1e-4)


def test_worlds_of_one_size_are_concatenated_across_families(tmp_path):
    parts = {"rooms-64x96-000000007": (8, 12), "primitives-64x96-000000040": (8, 12), "street-96x64-000000900": (12, 8)}
    for number, (name, (height, width)) in enumerate(parts.items()):
        latents = torch.full((2, 16, 5, height, width), float(number))
        images = torch.zeros(2, 8 * height, 8 * width, 3, dtype=torch.uint8)
        tensors = {key: latents.clone() for key in ("rgb", "xyz", "rgb_condition", "xyz_condition")}
        tensors |= {"rgb_image": images, "xyz_image": images.clone()}
        save_file(tensors, tmp_path / f"{name}.safetensors", metadata={"captions": json.dumps([name, "other"])})
    wide, high = sorted(load_worlds(tmp_path), key=lambda group: group.size)
    assert (wide.size, high.size) == ((64, 96), (96, 64))
    assert (wide.seeds, wide.families) == ([40, 41, 7, 8], ["primitives"] * 2 + ["rooms"] * 2)
    assert wide.rgb[:, 0, 0, 0, 0].tolist() == [1, 1, 0, 0] and (wide.num_parts, high.num_parts) == (2, 1)
    assert high.seeds == [900, 901] and high.captions == ["street-96x64-000000900", "other"]
    # Means over all numbers: two thirds of them are of the first two parts.
    assert xyz_statistics([wide, high]).mean[0] == pytest.approx((0 + 1 + 2) / 3)


@pytest.mark.slow
def test_a_few_steps_write_a_base_that_diffusers_can_load(worlds, random_base, tmp_path):
    vae = AutoencoderKLWan.from_pretrained(random_base / "vae").eval().requires_grad_(False)
    text = new_text_encoder(build_tokenizer())
    words = text.shared.weight.detach().clone()
    pretrain_transformer(
        TransformerPretraining(minutes=0.05, batch_size=2, warmup_steps=1), vae, text, worlds, tmp_path / "base"
    )
    lines = [
        json.loads(line) for line in (tmp_path / "base" / "training" / "transformer.jsonl").read_text().split("\n")[:-1]
    ]
    assert lines[0]["config"]["batch_size"] == 2
    assert lines[-1]["step"] >= 1
    assert np.isfinite([lines[-1]["generated_psnr_db"], lines[-1]["static_psnr_db"]]).all()

    pipeline = WanImageToVideoPipeline.from_pretrained(tmp_path / "base", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.transformer.config.in_channels == 36
    state = dict(pipeline.vae.named_parameters())
    assert all(torch.equal(state[name], value.half().float()) for name, value in vae.named_parameters())
    assert torch.equal(pipeline.text_encoder.shared.weight, words.half().float())
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

    further = TransformerPretraining(minutes=0.02, batch_size=2, warmup_steps=1)
    pretrain_transformer(further, vae, text, worlds, tmp_path / "further", start=tmp_path / "base")
    carried = [json.loads(line) for line in open(tmp_path / "further" / "training" / "transformer.jsonl")]
    assert carried[: len(lines)] == lines
    assert carried[-1]["step"] > lines[-1]["step"]


def test_initial_attention_is_on_words_not_on_padding():
    torch.manual_seed(0)
    shares = {}
    for name in ("fresh", "initialized"):
        transformer = WanTransformer3DModel(**TRANSFORMER_CONFIG | {"num_layers": 2})
        if name != "fresh":
            init_cross_attention_bias(transformer)
        attention = transformer.blocks[1].attn2
        words = torch.nn.functional.pad(torch.randn(1, 30, 64), (0, 0, 0, 482))
        with torch.no_grad():
            text = transformer.condition_embedder.text_embedder(words)
            query = attention.norm_q(attention.to_q(torch.randn(1, 120, 192))).unflatten(2, (4, 48))
            key = attention.norm_k(attention.to_k(text)).unflatten(2, (4, 48))
            weights = (torch.einsum("bqhc,bkhc->bhqk", query, key) / 48**0.5).softmax(dim=-1)
        shares[name] = weights[..., :30].sum(dim=-1).mean().item()
    assert shares["fresh"] < 0.1
    assert shares["initialized"] > 0.8


def test_the_error_for_missing_worlds_has_their_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no parts in {tmp_path}"):
        load_worlds(tmp_path)
