"""Adapter folders: saving and loading, and errors for adapters that do not fit."""

import json
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file, save_file

from fourdnex.model.adapter import (
    AdapterInfo,
    adapter_digest,
    adapter_norm,
    adapter_state,
    add_lora,
    load_adapter,
    read_adapter_info,
    save_adapter,
)
from fourdnex.model.option_types import FusionName
from fourdnex.model.transformer import SixDTransformer

TINY = {
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "in_channels": 36,
    "out_channels": 16,
    "text_dim": 32,
    "freq_dim": 32,
    "ffn_dim": 64,
    "num_layers": 2,
    "image_dim": 32,
    "added_kv_proj_dim": 48,
    "rope_max_seq_len": 64,
}


def build(fusion: str = "width") -> SixDTransformer:
    torch.manual_seed(1)
    return SixDTransformer(fusion=fusion, **TINY)


def run(model: SixDTransformer) -> torch.Tensor:
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        return model.eval()(
            model.fusion.join(*torch.randn(2, 1, 36, 2, 4, 4, generator=g)),
            timestep=torch.tensor([500.0]),
            encoder_hidden_states=torch.randn(1, 512, 32, generator=g),
            encoder_hidden_states_image=torch.randn(1, 5, 32, generator=g),
        ).sample


@pytest.fixture
def trained(tmp_path):
    """A transformer with a random adapter, and its adapter folder."""
    return train(build(), tmp_path / "adapter"), tmp_path / "adapter"


