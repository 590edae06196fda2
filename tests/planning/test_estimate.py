"""Extrapolated memory equals that of the full pass; weights of the large base match its files."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fourdnex.model.base_components import component_configs, meta_transformer, num_bytes
from fourdnex.model.presets import get_preset
from fourdnex.planning.estimate import (
    adapter_bytes,
    denoising_bytes,
    encoder_weights,
    tiled_vae_bytes,
    training_bytes,
    transformer_weights,
    vae_bytes,
)
from fourdnex.planning.passes import ClipShape, denoising_pass, training_pass, vae_pass

TINY = get_preset("tiny")
LARGE = get_preset("wan2.1-i2v-14b-480p")
CLIP = ClipShape(num_frames=17, height=64, width=96)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_blocks_are_extrapolated_exactly_in_training(checkpointing):
    arguments = {"rank": 8, "checkpointing": checkpointing, "precision": "bf16", "kernels": "gpu"}
    with FakeTensorMode():
        whole = training_pass(component_configs(TINY), CLIP, **arguments).measure()
    planned = training_bytes(TINY, CLIP, **arguments)
    assert (planned.saved, planned.peak) == pytest.approx((whole.saved, whole.peak), rel=0.01)


def test_blocks_are_extrapolated_exactly_in_generation():
    with FakeTensorMode():
        whole = denoising_pass(component_configs(TINY), CLIP, rank=8, precision="bf16", kernels="gpu").measure()
    assert denoising_bytes(TINY, CLIP, rank=8, precision="bf16").peak == pytest.approx(whole.peak, rel=0.01)


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_frames_are_extrapolated_exactly_in_the_vae(direction, random_base):
    preset = get_preset(random_base)
    with FakeTensorMode():
        whole = vae_pass(component_configs(preset), CLIP, direction, precision="no").measure()
    assert vae_bytes(preset, CLIP, direction, precision="no").peak == pytest.approx(whole.peak, rel=0.01)


def test_bytes_of_the_large_bases():
    model = meta_transformer(component_configs(LARGE)["transformer"], dtype=torch.bfloat16)
    weights = transformer_weights(LARGE, precision="bf16")
    assert weights.total == num_bytes(model)
    assert weights.total - 2 * 16_394_878_784 < 0.01 * weights.total  # the rest: float32 layers, tables
    assert weights.block == num_bytes(model.blocks[7])
    assert adapter_bytes(LARGE, rank=64) == 4 * (209_715_200 + 2 * 5120)
    assert encoder_weights(LARGE, "text_encoder", precision="bf16").total == 11_361_820_672
    embedding = 2 * 256_384 * 4096
    assert encoder_weights(LARGE, "text_encoder", precision="bf16").largest_layer == embedding


def test_fp8_halves_the_blocks():
    whole = transformer_weights(LARGE, precision="bf16")
    small = transformer_weights(LARGE, precision="bf16", fp8=True)
    assert 0.5 * whole.block < small.block < 0.51 * whole.block


def test_tiling_needs_less_memory_above_the_tile_size():
    large = ClipShape(num_frames=9, height=480, width=720)
    whole = vae_bytes(TINY, large, "decode", precision="no").peak
    assert 0.1 * whole < tiled_vae_bytes(TINY, large, "decode", precision="no") < 0.5 * whole
    small = vae_bytes(TINY, CLIP, "decode", precision="no")
    assert tiled_vae_bytes(TINY, CLIP, "decode", precision="no") == small.inputs + small.peak


def test_memory_grows_with_sequence_length_and_depends_on_fusion():
    peaks = {
        fusion: denoising_bytes(
            TINY, ClipShape(num_frames=17, height=256, width=384, fusion=fusion), rank=4, precision="no"
        ).peak
        for fusion in ("width", "height", "channel")
    }
    assert peaks["height"] == pytest.approx(peaks["width"], rel=0.05)
    assert peaks["channel"] < 0.7 * peaks["width"]
