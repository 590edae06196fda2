"""The pipeline: inputs of the transformer, outputs, and independence of clips from their batch."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel

from fourdnex.latents.codec import LatentStatistics
from fourdnex.latents.encoders import Encoders
from fourdnex.model.adapter import AdapterInfo, adapter_state, add_lora, save_adapter
from fourdnex.model.conditioning import condition_latents
from fourdnex.model.memory_settings import MemorySettings
from fourdnex.model.pipeline import SixDPipeline, SixDVideo, load_pipeline
from fourdnex.model.presets import base_digest
from fourdnex.model.sampling import SamplingSettings
from fourdnex.model.transformer import SixDTransformer
from fourdnex.pretraining.transformer import TRANSFORMER_CONFIG

FRAMES, HEIGHT, WIDTH = 5, 32, 48
PLAIN = SamplingSettings(num_inference_steps=2, guidance_scale=1.0)


@pytest.fixture(scope="module")
def pipeline(random_base) -> SixDPipeline:
    return load_pipeline(str(random_base))[0]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def seen(pipeline):
    """Positional inputs (joined latents, timesteps, ...) of every forward pass of the transformer."""
    calls: list[tuple[torch.Tensor, ...]] = []
    handle = pipeline.transformer.register_forward_pre_hook(lambda _module, args: calls.append(args))
    yield calls
    handle.remove()


def generate(pipeline, images, *, seeds=(3, 4), steps=2, guidance=1.0, **sampling) -> SixDVideo:
    prompts = ["A red box slides left.", "A sphere bounces. The camera pans right."][: len(images)]
    return pipeline.generate(
        images,
        prompts,
        num_frames=FRAMES,
        seeds=list(seeds),
        sampling=SamplingSettings(num_inference_steps=steps, guidance_scale=guidance, **sampling),
    )


def test_returns_rgb_and_pointmaps_of_the_requested_size(pipeline, images):
    video = generate(pipeline, images)
    assert video.rgb.shape == video.xyz.shape == (2, FRAMES, HEIGHT, WIDTH, 3)
    assert (video.rgb.dtype, video.xyz.dtype) == (np.uint8, np.float32)
    assert np.abs(video.xyz).max() <= 1
    assert np.ptp(video.rgb) > 0 and np.ptp(video.xyz) > 0


def test_bf16_keeps_weights_pixels_and_latents_in_float32(pipeline, images, random_base):
    half, _ = load_pipeline(str(random_base), device="cpu", memory=MemorySettings(precision="bf16"))
    types = [part.dtype for part in (half.transformer, half.text_encoder, half.vae, half.image_encoder)]
    assert types == [torch.float32] * 4 and (pipeline.precision, half.precision) == ("fp32", "bf16")
    video, exact = generate(half, images), generate(pipeline, images)
    assert video.xyz.dtype == np.float32
    assert 0 < np.abs(video.xyz - exact.xyz).mean() < 0.1 * exact.xyz.std()
    rounded = torch.from_numpy(video.xyz).bfloat16().float().numpy()
    assert np.mean(video.xyz == rounded) < 0.1  # coordinates have more than 8 bits of precision


def test_clips_do_not_depend_on_their_batch(pipeline, images):
    """The second clip of a batch equals the clip generated alone, and depends on its seed."""
    together = generate(pipeline, images)
    alone = pipeline.generate(
        images[1:],
        ["A sphere bounces. The camera pans right."],
        num_frames=FRAMES,
        seeds=[4],
        sampling=PLAIN,
    )
    assert np.abs(together.xyz[1] - alone.xyz[0]).max() < 1e-4
    assert np.abs(together.rgb[1].astype(int) - alone.rgb[0].astype(int)).max() <= 1
    other_seed = generate(pipeline, images, seeds=(3, 5))
    assert np.abs(other_seed.xyz[1] - together.xyz[1]).max() > 1e-2
    assert np.abs(other_seed.xyz[0] - together.xyz[0]).max() < 1e-4


def test_transformer_input_is_noise_and_condition(pipeline, images, seen):
    generate(pipeline, images, steps=1)
    ((hidden, times, text, image),) = seen
    assert hidden.shape == (2, 36, 2, HEIGHT // 8, 2 * WIDTH // 8)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1.0
    with torch.inference_mode():
        expected = condition_latents(pixels, pipeline.vae, FRAMES)
    assert torch.equal(hidden[:, 16:], expected)
    noise = torch.randn(2, 16, 2, HEIGHT // 8, WIDTH // 8, generator=torch.Generator().manual_seed(3))
    assert torch.equal(hidden[0, :16], torch.cat([noise[0], noise[1]], dim=-1))
    assert times.tolist() == pytest.approx([999, 999], abs=1)  # pure noise
    assert text.shape[:2] == (2, 512) and len(image) == 2


def test_guidance_runs_conditional_and_unconditional_passes(pipeline, images, seen):
    plain = generate(pipeline, images[:1], seeds=(3,))
    assert [len(call[0]) for call in seen] == [1, 1]
    seen.clear()
    joint = generate(pipeline, images[:1], seeds=(3,), guidance=4.0)
    assert [len(call[0]) for call in seen] == [2, 2]
    assert torch.equal(seen[0][0][0], seen[0][0][1])  # same latents and condition,
    assert not torch.equal(seen[0][2][0], seen[0][2][1])  # with and without the prompt
    assert np.abs(joint.xyz - plain.xyz).max() > 1e-4


@pytest.mark.parametrize("fusion", ["width", "batch", "channel"])
def test_joint_guidance_equals_separate_passes(pipeline, images, fusion):
    torch.manual_seed(1)
    base = WanTransformer3DModel(**TRANSFORMER_CONFIG | {"num_layers": 1}).eval()
    fused = SixDPipeline(**pipeline.components | {"transformer": SixDTransformer.from_base(base, fusion=fusion)})
    joint = generate(fused, images, guidance=4.0)
    apart = generate(fused, images, guidance=4.0, joint_guidance=False)
    assert [joint.passes[0].total, apart.passes[0].total] == [2, 4]
    assert np.abs(joint.xyz - apart.xyz).max() < 1e-5
    assert np.abs(joint.rgb.astype(int) - apart.rgb.astype(int)).max() <= 1


def test_guidance_outside_its_interval_needs_no_pass(pipeline, images, seen):
    """Four steps from noise level 1: guidance is applied at the first two."""
    generate(pipeline, images, steps=4, guidance=4.0, guidance_interval=(0.7, 1.0))
    levels = [float(call[1][0]) / 1000 for call in seen]
    assert [len(call[0]) for call in seen] == [4 if level >= 0.7 else 2 for level in levels] == [4, 4, 2, 2]


def test_euler_steps_match_hand_computation(pipeline, images, seen):
    """Noise levels n/4, shifted by s: s x / (1 + (s - 1) x); and each step adds the velocity times the difference."""
    generate(pipeline, images, steps=4, scheduler="euler", flow_shift=5.0)
    levels = [float(call[1][0]) / 1000 for call in seen]
    assert levels == pytest.approx([1.0, 3.75 / 4, 2.5 / 3, 1.25 / 2], abs=1e-3)
    with torch.inference_mode():
        velocity = pipeline.transformer(*seen[0], return_dict=False)[0]
    expected = seen[0][0][:, :16] + velocity * (levels[1] - levels[0])
    assert torch.allclose(seen[1][0][:, :16], expected, atol=1e-4)


@pytest.fixture(scope="module")
def deep_pipeline(pipeline) -> SixDPipeline:
    """A pipeline with a transformer of three blocks."""
    torch.manual_seed(1)
    base = WanTransformer3DModel(**TRANSFORMER_CONFIG | {"num_layers": 3}).eval()
    deep = SixDPipeline(**pipeline.components | {"transformer": SixDTransformer.from_base(base)})
    deep.set_progress_bar_config(disable=True)
    return deep


def test_cache_skips_blocks_and_counts_hits(deep_pipeline, images):
    middle = []
    handle = deep_pipeline.transformer.blocks[1].ffn.register_forward_hook(lambda *_: middle.append(1))
    plain = generate(deep_pipeline, images, steps=8)
    assert len(middle) == 8 and [passes.cache_hits for passes in plain.passes] == [0, 0]
    middle.clear()
    cached = generate(deep_pipeline, images, steps=8, cache_threshold=0.05)
    handle.remove()
    assert [passes.total for passes in cached.passes] == [8, 8]
    hits = sum(passes.cache_hits for passes in cached.passes)
    assert 0 < hits < 14 and len(middle) == 16 - hits
    assert 1e-6 < np.abs(cached.xyz - plain.xyz).max() < 0.2
    assert not deep_pipeline.transformer.is_cache_enabled
    again = generate(deep_pipeline, images, steps=8)
    assert np.abs(again.xyz - plain.xyz).max() < 1e-5


@pytest.mark.parametrize("joint", [True, False])
def test_cached_clips_do_not_depend_on_their_batch(deep_pipeline, images, joint):
    """Nor on previous runs: every image and every sample of an ensemble starts with an empty cache."""
    settings = {"steps": 6, "guidance": 3.0, "joint_guidance": joint, "ensemble_size": 2, "cache_threshold": 0.1}
    together = generate(deep_pipeline, images, **settings)
    alone = generate(deep_pipeline, images[:1], seeds=(3,), **settings)
    assert together.passes[0] == alone.passes[0] and alone.passes[0].cache_hits > 0
    assert alone.passes[0].total == 2 * 6 * (1 if joint else 2)
    assert np.abs(together.xyz[0] - alone.xyz[0]).max() < 1e-5


def test_cache_without_hits_raises(pipeline, deep_pipeline, images):
    with pytest.raises(ValueError, match="cache_threshold: 1e-06 gave no cache hit in 6 forward passes; raise it"):
        generate(deep_pipeline, images, steps=3, cache_threshold=1e-6)
    with pytest.raises(ValueError, match="cache_threshold: expected 0 for a transformer with one block"):
        generate(pipeline, images, cache_threshold=0.1)


def test_ensemble_is_the_mean_over_several_noises(pipeline, images, seen):
    one = generate(pipeline, images[:1], seeds=(3,))
    noises = [seen[0][0][:, :16]]
    several = generate(pipeline, images[:1], seeds=(3,), ensemble_size=3)
    assert len(seen) == 2 + 6
    noises += [seen[i][0][:, :16] for i in (2, 4, 6)]
    assert torch.equal(noises[0], noises[1])  # the first sample equals that of an ensemble of one
    assert not torch.equal(noises[1], noises[2])
    assert np.abs(several.xyz - one.xyz).max() > 1e-4


def test_prompts_may_be_empty_or_equal_but_not_too_long(pipeline, images, seen):
    def run(prompts):
        pipeline.generate(images, prompts, num_frames=FRAMES, seeds=[0, 0], sampling=PLAIN)
        return seen[-1][2]

    empty = run(["", "   "])
    assert torch.equal(empty[0], empty[1]) and empty[0].any()  # the style suffix remains
    told = run(["A red box slides left.", ""])
    assert torch.equal(told[1], empty[0]) and not torch.equal(told[0], empty[0])
    with pytest.raises(ValueError, match=r"prompts\[1\]: expected at most 512 tokens with the style suffix, got \d{4}"):
        run(["", "A red box slides left. " * 250])


def test_mismatched_numbers_of_prompts_or_seeds_raise(pipeline, images):
    arguments = {"num_frames": FRAMES, "sampling": PLAIN}
    with pytest.raises(ValueError, match=r"prompts, seeds: expected 2 of each, got 1 and 2"):
        pipeline.generate(images, ["one"], seeds=[1, 2], **arguments)
    with pytest.raises(ValueError, match=r"prompts, seeds: expected 2 of each, got 2 and 1"):
        pipeline.generate(images, ["one", "two"], seeds=[1], **arguments)


@pytest.mark.parametrize(
    ("height", "width", "frames", "message"),
    [
        (41, 48, 5, "height: expected a multiple of 16, got 41; the nearest valid size is 48"),
        (32, 100, 5, "width: expected a multiple of 16, got 100; the nearest valid size is 96"),
        (1, 48, 5, "height: expected a multiple of 16, got 1; the nearest valid size is 16"),
        (32, 48, 6, r"num_frames: expected 4k\+1, got 6; the nearest valid number is 5"),
        (32, 48, 16, r"num_frames: expected 4k\+1, got 16; the nearest valid number is 17"),
        (32, 48, -3, r"num_frames: expected 4k\+1, got -3; the nearest valid number is 1"),
    ],
)
def test_unsupported_sizes_raise(pipeline, height, width, frames, message):
    image = np.zeros((1, height, width, 3), np.uint8)
    with pytest.raises(ValueError, match=message):
        pipeline.generate(image, [""], num_frames=frames, seeds=[0], sampling=PLAIN)


def test_adapter_sets_statistics_and_must_match_the_base(random_base, tmp_path):
    base, _ = load_pipeline(str(random_base))
    transformer = SixDTransformer.from_base(base.transformer)
    add_lora(transformer, rank=1, alpha=1.0)
    statistics = LatentStatistics(mean=(0.25,), std=(2.0,))
    right = AdapterInfo(
        rank=1,
        alpha=1.0,
        base_name="fourdnex-tiny-random",
        base_digest=base_digest(str(random_base)),
        statistics=statistics,
    )
    save_adapter(tmp_path / "right", adapter_state(transformer), right)
    pipeline, preset = load_pipeline(str(random_base), tmp_path / "right")
    assert pipeline.statistics == statistics
    assert pipeline.adapter_info == right
    assert preset.name == "fourdnex-tiny-random"

    other = replace(right, base_name="another", base_digest="0" * 64)
    save_adapter(tmp_path / "other", adapter_state(transformer), other)
    with pytest.raises(ValueError, match=r"adapter: trained on base another 0{12}, got fourdnex-tiny-random"):
        load_pipeline(str(random_base), tmp_path / "other")


@pytest.mark.parametrize("part", ["text_encoder", "image_encoder"])
def test_truncated_base_file_raises(random_base, tmp_path, part):
    shutil.copytree(random_base, tmp_path / "base")
    (weights,) = (tmp_path / "base" / part).glob("*.safetensors")
    os.truncate(weights, weights.stat().st_size // 2)
    with pytest.raises(ValueError, match=f"model: {tmp_path}/base: expected valid safetensors files, got "):
        Encoders.load(str(tmp_path / "base"))
