"""VAE pretraining: the frame stage, Muon, the world pool; further training of the decoder keeps the latents."""

import json

import numpy as np
import torch
from diffusers import AutoencoderKLWan

from fourdnex.pretraining.encoded_worlds import encode_worlds, encoder_digest, load_worlds
from fourdnex.pretraining.frame_stage import init_as_frame_model, single_frame_convolutions
from fourdnex.pretraining.muon import Muon, orthogonalize
from fourdnex.pretraining.vae import (
    VAE_CONFIG,
    DecoderPretraining,
    WorldPool,
    pretrain_decoder,
)
from fourdnex.pretraining.world_pairs import pair_pixels, world_pair

SMALL = VAE_CONFIG | {"base_dim": 8, "num_res_blocks": 1}


def test_single_frames_give_the_same_numbers_as_3d_convolutions():
    torch.manual_seed(0)
    vae = AutoencoderKLWan(**SMALL).eval()
    frame = torch.rand(2, 3, 1, 16, 32) * 2 - 1
    with torch.no_grad():
        slow = vae.decode(vae.encode(frame).latent_dist.mode()).sample
        with single_frame_convolutions(vae):
            fast = vae.decode(vae.encode(frame).latent_dist.mode()).sample
        again = vae.decode(vae.encode(frame).latent_dist.mode()).sample
    assert torch.allclose(slow, fast, atol=1e-5)
    assert torch.equal(slow, again)


def test_a_frame_model_encodes_a_static_clip_as_its_frame():
    torch.manual_seed(0)
    vae = AutoencoderKLWan(**SMALL).eval()
    init_as_frame_model(vae)
    frame = torch.rand(1, 3, 1, 16, 32) * 2 - 1
    with torch.no_grad():
        static = vae.decode(vae.encode(frame.expand(-1, -1, 9, -1, -1)).latent_dist.mode()).sample
        single = vae.decode(vae.encode(frame).latent_dist.mode()).sample
    assert static.shape[2] == 9
    assert torch.allclose(static, single.expand_as(static), atol=1e-4)


def test_muon_updates_have_singular_values_near_one():
    torch.manual_seed(0)
    update = orthogonalize(torch.randn(1, 24, 12, 3, 3))[0].flatten(1)
    values = torch.linalg.svdvals(update)
    assert values.min() > 0.5
    assert values.max() < 1.5


def test_muon_solves_a_linear_problem():
    torch.manual_seed(0)
    target, weight = torch.randn(8, 8), torch.nn.Parameter(torch.zeros(8, 8))
    optimizer = Muon([weight], lr=0.1)
    for _ in range(150):
        loss = (weight - target).square().mean()
        weight.grad = None
        loss.backward()
        optimizer.step()
    assert loss < 0.05 * target.square().mean()


def test_pool_batches_alternate_rgb_and_xyz_in_range():
    pool = WorldPool(2, seed=3)
    batch = pool.batch(4, 5)
    assert batch.shape == (4, 3, 5, 64, 96)
    assert batch.abs().max() <= 1
    # RGB comes in steps of 1 / 127.5; XYZ does not.
    steps = (batch + 1) * 127.5
    fractions = (steps - steps.round()).abs().amax(dim=(1, 2, 3, 4)).numpy()
    assert np.all(fractions[0::2] < 1e-2)
    assert np.all(fractions[1::2] > 1e-2)


def test_further_decoder_training_improves_decoding_and_keeps_latents(tmp_path):
    torch.manual_seed(0)
    vae = AutoencoderKLWan(**SMALL, latents_mean=[0.5] * 16, latents_std=[2.0] * 16).eval()
    init_as_frame_model(vae)
    vae.save_pretrained(tmp_path / "vae")
    encode_worlds(tmp_path / "vae", tmp_path / "worlds", num_worlds=2, first_seed=7, workers=1)
    (worlds,), before = load_worlds(tmp_path / "worlds"), encoder_digest(vae)
    assert (worlds.seeds, worlds.families, worlds.size) == ([7, 8], ["primitives"] * 2, (64, 96))
    pixels = pair_pixels(world_pair(8))

    def latents_and_error() -> tuple[torch.Tensor, float]:
        with torch.no_grad():
            latents = vae.encode(pixels).latent_dist.mode()
            return latents, float((vae.decode(latents).sample - pixels).abs().mean())

    latents, error = latents_and_error()
    torch.testing.assert_close((latents[0] - 0.5) / 2, worlds.rgb[1])
    log = tmp_path / "vae.jsonl"
    log.write_text('{"stage": "clips", "step": 500}\n')
    settings = DecoderPretraining(minutes=0.1, latent_frames=(1, 2), ema_decay=0.8)
    pretrain_decoder(settings, vae, worlds, tmp_path / "vae", log)
    after, less = latents_and_error()
    torch.testing.assert_close(after, latents, rtol=0, atol=0)
    assert encoder_digest(vae) == before
    assert less < error  # by how much depends on the steps that fit into the time
    first, second = (json.loads(line) for line in log.read_text().splitlines()[:2])
    assert first["stage"] == "clips" and second["config"]["latent_frames"] == [1, 2]


def test_the_digest_depends_on_the_encoder_only():
    torch.manual_seed(0)
    vae = AutoencoderKLWan(**SMALL)
    before = encoder_digest(vae)
    with torch.no_grad():
        vae.decoder.conv_in.weight.add_(0.1)
        assert encoder_digest(vae) == before
        vae.encoder.conv_in.weight.add_(0.1)
    assert encoder_digest(vae) != before
