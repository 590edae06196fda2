"""The tricks of VAE pretraining change speed, not numbers."""

import numpy as np
import torch
from diffusers import AutoencoderKLWan

from fourdnex.training.muon import Muon, orthogonalised
from fourdnex.training.pretrain_vae import VAE_CONFIG, WorldPool, single_frame_convolutions, start_as_frame_model

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


def test_a_frame_model_codes_a_still_clip_as_its_frame():
    torch.manual_seed(0)
    vae = AutoencoderKLWan(**SMALL).eval()
    start_as_frame_model(vae)
    frame = torch.rand(1, 3, 1, 16, 32) * 2 - 1
    with torch.no_grad():
        still = vae.decode(vae.encode(frame.expand(-1, -1, 9, -1, -1)).latent_dist.mode()).sample
        single = vae.decode(vae.encode(frame).latent_dist.mode()).sample
    assert still.shape[2] == 9
    assert torch.allclose(still, single.expand_as(still), atol=1e-4)


def test_muon_updates_have_singular_values_near_one():
    torch.manual_seed(0)
    update = orthogonalised(torch.randn(1, 24, 12, 3, 3))[0].flatten(1)
    values = torch.linalg.svdvals(update)
    assert values.min() > 0.5
    assert values.max() < 1.5


def test_muon_solves_a_linear_problem():
    torch.manual_seed(0)
    target, weight = torch.randn(8, 8), torch.nn.Parameter(torch.zeros(8, 8))
    optimiser = Muon([weight], lr=0.1)
    for _ in range(150):
        loss = (weight - target).square().mean()
        weight.grad = None
        loss.backward()
        optimiser.step()
    assert loss < 0.05 * target.square().mean()


def test_the_pool_gives_rgb_and_xyz_in_turn_within_range():
    pool = WorldPool(2, seed=3)
    batch = pool.batch(4, 5)
    assert batch.shape == (4, 3, 5, 64, 96)
    assert batch.abs().max() <= 1
    # RGB comes in steps of 1 / 127.5; XYZ does not.
    steps = (batch + 1) * 127.5
    fractions = (steps - steps.round()).abs().amax(dim=(1, 2, 3, 4)).numpy()
    assert np.all(fractions[0::2] < 1e-2)
    assert np.all(fractions[1::2] > 1e-2)
