"""Memory options of generation: FP8 storage, offloading and tiling with diffusers."""

import numpy as np
import pytest
import torch

from fourdnex.model.adapter import AdapterInfo, adapter_state, add_lora, save_adapter
from fourdnex.model.base_components import num_bytes
from fourdnex.model.memory_settings import MemorySettings
from fourdnex.model.pipeline import load_pipeline
from fourdnex.model.sampling import SamplingSettings
from fourdnex.model.transformer import SixDTransformer


def generate(pipeline):
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), dtype=np.uint8)
    sampling = SamplingSettings(num_inference_steps=1, guidance_scale=1.0)
    return pipeline.generate(image, ["A red box slides left."], num_frames=5, seeds=[3], sampling=sampling)


@pytest.fixture(scope="module")
def adapter(random_base, tmp_path_factory):
    torch.manual_seed(0)
    transformer = SixDTransformer.from_base(load_pipeline(str(random_base))[0].transformer)
    add_lora(transformer, rank=2, alpha=2.0)
    state = {key: torch.randn_like(value) * 0.1 for key, value in adapter_state(transformer).items()}
    folder = tmp_path_factory.mktemp("adapter") / "a"
    save_adapter(folder, state, AdapterInfo(rank=2, alpha=2.0))
    return folder


@pytest.fixture(scope="module")
def plain(random_base, adapter):
    return generate(load_pipeline(str(random_base), adapter)[0])


@pytest.mark.parametrize("offload", ["encoders", "all"])
def test_offloading_does_not_change_results(random_base, adapter, plain, offload):
    pipeline, _ = load_pipeline(str(random_base), adapter, memory=MemorySettings(offload=offload))
    parts = {"encoders": [pipeline.text_encoder], "all": [pipeline.text_encoder, pipeline.transformer]}[offload]
    for part in parts:
        hooks = [module._diffusers_hook for module in part.modules() if hasattr(module, "_diffusers_hook")]
        assert any(hook.get_hook("group_offloading") is not None for hook in hooks)
    video = generate(pipeline)
    assert np.array_equal(video.rgb, plain.rgb) and np.array_equal(video.xyz, plain.xyz)


def test_fp8_storage_converts_layers_but_not_adapter_and_norms(random_base, adapter, plain):
    whole = num_bytes(load_pipeline(str(random_base), adapter)[0].transformer)
    pipeline, _ = load_pipeline(str(random_base), adapter, memory=MemorySettings(fp8_storage=True))
    types = {name: value.dtype for name, value in pipeline.transformer.named_parameters()}
    assert types["blocks.0.attn1.to_q.base_layer.weight"] == torch.float8_e4m3fn
    assert types["blocks.0.ffn.net.2.weight"] == torch.float8_e4m3fn
    kept = [name for name in types if ".lora_" in name or "norm" in name or "condition_embedder" in name]
    assert kept and all(types[name] == torch.float32 for name in kept)
    small = [value.numel() for value in pipeline.transformer.parameters() if value.dtype == torch.float8_e4m3fn]
    assert num_bytes(pipeline.transformer) == whole - 3 * sum(small) < 0.6 * whole
    assert pipeline.transformer.dtype == torch.float32  # what it computes in
    video = generate(pipeline)
    difference = np.abs(video.xyz - plain.xyz)
    assert 0 < difference.mean() < 0.1 * plain.xyz.std()


def test_vae_tiling_is_enabled(random_base):
    assert not load_pipeline(str(random_base))[0].vae.use_tiling
    assert load_pipeline(str(random_base), memory=MemorySettings(vae_tiling=True))[0].vae.use_tiling


def test_changes_include_only_inexact_options():
    settings = MemorySettings(offload="all", fp8_storage=True, vae_tiling=True)
    assert settings.changes() == {"fp8_storage": True, "vae_tiling": True}
    assert MemorySettings(offload="all").changes() == {}
    with pytest.raises(ValueError, match=r"offload: expected one of \('none', 'encoders', 'all'\), got 'disk'"):
        MemorySettings(offload="disk")
