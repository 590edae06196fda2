"""The reference 4DNeX pair of adapter files, as written by diffusers and torch: loads without executing anything."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from diffusers import WanImageToVideoPipeline
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file

from fourdnex.cli import main
from fourdnex.model.adapter import (
    ADAPTER_NAME,
    AdapterInfo,
    adapter_state,
    add_lora,
    check_adapter,
    load_adapter,
    save_adapter,
)
from fourdnex.model.base_components import component_configs, meta_transformer
from fourdnex.model.checkpoint_conversion import import_adapter
from fourdnex.model.presets import get_preset
from fourdnex.model.transformer import SixDTransformer

TINY = json.loads((Path(__file__).parent.parent / "golden" / "transformer_config.json").read_text())
DOMAIN = "learnable_domain_embeddings.pt"


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
def trained() -> SixDTransformer:
    model = build()
    add_lora(model, rank=64, alpha=32.0)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.normal_(std=0.1)
    return model


@pytest.fixture
def reference(trained, tmp_path) -> Path:
    """The pair as written by the reference trainer, with diffusers and `torch.save`."""
    folder = tmp_path / "4dnex-lora"
    WanImageToVideoPipeline.save_lora_weights(folder, get_peft_model_state_dict(trained, adapter_name=ADAPTER_NAME))
    torch.save(trained.domain_embeddings.detach().clone(), folder / DOMAIN)
    assert sorted(path.name for path in folder.iterdir()) == [DOMAIN, "pytorch_lora_weights.safetensors"]
    return folder


def test_loads_with_alpha_32_of_rank_64(trained, reference, tmp_path):
    info = load_adapter(model := build(), reference)
    assert (info.rank, info.alpha, info.fusion) == (64, 32.0, "width")
    assert (info.statistics.mean, info.statistics.std) == ((-0.13,), (1.7,))
    assert (info.num_frames, info.height, info.width) == (49, 480, 720)
    assert torch.allclose(run(model), run(trained), atol=1e-6)
    # independent computation: half of B·A added to every target of a model without adapter
    plain, state = build(), adapter_state(trained)
    with torch.no_grad():
        plain.domain_embeddings.copy_(trained.domain_embeddings)
        for block in range(2):
            for name in ("to_q", "to_k", "to_v", "to_out.0"):
                for attention in ("attn1", "attn2"):
                    layer = f"blocks.{block}.{attention}.{name}"
                    update = state[f"{layer}.lora_B.weight"] @ state[f"{layer}.lora_A.weight"]
                    plain.get_submodule(layer).weight.add_(0.5 * update)
    assert torch.allclose(run(model), run(plain), atol=1e-4)


def test_domain_embeddings_may_be_a_dictionary_or_a_parameter(trained, reference):
    for saved in (
        {"learnable_domain_embeddings": trained.domain_embeddings.detach()},
        torch.nn.Parameter(trained.domain_embeddings.detach()),
        trained.domain_embeddings.detach().bfloat16(),
    ):
        torch.save(saved, reference / DOMAIN)
        load_adapter(model := build(), reference)
        assert torch.allclose(model.domain_embeddings, trained.domain_embeddings, atol=1e-3)


class Evil:
    """Creates a file when unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
@pytest.mark.parametrize("wrap", [lambda evil: evil, lambda evil: {"learnable_domain_embeddings": evil}])
def test_executable_pickle_raises(reference, tmp_path, write, wrap):
    write(wrap(Evil(tmp_path / "touched")), reference / DOMAIN)
    with pytest.raises(ValueError, match=rf"{DOMAIN}: expected one saved tensor without executable content"):
        load_adapter(build(), reference)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("saved", "got"),
    [
        ({"a": torch.zeros(2, 48), "b": torch.zeros(2, 48)}, r"a dictionary with keys \['a', 'b'\]"),
        ({}, r"a dictionary with keys \[\]"),
        ({"a": [1.0]}, r"a dictionary with keys \['a'\]"),
        ([torch.zeros(2, 48)], "a list"),
        (torch.zeros(2, 48, dtype=torch.int64), "a torch.int64 tensor"),
    ],
)
def test_other_contents_raise(reference, saved, got):
    torch.save(saved, reference / DOMAIN)
    with pytest.raises(ValueError, match=f"expected one floating-point tensor, or a dictionary with one, got {got}"):
        load_adapter(build(), reference)


