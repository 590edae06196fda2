"""Live bytes: matched to a hand computation, and equal for fake and real tensors."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from fourdnex.model.base_components import component_configs
from fourdnex.model.presets import get_preset
from fourdnex.planning.allocations import Allocations, convolution_workspace, materialize, use_gpu_kernels
from fourdnex.planning.passes import ClipShape, denoising_pass, encoder_pass, training_pass, vae_pass

CLIP = ClipShape(num_frames=5, height=32, width=48)


@pytest.fixture(scope="module")
def configs(random_base):
    return component_configs(get_preset(random_base))


def test_chain_matches_hand_computation():
    """Four tensors of 1,000 floats, of which three are live at once; a view adds no storage."""
    start = torch.zeros(1000)
    allocations = Allocations()
    with allocations:
        a = start + 1
        b = a.view(10, 100) * 2
        del a
        c = b + 1
        del b
        assert allocations.current == 4000
    assert (allocations.peak, allocations.current) == (8000, 4000)
    del c
    assert allocations.current == 0


def test_saved_bytes_match_autograd_hooks(configs):
    """Independent count: distinct storages in autograd's saved-tensor hooks, without weights and inputs."""
    step = training_pass(configs, CLIP, rank=4, checkpointing=False, precision="no")
    outside = (*step.model.parameters(), *step.model.buffers(), *step.inputs)
    known = {value.untyped_storage().data_ptr() for value in outside}
    saved: dict[int, int] = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        result = step.forward()
    measured = step.measure().saved
    assert sum(saved.values()) == pytest.approx(measured, rel=0.05)
    assert result.requires_grad


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_fake_training_allocates_as_real_training(configs, checkpointing, precision):
    arguments = {"rank": 4, "checkpointing": checkpointing, "precision": precision}
    real = training_pass(configs, CLIP, **arguments).measure()
    with FakeTensorMode():
        fake = training_pass(configs, CLIP, **arguments).measure()
    assert (fake.saved, fake.peak) == pytest.approx((real.saved, real.peak), rel=0.02)


def test_fake_generation_allocates_as_real_generation(configs):
    makers = (
        lambda: denoising_pass(configs, CLIP, rank=4, precision="no"),
        lambda: vae_pass(configs, CLIP, "encode", precision="no"),
        lambda: vae_pass(configs, CLIP, "decode", precision="no"),
        lambda: encoder_pass(configs, "text_encoder", precision="no"),
        lambda: encoder_pass(configs, "image_encoder", precision="no"),
    )
    for make in makers:
        real = make().measure()
        with FakeTensorMode():
            fake = make().measure()
        assert real.peak > 0
        assert fake.peak == pytest.approx(real.peak, rel=0.02)


def test_attention_saves_no_attention_matrix():
    """Fake tensors use the flash kernel: it saves queries, keys, values, result and one value per row."""
    allocations = Allocations()
    with FakeTensorMode(), allocations:
        query, key, value = (torch.empty(1, 2, 5000, 16, requires_grad=True) for _ in range(3))
        result = nn.functional.scaled_dot_product_attention(query, key, value)
        assert allocations.peak == 4 * query.nbytes + 4 * 2 * 5000
        result.sum().backward()
    assert allocations.peak < 5000 * 5000  # bytes of all pairs, were each a single byte


def test_materialize_preserves_ties_and_types():
    with torch.device("meta"):
        module = nn.ModuleList([nn.Linear(3, 3, dtype=torch.bfloat16), nn.Linear(3, 3)])
        module[1].weight = module[0].weight
    with FakeTensorMode():
        materialize(module)
    assert module[0].weight is module[1].weight
    assert module[0].weight.dtype == torch.bfloat16 and module[0].weight.device.type == "cpu"


def test_gpu_rms_norm_saves_its_input_and_a_value_per_row():
    values = torch.randn(7, 16, requires_grad=True)
    norm = nn.RMSNorm(16)
    saved = []
    use_gpu_kernels(norm)
    with saved_tensors_hooks(lambda tensor: saved.append(tensor.nbytes) or tensor, lambda tensor: tensor):
        norm(values)
    assert sorted(saved) == [4 * 7, 4 * 16, 4 * 7 * 16]


def test_convolution_workspace_is_a_layout_copy_or_unfolding():
    weight = torch.empty(8, 4, 3, 3, 3)
    large = torch.empty(1, 4, 60, 100, 10)
    result = nn.functional.conv3d(large, weight)
    assert convolution_workspace(large, weight, result) == max(large.nbytes + weight.nbytes, result.nbytes)
    small = torch.empty(1, 4, 3, 10, 10)
    result = nn.functional.conv3d(small, weight)
    assert convolution_workspace(small, weight, result) == 4 * (4 * 27) * (1 * 8 * 8)
