"""The loss against values by hand, on real transformers with a constant output."""

import json
from pathlib import Path
from typing import get_args

import pytest
import torch

from fourdnex.model.fusion import get_fusion
from fourdnex.model.noise_schedule import shift_sigmas
from fourdnex.model.option_types import FusionName
from fourdnex.model.transformer import SixDTransformer
from fourdnex.training.batches import collate
from fourdnex.training.loss import flow_matching_loss

TINY = json.loads((Path(__file__).parent.parent / "golden" / "transformer_config.json").read_text())
GRID = (2, 4, 6)


def constant(fusion: str, value: float) -> SixDTransformer:
    """A transformer that predicts `value` everywhere."""
    model = SixDTransformer(fusion=fusion, **TINY)
    with torch.no_grad():
        model.proj_out.weight.zero_()
        model.proj_out.bias.fill_(value)
    return model


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return {
        "latents": torch.randn(2, 2, 16, *GRID, generator=g),
        "condition": torch.randn(2, 2, 16, *GRID, generator=g),
        "text": torch.randn(2, 512, 32, generator=g),
        "image": torch.randn(2, 5, 32, generator=g),
    }


@pytest.mark.parametrize("fusion", get_args(FusionName))
def test_target_is_noise_minus_latents_and_modalities_are_weighted(fusion, batch):
    noise = torch.randn(2, 2, 16, *GRID, generator=torch.Generator().manual_seed(1))
    sigma = torch.tensor([0.25, 0.75])
    loss, parts = flow_matching_loss(
        constant(fusion, 0.5), batch, sigma=sigma, noise=noise, fusion=fusion, xyz_weight=3.0
    )
    rgb, xyz = ((0.5 - (noise - batch["latents"])[:, half]).square().mean() for half in (0, 1))
    assert torch.allclose(parts, torch.stack([rgb, xyz]), atol=1e-5)
    assert loss.item() == pytest.approx(((rgb + 3 * xyz) / 4).item(), abs=1e-5)


@pytest.mark.parametrize("fusion", get_args(FusionName))
def test_input_interpolates_latents_and_noise_and_timesteps_are_in_thousandths(fusion, batch):
    noise = torch.randn(2, 2, 16, *GRID, generator=torch.Generator().manual_seed(1))
    model, seen = constant(fusion, 0.0), []
    model.register_forward_pre_hook(lambda _module, args, kwargs: seen.append((args, kwargs)), with_kwargs=True)
    flow_matching_loss(model, batch, sigma=torch.tensor([0.25, 0.75]), noise=noise, fusion=fusion, xyz_mask=0.25)
    (((hidden,), arguments),) = seen
    assert arguments["timestep"].tolist() == [250.0, 750.0]
    # by hand: a quarter of the way to the noise for the first clip, three quarters for the second
    expected = torch.stack([0.75 * batch["latents"][0] + 0.25 * noise[0], 0.25 * batch["latents"][1] + 0.75 * noise[1]])
    factor = 2 if fusion == "channel" else 1
    noisy, mask, condition = hidden.split([16 * factor, 4 * factor, 16 * factor], dim=1)
    split = get_fusion(fusion).split
    assert torch.allclose(torch.stack(split(noisy), dim=1), expected, atol=1e-6)
    assert torch.equal(torch.stack(split(condition), dim=1), batch["condition"])
    for half, value in zip(split(mask), (1.0, 0.25), strict=True):
        assert (half[:, :, 0] == value).all() and (half[:, :, 1:] == 0).all()


def test_loss_of_a_perfect_prediction_is_zero(batch):
    """If the noise is the latents plus one, the velocity is one everywhere."""
    loss, _ = flow_matching_loss(
        constant("width", 1.0), batch, sigma=torch.tensor([0.1, 0.9]), noise=batch["latents"] + 1
    )
    assert loss.item() == pytest.approx(0, abs=1e-10)


