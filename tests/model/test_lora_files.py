"""LoRA files of several trainers: in every format, the update of a layer is alpha / rank times B·A."""

import json

import pytest
import torch
from safetensors.torch import save_file

from fourdnex.model.lora_files import check_effective, read_lora

RANK, IN, OUT = 4, 6, 5
LAYERS = {  # Wan's own name -> diffusers'
    "blocks.0.self_attn.q": "blocks.0.attn1.to_q",
    "blocks.0.self_attn.o": "blocks.0.attn1.to_out.0",
    "blocks.11.cross_attn.k": "blocks.11.attn2.to_k",
    "blocks.11.cross_attn.v_img": "blocks.11.attn2.add_v_proj",
    "blocks.3.ffn.0": "blocks.3.ffn.net.0.proj",
    "blocks.3.ffn.2": "blocks.3.ffn.net.2",
}


@pytest.fixture
def pairs() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Matrices by diffusers' layer names."""
    generator = torch.Generator().manual_seed(0)
    draw = {name: torch.randn(RANK, IN + OUT, generator=generator) for name in LAYERS.values()}
    return {name: (both[:, :IN].contiguous(), both[:, IN:].T.contiguous()) for name, both in draw.items()}


@pytest.fixture
def write(tmp_path):
    def write(state, header=None):
        save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "lora.safetensors", header)
        return tmp_path / "lora.safetensors"

    return write


def named(pairs, form: str, a: str = "lora_A", b: str = "lora_B", own: bool = False) -> dict[str, torch.Tensor]:
    """`form` has {} in place of the layer, in Wan's original names if `own`."""
    wan = {diffusers: name for name, diffusers in LAYERS.items()}
    state = {}
    for name, (first, second) in pairs.items():
        layer = form.format(wan[name] if own else name)
        state |= {f"{layer}.{a}.weight": first, f"{layer}.{b}.weight": second}
    return state


def updates(path, default: float = 1.0) -> dict[str, torch.Tensor]:
    """Update of each layer's weight, from the layers and from the uniform state."""
    lora = read_lora(path, default=default)
    by_layer = {layer: lora.factors[layer] * second @ first for layer, (first, second) in lora.matrices.items()}
    rank, factor, state = lora.uniform()
    for layer, update in by_layer.items():
        first, second = state[f"{layer}.lora_A.weight"], state[f"{layer}.lora_B.weight"]
        assert first.shape == (rank, IN) and second.shape == (OUT, rank)
        assert torch.allclose(factor * second @ first, update, atol=1e-6)
    return by_layer


def expected(pairs, factor: float) -> dict[str, torch.Tensor]:
    return {layer: factor * second @ first for layer, (first, second) in pairs.items()}


def assert_equal(found, wanted) -> None:
    assert found.keys() == wanted.keys()
    for layer in wanted:
        assert torch.allclose(found[layer], wanted[layer], atol=1e-5), layer


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("transformer.{}", {}),
        ("{}", {}),
        ("diffusion_model.{}", {}),
        ("base_model.model.{}", {"a": "lora_A.default", "b": "lora_B.default"}),
        ("transformer.{}", {"a": "lora_down", "b": "lora_up"}),
        ("diffusion_model.{}", {"own": True}),
        ("model.diffusion_model.{}", {"own": True, "a": "lora_down", "b": "lora_up"}),
        ("{}", {"own": True}),
    ],
)
def test_every_format_gives_the_same_update(pairs, write, form, names):
    assert_equal(updates(write(named(pairs, form, **names)), default=0.5), expected(pairs, 0.5))


def test_kohya_format(pairs, write):
    state = named(pairs, "{}", "lora_down", "lora_up", own=True)
    kohya = {}
    for key, value in state.items():
        layer, part = key.split(".lora_")
        kohya[f"lora_unet_{layer.replace('.', '_')}.lora_{part}"] = value
        kohya[f"lora_unet_{layer.replace('.', '_')}.alpha"] = torch.tensor(8.0)
    assert_equal(updates(write(kohya)), expected(pairs, 8.0 / RANK))


def test_alpha_tensors(pairs, write):
    state = named(pairs, "transformer.{}") | {f"transformer.{layer}.alpha": torch.tensor(2.0) for layer in pairs}
    assert_equal(updates(write(state), default=0.5), expected(pairs, 2.0 / RANK))


def test_alpha_in_the_header(pairs, write):
    header = {"lora_adapter_metadata": json.dumps({"transformer.r": RANK, "transformer.lora_alpha": 16})}
    assert_equal(updates(write(named(pairs, "transformer.{}"), header), default=0.5), expected(pairs, 4.0))
    told = {"transformer.r": RANK, "transformer.lora_alpha": 16, "transformer.use_rslora": True}
    header = {"lora_adapter_metadata": json.dumps(told)}
    assert_equal(updates(write(named(pairs, "transformer.{}"), header)), expected(pairs, 8.0))  # 16 / sqrt(4)


