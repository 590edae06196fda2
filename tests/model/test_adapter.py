"""Adapter folders: what is saved is what loads, and what does not fit is refused by name."""

import json

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
    save_adapter,
)
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


def build() -> SixDTransformer:
    torch.manual_seed(1)
    return SixDTransformer(**TINY)


def run(model: SixDTransformer) -> torch.Tensor:
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        return model.eval()(
            torch.randn(1, 36, 2, 4, 8, generator=g),
            timestep=torch.tensor([500.0]),
            encoder_hidden_states=torch.randn(1, 512, 32, generator=g),
            encoder_hidden_states_image=torch.randn(1, 5, 32, generator=g),
        ).sample


@pytest.fixture
def trained(tmp_path):
    """A transformer with a random adapter, and the folder it was saved to."""
    model = build()
    add_lora(model, rank=3, alpha=6.0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.requires_grad:
                value.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
    save_adapter(tmp_path / "adapter", adapter_state(model), AdapterInfo(rank=3, alpha=6.0))
    return model, tmp_path / "adapter"


def test_only_lora_and_domain_embeddings_train():
    model = build()
    add_lora(model, rank=2, alpha=2.0)
    names = {name for name, value in model.named_parameters() if value.requires_grad}
    assert "patch_embedding.domain_embeddings" in names
    # 2 blocks, self- and cross-attention, four projections each, A and B; and the domain embeddings
    assert len(names) == 2 * 2 * 4 * 2 + 1


def test_any_linear_layers_can_be_targets_and_come_back(tmp_path):
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
def test_targets_that_match_nothing_are_named_beside_what_there_is(targets, wrong):
    with pytest.raises(ValueError, match=rf"targets: expected .*attn1\.to_q, .*ffn\.net\.2, .*got {wrong}"):
        add_lora(build(), rank=2, alpha=2.0, targets=targets)


def test_rank_zero_is_refused():
    with pytest.raises(ValueError, match="rank: expected at least 1, got 0"):
        add_lora(build(), rank=0, alpha=1.0)


def test_an_adapter_from_before_targets_were_written_still_loads(trained):
    model, folder = trained
    digest = adapter_digest(folder)
    info = json.loads((folder / "adapter.json").read_text())
    del info["targets"]
    (folder / "adapter.json").write_text(json.dumps(info))
    again = build()
    assert load_adapter(again, folder).targets == ("to_q", "to_k", "to_v", "to_out.0")
    assert adapter_digest(folder) == digest
    assert torch.allclose(run(again), run(model), atol=1e-6)


def test_a_fresh_adapter_changes_nothing_and_has_norm_zero():
    before = run(build())
    model = build()
    add_lora(model, rank=2, alpha=2.0)
    assert torch.equal(run(model), before)
    assert adapter_norm(adapter_state(model)) == 0


def test_a_loaded_adapter_computes_what_the_trained_model_computes(trained):
    model, folder = trained
    again = build()
    info = load_adapter(again, folder)
    assert info.rank == 3
    assert torch.allclose(run(again), run(model), atol=1e-6)
    load_adapter(again, folder)  # twice is once
    assert torch.allclose(run(again), run(model), atol=1e-6)


def test_scale_zero_leaves_the_base_and_its_domains(trained):
    model, folder = trained
    again = build()
    load_adapter(again, folder, scale=0.0)
    plain = build()
    with torch.no_grad():
        plain.domain_embeddings.copy_(model.domain_embeddings)
    assert torch.allclose(run(again), run(plain), atol=1e-6)


def test_the_public_pair_of_files_loads_at_half_scale(trained, tmp_path):
    model, folder = trained
    public = tmp_path / "public"
    public.mkdir()
    save_file(load_file(folder / "pytorch_lora_weights.safetensors"), public / "pytorch_lora_weights.safetensors")
    torch.save(model.domain_embeddings.detach(), public / "learnable_domain_embeddings.pt")
    one, other = build(), build()
    load_adapter(one, public)
    load_adapter(other, folder, scale=0.5)
    assert torch.allclose(run(one), run(other), atol=1e-6)


def test_a_pickle_that_would_execute_is_refused(trained, tmp_path):
    import pickle

    _, folder = trained
    (folder / "learnable_domain_embeddings.safetensors").unlink()

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "touched"), "w"))

    with open(folder / "learnable_domain_embeddings.pt", "wb") as file:
        pickle.dump(Evil(), file)
    with pytest.raises(pickle.UnpicklingError):
        load_adapter(build(), folder)
    assert not (tmp_path / "touched").exists()


def test_keys_that_do_not_fit_are_listed(trained):
    _, folder = trained
    path = folder / "pytorch_lora_weights.safetensors"
    weights = load_file(path)
    weights["transformer.blocks.7.attn1.to_q.lora_A.weight"] = weights.pop(
        "transformer.blocks.0.attn1.to_q.lora_A.weight"
    )
    save_file(weights, path)
    with pytest.raises(
        ValueError, match=r"blocks\.7\.attn1\.to_q: no such layer.*blocks\.0\.attn1\.to_q: one of lora_A and lora_B"
    ):
        load_adapter(build(), folder)


def test_an_adapter_of_another_size_is_refused(trained):
    _, folder = trained
    with pytest.raises(ValueError, match=r"keys do not fit"):
        load_adapter(SixDTransformer(**TINY | {"attention_head_dim": 48, "added_kv_proj_dim": 96}), folder)


def test_a_cut_file_and_a_newer_schema_are_refused(trained):
    _, folder = trained
    info = json.loads((folder / "adapter.json").read_text())
    (folder / "adapter.json").write_text(json.dumps(info | {"schema_version": 9}))
    with pytest.raises(ValueError, match=r"schema_version: expected 1, got 9"):
        load_adapter(build(), folder)
    (folder / "adapter.json").write_text(json.dumps(info))
    path = folder / "pytorch_lora_weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_adapter(build(), folder)


def test_digest_follows_what_changes_the_outcome_and_nothing_else(trained, tmp_path):
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
