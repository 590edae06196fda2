"""CPU optimizations do not change the loss and the gradients."""

import pytest
import torch
from peft.tuners.lora import Linear as LoraLinear

from fourdnex.model.adapter import add_lora
from fourdnex.model.transformer import SixDTransformer
from fourdnex.pretraining.transformer import TRANSFORMER_CONFIG
from fourdnex.training.cpu_optimizations import apply_cpu_optimizations
from fourdnex.training.loss import flow_matching_loss


def transformer(rank: int) -> SixDTransformer:
    torch.manual_seed(0)
    model = SixDTransformer(**TRANSFORMER_CONFIG | {"num_layers": 1})
    add_lora(model, rank=rank, alpha=3.0 * rank)
    for name, value in model.named_parameters():
        if "lora_B" in name or "norm" in name:  # not the zeros and ones that they begin with
            value.data.normal_(0.5, 0.1)
    return model.train()


@pytest.mark.parametrize("rank", [64, 4])  # merged, and too thin for it
def test_optimized_loss_and_gradients_equal_those_without_optimizations(rank):
    plain, quick = transformer(rank), transformer(rank)
    apply_cpu_optimizations(quick)
    assert list(plain.state_dict()) == list(quick.state_dict())
    merged = {type(module).__name__ for module in quick.modules() if isinstance(module, LoraLinear)}
    assert merged == ({"_MergedLoraLinear"} if rank == 64 else {"Linear"})
    numbers = torch.Generator().manual_seed(1)
    shape = (2, 2, 16, 2, 4, 4)
    noise = torch.randn(shape, generator=numbers)
    batch = {
        "latents": torch.randn(shape, generator=numbers),
        "condition": torch.randn(shape, generator=numbers),
        "text": torch.randn(2, 512, TRANSFORMER_CONFIG["text_dim"], generator=numbers),
        "image": torch.randn(2, 5, TRANSFORMER_CONFIG["image_dim"], generator=numbers),
    }
    losses = []
    for model in (plain, quick):
        loss, _ = flow_matching_loss(model, batch, sigma=torch.tensor([0.3, 0.8]), noise=noise)
        loss.backward()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    trained = [name for name, value in plain.named_parameters() if value.requires_grad]
    assert len(trained) == 2 * 8 + 1
    for name in trained:
        one, other = plain.get_parameter(name).grad, quick.get_parameter(name).grad
        assert (one - other).norm() <= 1e-4 * one.norm(), name
    with torch.no_grad():
        assert torch.isfinite(flow_matching_loss(quick, batch, sigma=torch.tensor([0.3, 0.8]), noise=noise)[0])
