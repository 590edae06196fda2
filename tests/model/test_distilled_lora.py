"""Step-distilled LoRA weights: added to an adapter at their own scale, removed again, and validated."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fourdnex.model.adapter import AdapterInfo, adapter_state, add_lora, load_adapter, save_adapter
from fourdnex.model.distilled_lora import use_distilled_lora
from fourdnex.model.pipeline import SixDPipeline, load_pipeline
from fourdnex.model.presets import get_preset
from fourdnex.model.sampling import DISTILLED_SAMPLING, SamplingSettings
from fourdnex.model.transformer import SixDTransformer

RANK, WIDTH = 2, 192


@pytest.fixture
def pipeline(random_base, tmp_path) -> SixDPipeline:
    """A base with a random adapter."""
    pipeline = load_pipeline(str(random_base))[0]
    transformer = SixDTransformer.from_base(pipeline.transformer)
    add_lora(transformer, rank=3, alpha=6.0)
    state = {name: torch.randn_like(value) * 0.1 for name, value in adapter_state(transformer).items()}
    save_adapter(tmp_path / "adapter", state, AdapterInfo(rank=3, alpha=6.0))
    load_adapter(pipeline.transformer, tmp_path / "adapter")
    return pipeline


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    """Keys as in lightx2v's files: `diffusion_model.`, down and up, differences of biases and of norms."""
    torch.manual_seed(5)
    layers = {"self_attn.q": (WIDTH, WIDTH), "cross_attn.k_img": (WIDTH, WIDTH), "cross_attn.v_img": (WIDTH, WIDTH)}
    layers |= {"cross_attn.o": (WIDTH, WIDTH), "ffn.0": (WIDTH, 768)}
    state = {}
    for name, (inputs, outputs) in layers.items():
        state[f"diffusion_model.blocks.0.{name}.lora_down.weight"] = torch.randn(RANK, inputs)
        state[f"diffusion_model.blocks.0.{name}.lora_up.weight"] = torch.randn(outputs, RANK)
        state[f"diffusion_model.blocks.0.{name}.diff_b"] = torch.randn(outputs)
    state["diffusion_model.blocks.0.self_attn.norm_q.diff"] = torch.zeros(WIDTH)
    return state


@pytest.fixture
def file(weights, tmp_path):
    save_file(weights, tmp_path / "distilled.safetensors")
    return tmp_path / "distilled.safetensors"


@torch.no_grad()
def test_update_is_added_to_the_adapter_at_its_own_scale(pipeline, weights, file):
    layer, x = pipeline.transformer.blocks[0].attn1.to_q, torch.randn(4, WIDTH)
    ours = layer(x)
    use_distilled_lora(pipeline, file, 0.5)
    key = "diffusion_model.blocks.0.self_attn.q"
    update = x @ (weights[f"{key}.lora_up.weight"] @ weights[f"{key}.lora_down.weight"]).T + weights[f"{key}.diff_b"]
    assert torch.allclose(layer(x), ours + 0.5 * update, atol=1e-4)
    use_distilled_lora(pipeline, file, 1.0)
    assert torch.allclose(layer(x), ours + update, atol=1e-4)
    use_distilled_lora(pipeline, None, 1.0)
    assert torch.equal(layer(x), ours)


@torch.no_grad()
def test_loading_an_adapter_removes_it_until_used_again(pipeline, file, tmp_path):
    layer, x = pipeline.transformer.blocks[0].attn1.to_q, torch.randn(4, WIDTH)
    use_distilled_lora(pipeline, file, 0.5)
    both = layer(x)
    load_adapter(pipeline.transformer, tmp_path / "adapter")
    use_distilled_lora(pipeline, file, 0.5)
    assert torch.allclose(pipeline.transformer.blocks[0].attn1.to_q(x), both, atol=1e-4)


@torch.no_grad()
def test_update_is_added_to_the_base_without_adapter(random_base, weights, file):
    pipeline = load_pipeline(str(random_base))[0]
    layer, x = pipeline.transformer.blocks[0].ffn.net[0].proj, torch.randn(4, WIDTH)
    base = layer(x)
    use_distilled_lora(pipeline, file, 1.0)
    key = "diffusion_model.blocks.0.ffn.0"
    update = x @ (weights[f"{key}.lora_up.weight"] @ weights[f"{key}.lora_down.weight"]).T + weights[f"{key}.diff_b"]
    layer = pipeline.transformer.blocks[0].ffn.net[0].proj
    assert torch.allclose(layer(x), base + update, atol=1e-4)