def test_ranks_and_alphas_per_layer(pairs, write):
    """A layer with half the rank, and one with another alpha from the header's pattern."""
    small, other = "blocks.0.attn1.to_q", "blocks.3.ffn.net.2"
    pairs[small] = (pairs[small][0][:2], pairs[small][1][:, :2])
    told = {"r": RANK, "lora_alpha": RANK, "rank_pattern": {small: 2}, "alpha_pattern": {"ffn.net.2": 12, small: 2}}
    header = {"lora_adapter_metadata": json.dumps({f"transformer.{key}": value for key, value in told.items()})}
    wanted = expected(pairs, 1.0)
    wanted[other] = wanted[other] * 12 / RANK
    assert_equal(updates(write(named(pairs, "transformer.{}"), header)), wanted)


def test_equal_ranks_and_alphas_do_not_change_the_matrices(pairs, write):
    rank, factor, state = read_lora(write(named(pairs, "transformer.{}")), default=0.5).uniform()
    assert (rank, factor) == (RANK, 0.5)
    assert all(torch.equal(state[f"{layer}.lora_B.weight"], second) for layer, (_, second) in pairs.items())


FIRST = "transformer.blocks.0.attn1.to_q"


@pytest.mark.parametrize(
    ("change", "header", "message"),
    [
        ({f"{FIRST}.lora_B.weight": None}, {}, r"to_q: expected two matrices of the same rank, got A \(4, 6\)"),
        ({f"{FIRST}.lora_B.weight": torch.ones(OUT, 3)}, {}, r"of the same rank, got A \(4, 6\), B \(5, 3\)"),
        ({f"{FIRST}.lora_A.weight": torch.full((RANK, IN), torch.nan)}, {}, r"to_q\.lora_A\.weight: expected finite"),
        ({f"{FIRST}.lora_magnitude_vector": torch.ones(OUT)}, {}, "magnitude_vector: expected LoRA matrices, got DoRA"),
        ({"transformer.blocks.9.attn1.to_q.alpha": torch.tensor(1.0)}, {}, "expected LoRA matrices of the same layer"),
        ({f"{FIRST}.alpha": torch.tensor(1.0)}, {"r": RANK, "lora_alpha": 2}, "expected one alpha, got 1 .* and 2 in"),
        ({"blocks.0.attn1.to_q.lora_A.weight": torch.ones(RANK, IN),
          "blocks.0.attn1.to_q.lora_B.weight": torch.ones(OUT, RANK)}, {}, "expected each layer once, got .*to_q and"),
        ({"transformer.blocks.9.attn1.to_q.lora_B.bias": torch.ones(OUT)}, {}, "LoRA matrices for the layer of a bias"),
        ({}, {"r": 16, "lora_alpha": 16}, "expected rank 16 as in lora_adapter_metadata, got 4"),
        ({"lora_unet_te_text.lora_down.weight": torch.ones(1, 2), "lora_unet_te_text.lora_up.weight": torch.ones(2, 1)},
         {}, "lora_unet_te_text: expected a layer of Wan's blocks in Kohya's format"),
        ({"diffusion_model.head.neck.lora_A.weight": torch.ones(1, 2),
          "diffusion_model.head.neck.lora_B.weight": torch.ones(2, 1)},
         {}, "expected (only layers of a|a layer of diffusers') Wan"),
    ],
)  # fmt: skip
def test_invalid_contents_raise(pairs, write, change, header, message):
    state = {key: value for key, value in (named(pairs, "transformer.{}") | change).items() if value is not None}
    metadata = json.dumps({f"transformer.{key}": value for key, value in header.items()})
    path = write(state, {"lora_adapter_metadata": metadata} if header else None)
    with pytest.raises(ValueError, match=message) as raised:
        read_lora(path, default=1.0)
    assert str(path) in str(raised.value)


def test_biases_are_scaled_as_their_format_requires(pairs, write):
    """PEFT's lora_B.bias is scaled by alpha / rank like B·A; .diff_b is the difference itself."""
    second = "blocks.3.ffn.net.2"
    state = named(pairs, "transformer.{}") | {f"{FIRST}.lora_B.bias": torch.ones(OUT)}
    state |= {f"transformer.{layer}.alpha": torch.tensor(2.0) for layer in pairs}
    state[f"transformer.{second}.diff_b"] = torch.ones(OUT)
    biases = read_lora(write(state), default=1.0).biases
    assert biases.keys() == {"blocks.0.attn1.to_q", second}
    assert (biases["blocks.0.attn1.to_q"] == 2.0 / RANK).all() and (biases[second] == 1).all()


def test_zero_weights_raise(pairs, write):
    state = named(pairs, "transformer.{}") | {f"{FIRST}.lora_B.weight": torch.zeros(OUT, RANK)}
    path = write(state)
    with pytest.raises(ValueError, match=r"blocks\.0\.attn1\.to_q\.lora_B: expected trained weights, got only zeros"):
        check_effective(path, read_lora(path, default=1.0))


def test_invalid_files_raise(tmp_path):
    path = tmp_path / "lora.safetensors"
    with pytest.raises(FileNotFoundError, match="is missing"):
        read_lora(path, default=1.0)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match=r"got a Git LFS pointer.*git lfs pull"):
        read_lora(path, default=1.0)
    save_file({"conv.weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"expected LoRA matrices .* got keys \['conv.weight'\]"):
        read_lora(path, default=1.0)
