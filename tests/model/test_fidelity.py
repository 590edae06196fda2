"""Conditioning compared with Wan's pipeline in diffusers, and with values derived by hand."""

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline

from fourdnex.geometry.pointmaps import sloped_plane
from fourdnex.latents.codec import REFERENCE_STATISTICS, LatentCodec
from fourdnex.model.conditioning import condition_latents, styled_prompt
from fourdnex.model.fusion import get_fusion
from fourdnex.model.pipeline import SixDPipeline, load_pipeline
from fourdnex.model.recipe import Recipe
from fourdnex.model.sampling import SamplingSettings

FRAMES, HEIGHT, WIDTH = 9, 32, 48
LATENT = (3, HEIGHT // 8, WIDTH // 8)
PROMPT = "A red box slides left."


@pytest.fixture(scope="module")
def pipeline(random_base) -> SixDPipeline:
    return load_pipeline(str(random_base))[0]


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def wans_own(pipeline: SixDPipeline, image: torch.Tensor) -> torch.Tensor:
    """Mask and condition channels [1, 20, F, h, w] of diffusers' image-to-video pipeline for [1, 3, H, W]."""
    with torch.no_grad():
        _, condition = WanImageToVideoPipeline.prepare_latents(
            pipeline, image, 1, 16, HEIGHT, WIDTH, FRAMES, torch.float32, pipeline.vae.device
        )
    return condition


@pytest.mark.parametrize("name", ["width", "height", "frame", "batch", "channel"])
def test_each_modality_is_conditioned_as_in_wan(pipeline, image, name):
    """RGB: mask and latents of Wan. XYZ: those of the sloped plane as an image, with half the mask."""
    batch = torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1
    plane = torch.from_numpy(sloped_plane(HEIGHT, WIDTH)).permute(2, 0, 1)[None]
    with torch.no_grad():
        joined = condition_latents(batch, pipeline.vae, FRAMES, fusion=name)
    masks = 8 if name == "channel" else 4
    (rgb_mask, xyz_mask), (rgb, xyz) = (get_fusion(name).split(part) for part in (joined[:, :masks], joined[:, masks:]))
    for mask, latents, source, value in ((rgb_mask, rgb, batch, 1.0), (xyz_mask, xyz, plane, 0.5)):
        expected = wans_own(pipeline, source)
        assert torch.equal(mask, value * expected[:, :4])
        assert torch.allclose(latents, expected[:, 4:], atol=1e-5)


@torch.no_grad()
def test_joint_condition_is_encoded_side_by_side(pipeline, image):
    """As in the reference implementation: image and sloped plane side by side in one pass of the VAE."""
    batch = torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1
    plane = torch.from_numpy(sloped_plane(HEIGHT, WIDTH)).permute(2, 0, 1)[None]
    both = torch.cat([batch, plane], dim=3)
    video = torch.cat([both[:, :, None], torch.zeros(1, 3, FRAMES - 1, HEIGHT, 2 * WIDTH)], dim=2)
    mean, std = (torch.tensor(pipeline.vae.config[key]).view(1, -1, 1, 1, 1) for key in ("latents_mean", "latents_std"))
    expected = (pipeline.vae.encode(video).latent_dist.mode() - mean) / std

    joint = condition_latents(batch, pipeline.vae, FRAMES, condition="joint")
    apart = condition_latents(batch, pipeline.vae, FRAMES)
    assert torch.allclose(joint[:, 4:], expected, atol=1e-5)
    assert torch.equal(joint[:, :4], apart[:, :4])
    difference = (joint - apart)[:, 4:].abs().amax(dim=(0, 1, 2, 3))
    seam = LATENT[2]
    assert difference[seam - 1 : seam + 1].min() > 3 * difference[[0, -1]].max()  # the VAE mixes across the seam
    with pytest.raises(ValueError, match="condition: expected apart with height fusion, got joint"):
        condition_latents(batch, pipeline.vae, FRAMES, fusion="height", condition="joint")


@torch.no_grad()
def test_generation_follows_the_recipe(pipeline, image, monkeypatch):
    batch = torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1
    sampling = SamplingSettings(num_inference_steps=1, guidance_scale=1.0)
    for choice in ("apart", "joint"):
        monkeypatch.setattr(pipeline, "recipe", Recipe(condition=choice))
        seen: list[torch.Tensor] = []
        handle = pipeline.transformer.register_forward_pre_hook(lambda _module, args, seen=seen: seen.append(args[0]))
        pipeline.generate(image[None], [PROMPT], num_frames=FRAMES, seeds=[0], sampling=sampling)
        handle.remove()
        expected = condition_latents(batch, pipeline.vae, FRAMES, condition=choice)
        assert torch.allclose(seen[0][:, 16:], expected, atol=1e-5)


def test_guided_mask_matches_hand_computation(pipeline, image):
    """9 frames: 1 or 0.5 on the first, repeated 4 times; the 12 values form 3 latent frames of 4 channels."""
    batch = torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        mask = condition_latents(batch, pipeline.vae, FRAMES)[0, :4, :, 0, :]  # [4, 3, 2w], one row of it
    for half, value in ((mask[..., : LATENT[2]], 1.0), (mask[..., LATENT[2] :], 0.5)):
        frames = [value] * 4 + [0.0] * 8
        folded = torch.tensor(frames).view(3, 4).T  # latent frame k has the video frames 4k-3 .. 4k
        assert torch.equal(half, folded[..., None].expand_as(half))


def test_sloped_plane_matches_hand_computation():
    """x and y from -1 to 1 over columns and rows; z = 1 - 2i/(H-1): far at the top."""
    plane = sloped_plane(3, 5)
    assert plane.shape == (3, 5, 3)
    assert np.allclose(plane[0, :, 0], [-1, -0.5, 0, 0.5, 1])
    assert np.allclose(plane[:, 0, 1], [-1, 0, 1])
    assert np.allclose(plane[:, 2, 2], [1, 0, -1])


def test_xyz_latents_match_hand_computation(pipeline):
    """Mode of the posterior, normalized by Wan's mean and deviation per channel, then (z + 0.13) / 1.70."""
    assert (REFERENCE_STATISTICS.mean, REFERENCE_STATISTICS.std) == ((-0.13,), (1.70,))
    pixels = torch.rand(1, 3, 5, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)) * 2 - 1
    codec, config = LatentCodec(pipeline.vae, REFERENCE_STATISTICS), pipeline.vae.config
    with torch.no_grad():
        mode = pipeline.vae.encode(pixels).latent_dist.mean
        rgb, xyz = codec.encode(pixels, "rgb"), codec.encode(pixels, "xyz")
    for channel in range(16):
        wan = (mode[:, channel] - config.latents_mean[channel]) / config.latents_std[channel]
        assert torch.allclose(rgb[:, channel], wan, atol=1e-5)
        assert torch.allclose(xyz[:, channel], (wan + 0.13) / 1.70, atol=1e-5)


