"""Latent codec and conditioning: statistics are inverted, halves are separate, the mask is that of the paper."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan

from fourdnex.geometry.pointmaps import sloped_plane
from fourdnex.latents.codec import REFERENCE_STATISTICS, LatentCodec, LatentStatistics
from fourdnex.model.conditioning import condition_latents, guided_mask, normalized_first_pointmap, styled_prompt


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    model = AutoencoderKLWan(
        base_dim=8,
        z_dim=16,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        patch_size=2,
        in_channels=12,
        out_channels=12,
        scale_factor_temporal=4,
        scale_factor_spatial=8,
    )
    return model.eval().requires_grad_(False)


def test_xyz_statistics_are_applied_after_wan_normalization(vae):
    pixels = torch.rand(1, 3, 5, 16, 32) * 2 - 1
    codec = LatentCodec(vae, LatentStatistics(mean=(-0.13,), std=(1.7,)))
    rgb, xyz = codec.encode(pixels, "rgb"), codec.encode(pixels, "xyz")
    assert rgb.shape == (1, 16, 2, 2, 4)
    assert torch.allclose(xyz, (rgb + 0.13) / 1.7, atol=1e-5)
    assert torch.allclose(codec.decode(rgb, "rgb"), codec.decode(xyz, "xyz"), atol=1e-5)


def test_condition_layout(vae):
    image = torch.rand(2, 3, 16, 32) * 2 - 1
    out = condition_latents(image, vae, 9)
    assert out.shape == (2, 20, 3, 2, 8)
    mask = out[:, :4]
    assert (mask[:, :, 0, :, :4] == 1.0).all()
    assert (mask[:, :, 0, :, 4:] == 0.5).all()
    assert (mask[:, :, 1:] == 0).all()


def test_condition_halves_are_encoded_separately(vae):
    """The RGB half depends only on the image, the XYZ half only on the sloped plane."""
    one, other = torch.rand(1, 3, 16, 32) * 2 - 1, torch.rand(1, 3, 16, 32) * 2 - 1
    a, b = condition_latents(one, vae, 5)[:, 4:], condition_latents(other, vae, 5)[:, 4:]
    assert torch.equal(a[..., 4:], b[..., 4:])
    assert not torch.allclose(a[..., :4], b[..., :4])
    codec = LatentCodec(vae, REFERENCE_STATISTICS)
    video = torch.zeros(1, 3, 5, 16, 32)
    video[:, :, 0] = torch.from_numpy(sloped_plane(16, 32)).permute(2, 0, 1)
    assert torch.allclose(a[..., 4:], codec.encode(video, "rgb"), atol=1e-6)


def test_mask_has_one_channel_per_video_frame():
    mask = guided_mask(torch.zeros(1, 16, 5, 2, 3), 1.0)
    assert mask.shape == (1, 4, 5, 2, 3)
    assert mask.sum() == 4 * 2 * 3


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 8, 16, 32), r"num_frames: expected 4k\+1, got 8; the nearest valid number is 9"),
        ((1, 3, 5, 20, 32), r"height: expected a multiple of 16, got 20; the nearest valid size is 16"),
        ((1, 3, 5, 16, 41), r"width: expected a multiple of 16, got 41; the nearest valid size is 48"),
        ((3, 5, 16, 32), r"pixels: expected \[B, 3, T, H, W\]"),
    ],
)
def test_errors_for_invalid_sizes_have_the_nearest_valid_size(vae, shape, message):
    with pytest.raises(ValueError, match=message):
        LatentCodec(vae, REFERENCE_STATISTICS).encode(torch.zeros(shape), "rgb")


def test_statistics_must_be_positive_and_of_one_length():
    with pytest.raises(ValueError, match="std"):
        LatentStatistics(mean=(0.0,), std=(0.0,))
    with pytest.raises(ValueError, match="expected as many values as mean"):
        LatentStatistics(mean=(0.0, 1.0), std=(1.0,))


def test_prompt_ends_in_the_style_suffix():
    assert styled_prompt("A cat.") == "A cat. POINTMAP_STYLE."


def test_joint_decoding_mixes_the_halves_and_separate_decoding_does_not(vae):
    """Joint decoding is one pass over both latents side by side; separate decoding ignores the other half."""
    codec = LatentCodec(vae, LatentStatistics(mean=(-0.13,), std=(1.7,)))
    rgb, xyz, other = (torch.randn(1, 16, 2, 2, 4, generator=torch.Generator().manual_seed(i)) for i in range(3))
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std))
    wide = torch.cat([rgb * std + mean, (xyz * 1.7 - 0.13) * std + mean], dim=-1)
    left, right = codec.decode_both(rgb, xyz, "joint")
    assert torch.allclose(torch.cat([left, right], dim=-1), vae.decode(wide).sample, atol=1e-5)
    assert not torch.allclose(codec.decode_both(rgb, other, "joint")[0], left, atol=1e-3)
    apart = codec.decode_both(rgb, xyz)
    assert torch.equal(codec.decode_both(rgb, other)[0], apart[0])
    assert torch.allclose(apart[1], codec.decode(xyz, "xyz"), atol=1e-5)


def test_first_frame_point_maps_replace_the_plane_in_any_unit(vae):
    image = torch.rand(2, 3, 16, 32) * 2 - 1
    points = np.random.default_rng(0).uniform(-1, 1, (2, 16, 32, 3)).astype(np.float32)
    given = condition_latents(image, vae, 5, first_pointmaps=points, xyz_mask=1.0)
    assert torch.allclose(
        given, condition_latents(image, vae, 5, first_pointmaps=points * 7 + 3, xyz_mask=1.0), atol=1e-4
    )
    plane = condition_latents(image, vae, 5)
    assert torch.equal(given[:, 4:, ..., :4], plane[:, 4:, ..., :4])
    assert not torch.allclose(given[0, 4:, ..., 4:], given[1, 4:, ..., 4:], atol=1e-3)
    assert (given[:, :4, 0] == 1).all() and (plane[:, :4, 0, :, 4:] == 0.5).all()
    with pytest.raises(ValueError, match=r"first_pointmaps: expected \[B, 16, 32, 3\], got shape \(2, 16, 16, 3\)"):
        condition_latents(image, vae, 5, first_pointmaps=points[:, :, :16])


def test_holes_of_a_first_frame_point_map_are_centered():
    points = np.zeros((4, 4, 3), np.float32)
    points[..., 0] = [-2, -2, 2, 2]
    points[0, 0] = np.nan
    start = normalized_first_pointmap(points)
    assert np.abs(start).max() == 1 and (start[0, 0] == 0).all()
