"""Published bases on the meta device: numbers of parameters and LoRA parameters match their files."""

from math import log

import pytest
import torch
from diffusers import WanTransformer3DModel

from fourdnex.latents.codec import check_video_size
from fourdnex.model.adapter import add_lora
from fourdnex.model.base_components import component_configs, meta_component, meta_transformer, num_bytes
from fourdnex.model.presets import get_preset
from fourdnex.model.sizes import fit_image

BASES = ("wan2.1-i2v-14b-480p", "wan2.1-fun-1.3b-inp")


def count(module):
    return sum(value.numel() for value in module.parameters())


@pytest.mark.parametrize(("name", "parameters"), [(BASES[0], 16_394_878_784), (BASES[1], 1_564_428_608)])
def test_transformers_have_the_published_number_of_parameters(name, parameters):
    model = meta_transformer(component_configs(get_preset(name))["transformer"], dtype=torch.bfloat16)
    assert count(model) - model.domain_embeddings.numel() == parameters
    assert all(value.device.type == "meta" for value in model.parameters())


def test_large_transformer_without_image_layers_matches_the_text_to_video_model():
    config = component_configs(get_preset(BASES[0]))["transformer"]
    with torch.device("meta"):
        sibling = WanTransformer3DModel(**config | {"in_channels": 16, "image_dim": None, "added_kv_proj_dim": None})
    assert 4 * count(sibling) == 57_153_966_336  # bytes of float32, from the index of Wan2.2-T2V-A14B-Diffusers
    assert len(sibling.state_dict()) == 1095


def test_small_layers_stay_in_float32():
    config = component_configs(get_preset(BASES[1]))["transformer"]
    model = meta_transformer(config, dtype=torch.bfloat16)
    kept = {name for name, value in model.named_parameters() if value.dtype == torch.float32}
    assert "blocks.0.scale_shift_table" in kept and "condition_embedder.time_embedder.linear_1.weight" in kept
    assert "blocks.0.attn1.to_q.weight" not in kept and "blocks.0.attn1.norm_q.weight" not in kept


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "matrices", "parameters"),
    [
        # 8 layers per block, two matrices each of 64 x width: 40 x 8 x 2 x 64 x 5120, 30 x 8 x 2 x 64 x 1536
        (BASES[0], 640, 209_715_200),
        (BASES[1], 480, 47_185_920),
    ],
)
def test_parameters_of_lora_rank_64(name, matrices, parameters):
    model = meta_transformer(component_configs(get_preset(name))["transformer"], dtype=torch.bfloat16)
    add_lora(model, rank=64, alpha=32)
    lora = [value for key, value in model.named_parameters() if ".lora_" in key]
    assert (len(lora), sum(value.numel() for value in lora)) == (matrices, parameters)


def test_encoders_have_the_published_number_of_parameters():
    configs = component_configs(get_preset(BASES[0]))
    text = meta_component("text_encoder", configs["text_encoder"], dtype=torch.bfloat16)
    assert num_bytes(text) == 11_361_820_672  # from the index of the published bfloat16 files
    assert count(meta_component("image_encoder", configs["image_encoder"], dtype=torch.bfloat16)) == 630_766_080
    assert count(meta_component("vae", configs["vae"], dtype=torch.float32)) == 126_892_531


def test_local_base_is_read_from_its_folder(random_base):
    configs = component_configs(get_preset(random_base))
    assert configs["transformer"]["num_layers"] == 1
    on_disk = WanTransformer3DModel.from_pretrained(random_base, subfolder="transformer", dtype=torch.bfloat16)
    meta = meta_transformer(configs["transformer"], dtype=torch.bfloat16)
    types = {name: value.dtype for name, value in meta.named_parameters()}
    assert {name: value.dtype for name, value in on_disk.named_parameters()}.items() <= types.items()
    with pytest.raises(ValueError, match="part: expected one of"):
        meta_component("tokenizer", {}, dtype=torch.float32)


@pytest.mark.parametrize("image", [(3000, 2000), (1000, 1000), (3000, 1000), (1000, 3000)])
def test_all_aspect_ratios_are_supported_by_the_large_base(image):
    """Shapes for one block: latents of the generated size, RGB and XYZ side by side."""
    preset = get_preset("wan2.1-i2v-14b-480p")
    fit = fit_image(image, (preset.height, preset.width))
    assert abs(log(fit.height * fit.width / (480 * 720))) < 0.05
    configs = component_configs(preset)
    with torch.device("meta"):
        vae = meta_component("vae", configs["vae"], dtype=torch.float32)
        check_video_size((1, 3, 49, fit.height, fit.width), vae)
        transformer = meta_transformer(configs["transformer"] | {"num_layers": 1}, dtype=torch.bfloat16)
        latents = torch.empty(1, 36, 13, fit.height // 8, fit.width // 4, dtype=torch.bfloat16)
        text, pixels = torch.empty(1, 512, 4096, dtype=torch.bfloat16), torch.empty(1, 257, 1280, dtype=torch.bfloat16)
        velocity = transformer(latents, torch.empty(1), text, encoder_hidden_states_image=pixels, return_dict=False)[0]
    assert velocity.shape == (1, 16, 13, fit.height // 8, fit.width // 4)