@torch.no_grad()
def test_transformer_inputs_are_the_styled_prompt_and_the_penultimate_clip_layer(pipeline, image):
    """Equal to the embeddings of Wan's pipeline, and to those computed from tokenizer, encoders and processor."""
    seen: list[tuple[torch.Tensor, ...]] = []
    handle = pipeline.transformer.register_forward_pre_hook(lambda _module, args: seen.append(args))
    sampling = SamplingSettings(num_inference_steps=1, guidance_scale=1.0)
    pipeline.generate(image[None], [PROMPT], num_frames=FRAMES, seeds=[0], sampling=sampling)
    handle.remove()
    ((_, _, text, image_embedding),) = seen

    assert styled_prompt(PROMPT) == "A red box slides left. POINTMAP_STYLE."
    own_text, _ = WanImageToVideoPipeline.encode_prompt(
        pipeline, "A red box slides left. POINTMAP_STYLE.", do_classifier_free_guidance=False, max_sequence_length=512
    )
    assert torch.equal(text, own_text)
    tokens = pipeline.tokenizer("A red box slides left. POINTMAP_STYLE.", return_tensors="pt")
    length = tokens.input_ids.shape[1]
    by_hand = pipeline.text_encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
    assert text.shape == (1, 512, by_hand.shape[2])
    assert torch.allclose(text[:, :length], by_hand, atol=1e-5)
    assert (text[:, length:] == 0).all()

    pixels = pipeline.image_processor(images=image, return_tensors="pt").pixel_values
    layers = pipeline.image_encoder(pixels, output_hidden_states=True).hidden_states
    assert len(layers) == 1 + pipeline.image_encoder.config.num_hidden_layers
    assert torch.allclose(image_embedding, layers[-2], atol=1e-6)
    assert not torch.allclose(image_embedding, layers[-1], atol=1e-2)


@pytest.mark.parametrize(("prompt", "words"), [("", 1), ("a red box " * 500, 512)])
@torch.no_grad()
def test_empty_and_very_long_prompts_are_encoded(pipeline, prompt, words):
    """The style suffix alone, and 5,000 letters truncated to Wan's 512 tokens."""
    text, _ = pipeline.encode_prompt(
        [styled_prompt(prompt)], do_classifier_free_guidance=False, max_sequence_length=512
    )
    assert text.shape[1] == 512 and torch.isfinite(text).all()
    used = int((text != 0).any(dim=-1).sum())
    assert used == 512 if words == 512 else words <= used < 10
