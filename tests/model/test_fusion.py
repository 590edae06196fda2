"""Fusions: tensors, tokens, positions and weights, on real transformers."""

import json
import math
from pathlib import Path
from typing import get_args

import pytest
import torch
from diffusers import WanTransformer3DModel

from fourdnex.model.fusion import get_fusion
from fourdnex.model.option_types import FusionName
from fourdnex.model.transformer import SixDTransformer

TINY = json.loads((Path(__file__).parent.parent / "golden" / "transformer_config.json").read_text())
ALL_FUSIONS = get_args(FusionName)
SEQUENCE_FUSIONS = ["width", "height", "frame", "batch-cross-modal"]
GRID = (2, 4, 6)  # latent frames, rows and columns of one modality


@pytest.fixture(scope="module")
def base() -> WanTransformer3DModel:
    torch.manual_seed(1)
    return WanTransformer3DModel(**TINY).eval()


def build(base: WanTransformer3DModel, fusion: str) -> SixDTransformer:
    """The base with this fusion, and domain embeddings that make RGB and XYZ differ."""
    model = SixDTransformer.from_base(base, fusion=fusion).eval()
    if fusion != "channel":
        with torch.no_grad():
            model.domain_embeddings.copy_(torch.randn(2, 48, generator=torch.Generator().manual_seed(5)))
    return model


def draw(batch: int = 2, seed: int = 3) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """RGB and XYZ inputs [B, 36, F, H, W], and the other inputs of the transformer."""
    g = torch.Generator().manual_seed(seed)
    rgb, xyz = torch.randn(2, batch, 36, *GRID, generator=g)
    told = {
        "timestep": torch.rand(batch, generator=g) * 1000,
        "encoder_hidden_states": torch.randn(batch, 512, 32, generator=g),
        "encoder_hidden_states_image": torch.randn(batch, 5, 32, generator=g),
    }
    return rgb, xyz, told