def train(model: SixDTransformer, folder: Path) -> SixDTransformer:
    """Give `model` a random adapter of rank 3 and save it to `folder`."""
    add_lora(model, rank=3, alpha=6.0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.requires_grad:
                value.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
    save_adapter(folder, adapter_state(model), AdapterInfo(rank=3, alpha=6.0, fusion=model.config.fusion))
    return model


def test_only_lora_and_domain_embeddings_are_trainable():
    model = build()
    add_lora(model, rank=2, alpha=2.0)
    names = {name for name, value in model.named_parameters() if value.requires_grad}
    assert "patch_embedding.domain_embeddings" in names
    # 2 blocks, self- and cross-attention, four projections each, A and B; and the domain embeddings
    assert len(names) == 2 * 2 * 4 * 2 + 1


def test_any_linear_layers_can_be_targets(tmp_path):
    targets = ("attn1.to_q", "ffn.net.0.proj", "ffn.net.2", "add_k_proj")
    model = build()
    add_lora(model, rank=2, alpha=2.0, targets=targets)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.normal_(std=0.1)
    state = adapter_state(model)
    assert len(state) == 2 * 4 * 2 + 1  # 2 blocks, a layer for each target, A and B; the domain embeddings
    save_adapter(tmp_path / "adapter", state, AdapterInfo(rank=2, alpha=2.0, targets=targets))
    again = build()
    assert load_adapter(again, tmp_path / "adapter").targets == targets
    assert torch.allclose(run(again), run(model), atol=1e-6)


@pytest.mark.parametrize(("targets", "wrong"), [(("to_q", "o_k", "mlp"), r"\['o_k', 'mlp'\]"), ((), "none")])
def test_unmatched_targets_raise_listing_the_layers(targets, wrong):
    with pytest.raises(ValueError, match=rf"targets: expected .*attn1\.to_q, .*ffn\.net\.2, .*got {wrong}"):
        add_lora(build(), rank=2, alpha=2.0, targets=targets)


def test_rank_zero_raises():
    with pytest.raises(ValueError, match="rank: expected at least 1, got 0"):
        add_lora(build(), rank=0, alpha=1.0)


def test_adapter_without_targets_in_its_metadata_loads(trained):
    model, folder = trained
    digest = adapter_digest(folder)
    info = json.loads((folder / "adapter.json").read_text())
    del info["targets"]
    (folder / "adapter.json").write_text(json.dumps(info))
    again = build()
    assert load_adapter(again, folder).targets == ("to_q", "to_k", "to_v", "to_out.0")
    assert adapter_digest(folder) == digest
    assert torch.allclose(run(again), run(model), atol=1e-6)


def test_new_adapter_changes_nothing_and_has_norm_zero():
    before = run(build())
    model = build()
    add_lora(model, rank=2, alpha=2.0)
    assert torch.equal(run(model), before)
    assert adapter_norm(adapter_state(model)) == 0


def test_loaded_adapter_equals_the_trained_model(trained):
    model, folder = trained
    again = build()
    info = load_adapter(again, folder)
    assert info.rank == 3
    assert torch.allclose(run(again), run(model), atol=1e-6)
    load_adapter(again, folder)  # loading again changes nothing
    assert torch.allclose(run(again), run(model), atol=1e-6)


@pytest.mark.parametrize("fusion", get_args(FusionName))
def test_adapters_load_only_with_their_fusion(fusion, tmp_path):
    model = train(build(fusion), tmp_path / "adapter")
    again = build(fusion)
    before = run(again)
    assert load_adapter(again, tmp_path / "adapter").fusion == fusion
    assert torch.allclose(run(again), run(model), atol=1e-6)
    assert (run(again) - before).abs().max() > 1e-3
    other = "width" if fusion != "width" else "height"
    with pytest.raises(ValueError, match=f"trained for fusion '{fusion}', the transformer has '{other}'"):
        load_adapter(build(other), tmp_path / "adapter")


def test_adapter_for_own_positions_does_not_load_with_shared_ones(tmp_path):
    state = adapter_state(train(build(), tmp_path / "shared"))
    save_adapter(tmp_path / "own", state, AdapterInfo(rank=3, alpha=6.0, positions="own"))
    with pytest.raises(ValueError, match="trained for positions 'own', the transformer has 'shared'"):
        load_adapter(build(), tmp_path / "own")


def test_channel_fusion_weights_are_saved_and_digested(tmp_path):
    folder = tmp_path / "adapter"
    model = train(build("channel"), folder)
    own = load_file(folder / "fusion_weights.safetensors")
    assert {key: tuple(value.shape) for key, value in own.items()} == {
        "patch_embedding.weight": (48, 72, 1, 2, 2),
        "patch_embedding.bias": (48,),
        "proj_out.weight": (128, 48),
        "proj_out.bias": (128,),
    }
    assert torch.equal(own["proj_out.weight"], model.proj_out.weight)
    assert not (folder / "learnable_domain_embeddings.safetensors").exists()
    digest = adapter_digest(folder)
    own["proj_out.bias"][0] += 1
    save_file(own, folder / "fusion_weights.safetensors")
    assert adapter_digest(folder) != digest
    del own["proj_out.bias"]
    save_file(own, folder / "fusion_weights.safetensors")
    with pytest.raises(ValueError, match=r"1 missing: proj_out\.bias$"):
        load_adapter(build("channel"), folder)


def test_fully_trained_layers_cannot_be_targets():
    add_lora(build("width"), rank=1, alpha=1.0, targets=("proj_out",))
    with pytest.raises(ValueError, match=r"targets: .*got \['proj_out'\]"):
        add_lora(build("channel"), rank=1, alpha=1.0, targets=("proj_out",))


def test_scale_zero_gives_the_base_with_domain_embeddings(trained):
    model, folder = trained
    again = build()
    load_adapter(again, folder, scale=0.0)
    plain = build()
    with torch.no_grad():
        plain.domain_embeddings.copy_(model.domain_embeddings)
    assert torch.allclose(run(again), run(plain), atol=1e-6)


def test_mismatched_keys_raise_listing_them(trained):
    _, folder = trained
    path = folder / "pytorch_lora_weights.safetensors"
    weights = load_file(path)
    weights["transformer.blocks.7.attn1.to_q.lora_A.weight"] = weights.pop(
        "transformer.blocks.0.attn1.to_q.lora_A.weight"
    )
    save_file(weights, path)
    key = r"attn1\.to_q\.lora_A\.weight"
    with pytest.raises(ValueError, match=rf"1 missing: blocks\.0\.{key}; 1 unexpected: blocks\.7\.{key}$"):
        load_adapter(build(), folder)


def test_adapter_of_another_size_raises(trained):
    _, folder = trained
    listed = (
        r"33 of another shape: blocks\.0\.attn1\.to_k\.lora_A\.weight \(expected \(3, 96\), got \(3, 48\)\), .* more"
    )
    with pytest.raises(ValueError, match=f"keys do not fit this transformer; {listed}"):
        load_adapter(SixDTransformer(**TINY | {"attention_head_dim": 48, "added_kv_proj_dim": 96}), folder)


def test_truncated_file_and_newer_schema_raise(trained):
    _, folder = trained
    info = json.loads((folder / "adapter.json").read_text())
    (folder / "adapter.json").write_text(json.dumps(info | {"schema_version": 9}))
    with pytest.raises(ValueError, match=r"schema_version: expected 1, got 9"):
        load_adapter(build(), folder)
    (folder / "adapter.json").write_text(json.dumps(info))
    path = folder / "pytorch_lora_weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated or invalid safetensors file"):
        load_adapter(build(), folder)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([], r"expected an object, got \[\]"),
        (
            {"schema_version": 1, "rank": 3, "alpha": 6.0, "statistics": [0, 1]},
            r"statistics: expected an object, got \[0, 1\]",
        ),
        ({"schema_version": 1, "rank": 3, "alpha": 6.0, "statistics": {"mean": 0}}, "'int' object is not iterable"),
    ],
)
def test_invalid_metadata_raises_naming_the_file(tmp_path, content, says):
    (tmp_path / "adapter.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"{tmp_path}/adapter\.json: {says}"):
        read_adapter_info(tmp_path)


def test_other_folders_are_not_replaced(trained, tmp_path):
    model, folder = trained
    with pytest.raises(FileExistsError, match="expected nothing, an empty folder or an adapter to replace"):
        save_adapter(folder.parent, adapter_state(model), AdapterInfo(rank=3, alpha=6.0))
    assert folder.is_dir()
    (tmp_path / "empty").mkdir()
    for _ in "12":
        assert save_adapter(tmp_path / "empty", adapter_state(model), AdapterInfo(rank=3, alpha=6.0))


def test_digest_depends_only_on_what_affects_generation(trained, tmp_path):
    model, folder = trained
    other = tmp_path / "other"
    assert save_adapter(
        other, adapter_state(model), AdapterInfo(rank=3, alpha=6.0, identity={"run": "x"})
    ) == adapter_digest(folder)
    elsewhere = AdapterInfo(rank=3, alpha=6.0, center=(0.0, 0.0, 1.0))
    assert save_adapter(tmp_path / "moved", adapter_state(model), elsewhere) != adapter_digest(folder)
    with torch.no_grad():
        model.domain_embeddings.add_(1)
    assert save_adapter(tmp_path / "third", adapter_state(model), AdapterInfo(rank=3, alpha=6.0)) != adapter_digest(
        folder
    )
