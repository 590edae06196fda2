"""Compact text padding gives the same output and gradients as 512 tokens."""

import json
from pathlib import Path

import pytest
import torch

from fourdnex.model.adapter import add_lora
from fourdnex.model.text_padding import compact_text_padding
from fourdnex.model.transformer import SixDTransformer

TINY = json.loads((Path(__file__).parent.parent / "golden" / "transformer_config.json").read_text())


def run(model: SixDTransformer, lengths: tuple[int, ...]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(5)
    text = torch.zeros(len(lengths), 512, 32)
    for row, length in zip(text, lengths, strict=True):
        row[:length] = torch.randn(length, 32, generator=generator)
    model.zero_grad()
    sample = model(
        torch.randn(len(lengths), 36, 2, 4, 8, generator=generator),
        timestep=torch.full((len(lengths),), 300.0),
        encoder_hidden_states=text,
        encoder_hidden_states_image=torch.randn(len(lengths), 5, 32, generator=generator),
    ).sample
    sample.square().mean().backward()
    return sample.detach(), {k: v.grad.clone() for k, v in model.named_parameters() if v.grad is not None}


@pytest.mark.parametrize("lengths", [(7, 30), (0, 0), (512, 3), (511, 2), (1, 1)])
def test_output_and_gradients_equal_those_of_full_padding(lengths):
    torch.manual_seed(0)
    model = SixDTransformer(**TINY)
    add_lora(model, rank=2, alpha=2.0)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.normal_(std=0.2)
    sample, gradients = run(model, lengths)
    compact_text_padding(model)
    compact_sample, compact_gradients = run(model, lengths)
    assert torch.allclose(sample, compact_sample, atol=1e-5)
    assert gradients.keys() == compact_gradients.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, compact_gradients[name], atol=1e-5), name