@torch.no_grad()
def run(
    model: SixDTransformer, rgb: torch.Tensor, xyz: torch.Tensor, told: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    fusion = model.fusion
    joined = torch.cat([fusion.join(rgb[:, a:b], xyz[:, a:b]) for a, b in ((0, 16), (16, 20), (20, 36))], dim=1)
    return fusion.split(model(joined, **told).sample)


@pytest.mark.parametrize(
    ("name", "distance"),
    [
        ("width", 45),
        ("height", 1350),
        ("frame", 17550),
        ("batch", math.inf),
        ("batch-cross-modal", 17550),
        ("channel", 0),
    ],
)
def test_token_distance_at_49_frames_of_480x720(name, distance):
    assert get_fusion(name).token_distance((13, 30, 45)) == distance


@pytest.mark.parametrize("name", ["width", "height", "frame"])
def test_token_distance_matches_positions_in_the_sequence(name):
    """Numbers the tokens of one modality, joins them, and finds both positions of each number."""
    fusion = get_fusion(name)
    numbers = torch.arange(math.prod(GRID)).view(1, 1, *GRID)
    order = fusion.join(numbers, numbers).flatten().tolist()
    for number in numbers.flatten().tolist():
        first = order.index(number)
        assert order.index(number, first + 1) - first == fusion.token_distance(GRID)


@pytest.mark.parametrize("name", ALL_FUSIONS)
def test_split_inverts_join_and_rgb_is_first(name):
    fusion = get_fusion(name)
    rgb, xyz = torch.randn(2, 3, 16, *GRID)
    joined = fusion.join(rgb, xyz)
    first, second = fusion.split(joined)
    assert torch.equal(first, rgb) and torch.equal(second, xyz)
    assert joined.flatten()[0] == rgb.flatten()[0]
    assert joined.flatten()[-1] == xyz.flatten()[-1]
    assert joined.numel() == 2 * rgb.numel()


@pytest.mark.parametrize(
    ("name", "shape", "what"),
    [
        ("width", (1, 16, 2, 4, 7), "even width"),
        ("height", (1, 16, 2, 3, 8), "even height"),
        ("frame", (1, 16, 3, 4, 8), "even frames"),
        ("batch", (3, 16, 2, 4, 8), "even batch"),
        ("channel", (1, 15, 2, 4, 8), "even number of channels"),
    ],
)
def test_odd_sizes_raise(name, shape, what):
    with pytest.raises(ValueError, match=f"joined: expected an {what}"):
        get_fusion(name).split(torch.zeros(shape))


@pytest.mark.parametrize("name", ALL_FUSIONS)
def test_rgb_and_xyz_tokens_share_their_position(name):
    """Rotary tables joined like the tokens have the same vector at both tokens of a pixel."""
    fusion = get_fusion(name)
    table = torch.randn(1, math.prod(GRID), 1, 24)
    grid = table.view(1, *GRID, 24).permute(0, 4, 1, 2, 3)
    if name.startswith("batch") or name == "channel":
        expected = table
    else:
        expected = fusion.join(grid, grid).flatten(2).transpose(1, 2).unsqueeze(2)
    assert torch.equal(fusion.share_positions(table, GRID), expected)


def test_sequence_fusions_compute_the_same_function(base):
    """Attention is invariant to token order and positions are shared, so they differ only by rounding."""
    inputs = draw()
    outputs = {name: torch.stack(run(build(base, name), *inputs)) for name in SEQUENCE_FUSIONS}
    for name in SEQUENCE_FUSIONS[1:]:
        assert torch.allclose(outputs[name], outputs["width"], atol=1e-5), name
    # not trivially: RGB depends on XYZ
    other = torch.stack(run(build(base, "width"), inputs[0], -inputs[1], inputs[2]))
    assert (other[0] - outputs["width"][0]).abs().max() > 1e-3


def test_own_positions_give_different_fusions_that_initially_equal_the_base(base):
    rgb, xyz, told = draw()
    outputs = {}
    for name in ("width", "height", "frame"):
        model = SixDTransformer.from_base(base, fusion=name, positions="own").eval()
        outputs[name] = torch.stack(run(model, rgb, xyz, told))
        with torch.no_grad():
            plain = base(model.fusion.join(rgb, xyz), **told).sample
        assert torch.allclose(outputs[name], torch.stack(model.fusion.split(plain)), atol=1e-5)
    assert (outputs["width"] - outputs["height"]).abs().max() > 1e-3
    assert (outputs["width"] - outputs["frame"]).abs().max() > 1e-3
    with pytest.raises(ValueError, match=r"positions: expected one of \('shared', 'own'\), got 'learned'"):
        SixDTransformer(positions="learned", **TINY)


def test_batch_fusion_separates_modalities_unless_cross_modal(base):
    rgb, xyz, told = draw()
    apart, crossed = build(base, "batch"), build(base, "batch-cross-modal")
    assert torch.equal(run(apart, rgb, xyz, told)[0], run(apart, rgb, -xyz, told)[0])
    assert (run(crossed, rgb, xyz, told)[0] - run(crossed, rgb, -xyz, told)[0]).abs().max() > 1e-3
    with torch.no_grad():
        apart.domain_embeddings.zero_()
        alone = [base(half, **told).sample for half in (rgb, xyz)]
    for half, expected in zip(run(apart, rgb, xyz, told), alone, strict=True):
        assert torch.allclose(half, expected, atol=1e-5)


def test_channel_fusion_initially_equals_the_base_on_rgb_and_is_zero_on_xyz(base):
    rgb, xyz, told = draw()
    model = build(base, "channel")
    with torch.no_grad():
        expected = base(rgb, **told).sample
    color, points = run(model, rgb, xyz, told)
    assert torch.allclose(color, expected, atol=1e-5)
    assert (points == 0).all()
    assert model.patch_embedding.weight.shape == (48, 72, 1, 2, 2)
    assert model.proj_out.weight.shape == (2 * 16 * 4, 48)


def test_channel_fusion_does_not_modify_the_base(base):
    before = {name: value.clone() for name, value in base.state_dict().items()}
    model = build(base, "channel")
    with torch.no_grad():
        for name in model.fusion.trained:
            model.get_parameter(name).add_(1)
    assert all(torch.equal(before[name], value) for name, value in base.state_dict().items())


@pytest.mark.parametrize("name", ALL_FUSIONS)
def test_pairs_do_not_depend_on_their_batch(base, name):
    rgb, xyz, told = draw(batch=3)
    model = build(base, name)
    together = run(model, rgb, xyz, told)
    for i in range(3):
        alone = run(model, rgb[i : i + 1], xyz[i : i + 1], {key: value[i : i + 1] for key, value in told.items()})
        for whole, one in zip(together, alone, strict=True):
            assert torch.allclose(whole[i], one[0], atol=1e-5)


@pytest.mark.parametrize("name", ALL_FUSIONS)
def test_saved_transformer_computes_the_same(base, name, tmp_path):
    model = build(base, name)
    with torch.no_grad():
        for own in model.fusion.trained:
            model.get_parameter(own).add_(torch.randn(model.get_parameter(own).shape) * 0.1)
    model.save_pretrained(tmp_path)
    again = SixDTransformer.from_pretrained(tmp_path).eval()
    assert again.config.fusion == name
    inputs = draw(batch=1)
    assert torch.allclose(torch.stack(run(again, *inputs)), torch.stack(run(model, *inputs)), atol=1e-6)


@pytest.mark.parametrize("name", ALL_FUSIONS)
def test_trained_weights_get_gradients_from_both_modalities(base, name):
    """Every trained parameter gets a gradient: DDP would otherwise hang."""
    rgb, xyz, told = draw()
    for half in (0, 1):
        model = build(base, name)
        if name == "channel":  # away from the zeros it starts with
            with torch.no_grad():
                model.proj_out.weight.normal_()
        fusion = model.fusion
        joined = torch.cat([fusion.join(rgb[:, a:b], xyz[:, a:b]) for a, b in ((0, 16), (16, 20), (20, 36))], dim=1)
        fusion.split(model(joined, **told).sample)[half].square().mean().backward()
        for own in fusion.trained:
            assert model.get_parameter(own).grad.abs().max() > 0, own


def test_unknown_fusion_raises_listing_all():
    with pytest.raises(ValueError, match=r"fusion: expected one of \['batch', .*'width'\], got 'depth'"):
        get_fusion("depth")