def test_shifted_noise_levels_equal_values_by_hand():
    """3 s / (1 + 2 s): 0.5 becomes 0.75; 0 and 1 do not change."""
    assert shift_sigmas(torch.tensor([0.0, 0.5, 1.0]), 3.0).tolist() == pytest.approx([0.0, 0.75, 1.0])
    assert shift_sigmas(torch.tensor([0.3]), 1.0).item() == pytest.approx(0.3)


def weighted(batch: dict[str, torch.Tensor], weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and its parts with weights of latent cells."""
    noise = torch.randn(2, 2, 16, *GRID, generator=torch.Generator().manual_seed(1))
    sigma = torch.tensor([0.25, 0.75])
    return flow_matching_loss(constant("width", 0.5), batch | {"xyz_weight": weight}, sigma=sigma, noise=noise)


def test_xyz_errors_are_weighted_means_per_clip_and_rgb_errors_are_not_weighted(batch):
    weight = torch.zeros(2, *GRID)
    weight[0, 0, 1, 2], weight[0, 1, 3, 5] = 1.0, 0.5  # the mean weight is 1.5 / 48, below the limit of 0.1
    weight[1] = 0.3
    noise = torch.randn(2, 2, 16, *GRID, generator=torch.Generator().manual_seed(1))
    square = (0.5 - (noise - batch["latents"])).square()
    first = (square[0, 1, :, 0, 1, 2].mean() + 0.5 * square[0, 1, :, 1, 3, 5].mean()) / (0.1 * 48)
    _, parts = weighted(batch, weight)
    assert parts[0].item() == pytest.approx(square[:, 0].mean().item(), abs=1e-5)
    assert parts[1].item() == pytest.approx(((first + square[1, 1].mean()) / 2).item(), abs=1e-5)


def test_errors_of_unknown_cells_have_no_effect(batch):
    weight = torch.ones(2, *GRID)
    weight[:, 1, 2:] = 0
    changed = {key: value.clone() for key, value in batch.items()}
    changed["latents"][:, 1, :, 1, 2:] += 9
    assert torch.equal(weighted(batch, weight)[0], weighted(changed, weight)[0])
    nothing, _ = weighted(batch, torch.zeros(2, *GRID))
    assert torch.isfinite(nothing)


def test_equal_weights_give_the_unweighted_loss(batch):
    unweighted = {key: value for key, value in batch.items()}
    noise = torch.randn(2, 2, 16, *GRID, generator=torch.Generator().manual_seed(1))
    plain, _ = flow_matching_loss(constant("width", 0.5), unweighted, sigma=torch.tensor([0.25, 0.75]), noise=noise)
    assert weighted(batch, torch.full((2, *GRID), 0.4))[0].item() == pytest.approx(plain.item(), rel=1e-5)


def test_parts_of_a_batch_have_the_mean_loss_of_the_batch(batch):
    """So gradient accumulation and several processes do not change the result, whatever is known of each clip."""
    weight = torch.rand(2, *GRID, generator=torch.Generator().manual_seed(2))
    weight[1] *= 0.02
    noise = torch.randn(2, 2, 16, *GRID, generator=torch.Generator().manual_seed(1))
    sigma, model = torch.tensor([0.25, 0.75]), constant("width", 0.5)
    whole = batch | {"xyz_weight": weight}
    loss, _ = flow_matching_loss(model, whole, sigma=sigma, noise=noise)
    parts = [
        flow_matching_loss(
            model,
            {key: value[i : i + 1] for key, value in whole.items()},
            sigma=sigma[i : i + 1],
            noise=noise[i : i + 1],
        )[0]
        for i in (0, 1)
    ]
    assert loss.item() == pytest.approx(((parts[0] + parts[1]) / 2).item(), rel=1e-6)


def test_clips_without_weights_count_fully_in_a_batch_with_weights():
    item = {"latents": torch.zeros(2, 16, *GRID), "condition": torch.zeros(2, 16, *GRID)}
    item |= {"text": torch.zeros(512, 32), "image": torch.zeros(5, 32)}
    assert "xyz_weight" not in collate([item, item])
    both = collate([item, item | {"xyz_weight": torch.full(GRID, 0.25)}])
    assert (both["xyz_weight"][0] == 1).all() and (both["xyz_weight"][1] == 0.25).all()