def test_truncated_empty_or_mismatched_domain_file_raises(reference):
    whole = (reference / DOMAIN).read_bytes()
    for part in (whole[: len(whole) // 2], b"", b"not a pickle"):
        (reference / DOMAIN).write_bytes(part)
        with pytest.raises(ValueError, match="expected one saved tensor"):
            load_adapter(build(), reference)
    torch.save(torch.zeros(2, 50), reference / DOMAIN)
    with pytest.raises(ValueError, match=r"domain_embeddings \(expected \(2, 48\), got \(2, 50\)\)"):
        load_adapter(build(), reference)


def test_missing_file_of_the_pair_raises(reference):
    (reference / DOMAIN).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{DOMAIN} is missing"):
        load_adapter(build(), reference)


def test_adapter_folder_and_reference_pair_hold_the_same_matrices(trained, reference, tmp_path):
    save_adapter(tmp_path / "ours", adapter_state(trained), AdapterInfo(rank=64, alpha=32.0))
    ours, theirs = (load_file(folder / "pytorch_lora_weights.safetensors") for folder in (tmp_path / "ours", reference))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.fixture
def base(tmp_path) -> Path:
    """A base with configurations only: importing needs no weights."""
    folder = tmp_path / "base"
    for part in ("transformer", "text_encoder", "image_encoder", "vae"):
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(TINY if part == "transformer" else {}))
    (folder / "model_index.json").write_text("{}")
    return folder


def test_import_writes_an_equivalent_adapter_folder(reference, base, tmp_path, capsys):
    out = tmp_path / "imported"
    assert main(["import-adapter", str(reference), str(out), "--model", str(base)]) == 0
    output = capsys.readouterr().out
    assert "LoRA of rank 64 on 16 layers at scale 0.5" in output and "mean -0.13" in output and "1.7" in output
    assert {path.suffix for path in out.iterdir()} == {".json", ".safetensors"}
    theirs, ours = build(), build()
    load_adapter(theirs, reference)
    info = load_adapter(ours, out)
    assert torch.equal(run(ours), run(theirs))
    assert (info.base_name, info.normalization, info.statistics_from) == ("base", "frame", "reference")
    assert info.identity["imported_sha256"].keys() == {"pytorch_lora_weights.safetensors", DOMAIN}


def test_import_of_a_mismatched_adapter_raises_and_writes_nothing(reference, base, tmp_path, capsys):
    out = tmp_path / "imported"
    assert main(["import-adapter", str(reference), str(out)]) == 2  # the 14 B base: 40 blocks, 5,120 wide
    message = capsys.readouterr().err
    # 38 more blocks of 8 layers with two matrices each; 33 tensors of another shape
    assert "608 missing: blocks.10.attn1.to_k.lora_A.weight" in message
    assert "33 of another shape: blocks.0.attn1.to_k.lora_A.weight (expected (64, 5120), got (64, 48))" in message
    assert not out.exists()


def test_import_of_or_over_an_adapter_folder_raises(reference, base, tmp_path):
    out = tmp_path / "imported"
    import_adapter(reference, out, model=str(base))
    with pytest.raises(FileExistsError, match="imported: expected a new folder"):
        import_adapter(reference, out, model=str(base))
    with pytest.raises(
        ValueError, match=r"expected the reference implementation's pair of files, got an adapter folder"
    ):
        import_adapter(out, tmp_path / "again", model=str(base))


def test_reference_keys_match_the_published_base():
    """The 14 B transformer accepts exactly the 640 matrices of rank 64 and the domain embeddings."""
    with torch.device("meta"):
        state = {
            f"blocks.{block}.{attention}.{name}.lora_{side}.weight": torch.empty(
                (64, 5120) if side == "A" else (5120, 64)
            )
            for block in range(40)
            for attention in ("attn1", "attn2")
            for name in ("to_q", "to_k", "to_v", "to_out.0")
            for side in "AB"
        }
        state["patch_embedding.domain_embeddings"] = torch.empty(2, 5120)
    config = component_configs(get_preset("wan2.1-i2v-14b-480p"))["transformer"]
    transformer = meta_transformer(config, dtype=torch.bfloat16)
    assert len(check_adapter(transformer, state, AdapterInfo(rank=64, alpha=32.0))) == 320
