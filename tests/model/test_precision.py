"""bfloat16 on a CPU: selected if the processor supports it, close to float32, with float32 inputs and outputs."""

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import nn

from fourdnex.model import bfloat_linear, bfloat_vae, precision
from fourdnex.model.adapter import add_lora
from fourdnex.model.attention_processors import use_fast_cpu_attention
from fourdnex.model.transformer import SixDTransformer
from fourdnex.pretraining.transformer import TRANSFORMER_CONFIG
from fourdnex.pretraining.vae import VAE_CONFIG


def test_auto_selects_the_faster_precision(monkeypatch):
    assert precision.resolve_precision("auto", "cuda") == "bf16"
    assert precision.resolve_precision("auto", torch.device("cpu")) == "fp32"  # as in all tests
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    assert precision.resolve_precision("auto", "cpu") == "bf16"
    assert precision.resolve_precision("fp32", "cpu") == "fp32"
    with pytest.raises(ValueError, match=r"precision: expected one of \('auto', 'fp32', 'bf16'\), got 'fp8'"):
        precision.resolve_precision("fp8", "cpu")


WAN = {"patch_size": None, "in_channels": 3, "out_channels": 3}
WAN |= {"dim_mult": [1, 2, 4, 4], "temperal_downsample": [False, True, True]}


@pytest.fixture(params=[{}, WAN], ids=["tiny", "Wan 2.1"])
def vaes(request):
    """A VAE in float32, and the same in bfloat16."""
    torch.manual_seed(0)
    exact = AutoencoderKLWan(**VAE_CONFIG | {"base_dim": 8, "num_res_blocks": 1} | request.param).eval()
    other = AutoencoderKLWan(**exact.config).eval()
    other.load_state_dict(exact.state_dict())
    bfloat_vae.use_bfloat16(other)
    return exact, other


@torch.no_grad()
def test_bfloat16_vae_is_close_to_float32(vaes):
    exact, other = vaes
    factor = exact.config.scale_factor_spatial
    pixels = torch.rand(2, 3, 9, 4 * factor, 6 * factor) * 2 - 1
    latents, near = (vae.encode(pixels).latent_dist.mode() for vae in vaes)
    assert latents.shape == near.shape and near.dtype == torch.float32
    assert 0 < (near - latents).std() < 0.02 * latents.std()
    video, close = (vae.decode(latents).sample for vae in vaes)
    assert video.shape == close.shape and close.dtype == torch.float32
    assert (close - video).std() < 0.04 * video.std()
    assert (close != close.bfloat16().float()).float().mean() > 0.9  # more than 8 bits
    again = other.decode(latents, return_dict=False)[0]
    assert torch.equal(again, close)


@torch.no_grad()
def test_chunks_give_the_same_result(vaes, monkeypatch):
    """Chunks of one latent frame, as in diffusers, and one chunk."""
    _, vae = vaes
    latents = torch.randn(1, 16, 4, 4, 6)
    whole = vae.decode(latents).sample
    encoded = vae.encode(whole).latent_dist.mode()
    monkeypatch.setattr(bfloat_vae, "_CHUNK_POSITIONS", 1)
    assert (vae.decode(latents).sample - whole).abs().max() < 0.02
    assert (vae.encode(whole).latent_dist.mode() - encoded).abs().max() < 0.02 * encoded.std()


@torch.no_grad()
def test_single_frames_and_tiles_are_supported(vaes):
    exact, vae = vaes
    factor = exact.config.scale_factor_spatial
    image = torch.rand(1, 3, 1, 4 * factor, 4 * factor)
    assert vae.encode(image).latent_dist.mode().shape == (1, 16, 1, 4, 4)
    assert vae.decode(torch.randn(1, 16, 1, 4, 4)).sample.shape == image.shape
    size = {"tile_sample_min_height": 4 * factor, "tile_sample_min_width": 4 * factor}
    vae.enable_tiling(**size, tile_sample_stride_height=3 * factor, tile_sample_stride_width=3 * factor)
    latents = torch.randn(1, 16, 2, 6, 6)
    tiled = vae.decode(latents).sample
    assert tiled.shape == (1, 3, 5, 6 * factor, 6 * factor)
    assert vae.encode(tiled).latent_dist.mode().shape == latents.shape


def transformer(rank: int) -> SixDTransformer:
    torch.manual_seed(0)
    model = SixDTransformer(**TRANSFORMER_CONFIG | {"num_layers": 2})
    add_lora(model, rank=rank, alpha=2.0 * rank)
    for name, value in model.named_parameters():
        if "lora_B" in name or "norm" in name:
            value.data.normal_(0.5, 0.1)
    return model.eval()


def velocity(model: nn.Module) -> torch.Tensor:
    numbers = torch.Generator().manual_seed(1)
    shapes = [(2, 36, 2, 4, 8), (2, 512, TRANSFORMER_CONFIG["text_dim"]), (2, 5, TRANSFORMER_CONFIG["image_dim"])]
    hidden, text, image = (torch.randn(shape, generator=numbers) for shape in shapes)
    return model(hidden, torch.tensor([300.0, 900.0]), text, image, return_dict=False)[0]


@torch.no_grad()
def test_bfloat16_transformer_is_close_to_float32_and_follows_weight_changes():
    exact, quick = transformer(4), transformer(4)
    names = list(quick.state_dict())
    bfloat_linear.use_bfloat16(quick)
    bfloat_linear.merge_all_lora(quick)
    use_fast_cpu_attention(quick, bfloat16=True)
    assert list(quick.state_dict()) == names and quick.dtype == torch.float32
    expected, found = velocity(exact), velocity(quick)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).std() < 0.02 * expected.std()
    assert torch.equal(found, velocity(quick))
    for model in (exact, quick):  # weights are converted again
        model.get_parameter("blocks.0.ffn.net.2.weight").mul_(-1)
        next(value for name, value in model.named_parameters() if "attn1.to_v.lora_B" in name).mul_(-1)
    changed, followed = velocity(exact), velocity(quick)
    assert (changed - expected).std() > 0.1 * expected.std()
    assert (followed - changed).std() < 0.02 * changed.std()


@torch.no_grad()
def test_disabled_or_multiple_adapters_use_peft():
    exact, quick = transformer(4), transformer(4)
    bfloat_linear.merge_all_lora(quick)
    for model in (exact, quick):
        model.disable_adapters()
    assert torch.allclose(velocity(exact), velocity(quick), atol=1e-5)


def test_full_training_has_gradients_close_to_float32():
    gradients = []
    for quick in (False, True):
        torch.manual_seed(0)
        model = SixDTransformer(**TRANSFORMER_CONFIG | {"num_layers": 1})
        if quick:
            bfloat_linear.use_bfloat16(model)
        velocity(model).square().mean().backward()
        trained = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
        assert all(grad.dtype == torch.float32 for grad in trained.values())
        gradients.append(trained)
    assert gradients[0].keys() == gradients[1].keys()
    exact, near = (torch.cat([grad.flatten() for grad in trained.values()]) for trained in gradients)
    assert 0 < (near - exact).norm() < 0.02 * exact.norm()


def test_weights_converted_in_inference_can_be_trained_with():
    layer = nn.Sequential(nn.Linear(4, 4)).requires_grad_(False)
    layer[0].__class__ = bfloat_linear._BfloatLinear
    with torch.inference_mode():
        layer(torch.ones(2, 4))
    x = torch.ones(2, 4, requires_grad=True)
    layer(x).sum().backward()
    assert torch.allclose(x.grad, layer[0].weight.bfloat16().float().sum(dim=0).expand(2, 4), atol=0.02)
