"""The 6D transformer matches the reference implementation, and remains a Wan model of diffusers."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file

from fourdnex.model.checkpoint_conversion import load_reference_weights
from fourdnex.model.transformer import SixDTransformer

GOLDEN = Path(__file__).parent.parent / "golden"
TINY = json.loads((GOLDEN / "transformer_config.json").read_text())


@pytest.fixture
def golden_state():
    return load_file(GOLDEN / "transformer_weights.safetensors")


def test_matches_the_reference_implementation(golden_state):
    model = SixDTransformer(fusion="width", **TINY).eval()
    load_reference_weights(model, golden_state)
    io = load_file(GOLDEN / "transformer_io.safetensors")
    with torch.no_grad():
        sample = model(
            io["hidden_states"],
            timestep=io["timestep"],
            encoder_hidden_states=io["encoder_hidden_states"],
            encoder_hidden_states_image=io["encoder_hidden_states_image"],
        ).sample
    assert (sample - io["sample"]).abs().max() < 1e-5


def test_is_a_wan_transformer_that_can_be_saved(tmp_path, golden_state):
    model = SixDTransformer(**TINY)
    assert isinstance(model, WanTransformer3DModel)
    load_reference_weights(model, golden_state)
    model.save_pretrained(tmp_path)
    again = SixDTransformer.from_pretrained(tmp_path)
    assert again.config.fusion == "width"
    assert torch.equal(again.domain_embeddings, golden_state["learnable_domain_embeddings"])


def test_swapping_modalities_and_domains_swaps_the_output(golden_state):
    """Both modalities have the same positions, so with swapped domain vectors the outputs are swapped."""
    model = SixDTransformer(**TINY).eval()
    load_reference_weights(model, golden_state)
    io = load_file(GOLDEN / "transformer_io.safetensors")
    rest = {k: io[k] for k in ("timestep", "encoder_hidden_states", "encoder_hidden_states_image")}
    with torch.no_grad():
        rgb, xyz = model(io["hidden_states"], **rest).sample.chunk(2, dim=-1)
        model.domain_embeddings.copy_(model.domain_embeddings.flip(0))
        swapped = torch.cat(io["hidden_states"].chunk(2, dim=-1)[::-1], dim=-1)
        xyz_again, rgb_again = model(swapped, **rest).sample.chunk(2, dim=-1)
    assert torch.allclose(rgb, rgb_again, atol=1e-5)
    assert torch.allclose(xyz, xyz_again, atol=1e-5)


def test_from_base_shares_weights_and_has_zero_domain_embeddings():
    torch.manual_seed(0)
    base = WanTransformer3DModel(**TINY)
    model = SixDTransformer.from_base(base)
    state = model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in base.state_dict().items())
    assert model.domain_embeddings.abs().sum() == 0
    assert all(value.device.type == "cpu" for value in (*model.parameters(), *model.buffers()))
    weights = [value.data_ptr() for value in base.parameters()]
    assert set(weights) < {value.data_ptr() for value in model.parameters()}  # shared, not copied


def test_mismatched_reference_weights_raise_listing_keys(golden_state):
    golden_state["blocks.9.surplus"] = torch.zeros(1)
    del golden_state["proj_out.bias"]
    with pytest.raises(ValueError, match=r"missing keys \['proj_out.bias'\], unexpected keys \['blocks.9.surplus'\]"):
        load_reference_weights(SixDTransformer(**TINY), golden_state)