def test_weights_are_removed_for_the_next_clip(pipeline, file, random_base):
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), dtype=np.uint8)
    few = SamplingSettings().with_changes(distilled_lora=file, distilled_scale=0.1)
    bare = replace(few, distilled_lora=None, distilled_scale=1.0)

    def xyz(sampling):
        return pipeline.generate(image, ["A box."], num_frames=5, seeds=[0], sampling=sampling)

    first, distilled, last = xyz(bare), xyz(few), xyz(bare)
    assert [video.passes[0].total for video in (first, distilled, last)] == [4, 4, 4]
    assert np.abs(distilled.xyz - first.xyz).max() > 1e-3
    assert np.array_equal(first.xyz, last.xyz)


def test_weights_set_sampling_defaults_that_options_override(file):
    settings = get_preset("wan2.1-i2v-14b-480p").sampling.with_changes(distilled_lora=file, num_inference_steps=8)
    expected = {**DISTILLED_SAMPLING, "num_inference_steps": 8}
    assert {name: getattr(settings, name) for name in expected} == expected
    with pytest.raises(ValueError, match=r"guidance_scale: expected 1 with a step-distilled LoRA.*got 5.0"):
        SamplingSettings().with_changes(distilled_lora=file, guidance_scale=5.0)


def test_provenance_contains_the_digest_of_the_weights(file, tmp_path):
    known = SamplingSettings().with_changes(distilled_lora=file).to_json()
    assert len(known["distilled_lora"]) == 16 and known["distilled_scale"] == 1.0
    moved = file.rename(tmp_path / "moved.safetensors")
    assert SamplingSettings().with_changes(distilled_lora=moved).to_json() == known


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("another width", r"10 of 15 keys do not fit.*blocks\.0\.attn1\.to_q.*shape \(2, 96\) for a layer 192 -> 192"),
        ("more blocks", r"3 of 18 keys do not fit.*blocks\.7\.attn1\.to_q\.lora_A\.weight: unknown layer"),
        ("no effect", "expected trained weights, got zeros in all lora_B"),
        ("no LoRA", "expected LoRA matrices .*got keys"),
    ],
)
def test_mismatched_weights_raise(pipeline, weights, tmp_path, change, message):
    if change == "another width":
        weights = {key: value[..., :96].contiguous() for key, value in weights.items()}
    elif change == "more blocks":
        weights |= {
            key.replace("blocks.0", "blocks.7"): value.clone() for key, value in weights.items() if "self_attn.q" in key
        }
    elif change == "no effect":
        weights = {key: value if "lora_down" in key else torch.zeros_like(value) for key, value in weights.items()}
    else:
        weights = {"conv_in.weight": torch.ones(3), "conv_in.bias": torch.ones(3)}
    save_file(weights, tmp_path / "wrong.safetensors")
    before = list(pipeline.transformer.peft_config)
    with pytest.raises(ValueError, match=rf"distilled_lora: .*wrong\.safetensors: .*({message})"):
        use_distilled_lora(pipeline, tmp_path / "wrong.safetensors", 1.0)
    assert list(pipeline.transformer.peft_config) == before


def test_invalid_files_raise(pipeline, tmp_path):
    (tmp_path / "text.safetensors").write_text("no weights at all")
    with pytest.raises(ValueError, match=r"distilled_lora: .*truncated or invalid safetensors file"):
        use_distilled_lora(pipeline, tmp_path / "text.safetensors", 1.0)
    with pytest.raises(FileNotFoundError, match=r"distilled_lora: .*nowhere is missing"):
        use_distilled_lora(pipeline, tmp_path / "nowhere", 1.0)


def test_ignored_norms_are_logged(pipeline, weights, tmp_path, caplog):
    weights["diffusion_model.blocks.0.self_attn.norm_q.diff"] = torch.ones(WIDTH)
    save_file(weights, tmp_path / "norms.safetensors")
    use_distilled_lora(pipeline, tmp_path / "norms.safetensors", 1.0)
    assert "ignoring 1 weights that are not LoRA matrices" in caplog.text
