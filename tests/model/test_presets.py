"""Presets: names, folders, and the digest that ties an adapter to its base."""

import json
import os

import pytest

from fourdnex.io.files import sha256_file
from fourdnex.model.presets import base_digest, get_preset
from fourdnex.pretrained import VARIABLE


@pytest.fixture
def base(tmp_path):
    """A base folder, with some files that the digest ignores."""
    return make(tmp_path / "fourdnex-tiny-a")


def make(folder):
    (folder / "vae").mkdir(parents=True)
    (folder / "training").mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "WanImageToVideoPipeline"}))
    (folder / "vae" / "weights.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text("about")
    (folder / "training" / "transformer.json").write_text("{}")
    return folder


def test_large_preset_matches_the_paper():
    preset = get_preset("wan2.1-i2v-14b-480p")
    assert (preset.num_frames, preset.height, preset.width, preset.fps) == (49, 480, 720, 24.0)
    assert not preset.is_local


def test_variable_locates_the_tiny_base(tmp_path, monkeypatch):
    make(tmp_path / "fourdnex-tiny")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    preset = get_preset("tiny")
    assert preset.is_local
    assert preset.location == str(tmp_path / "fourdnex-tiny")
    assert (preset.num_frames, preset.height, preset.width) == (17, 64, 96)


def test_missing_tiny_base_raises_naming_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"not at {tmp_path}.*set {VARIABLE}"):
        get_preset("tiny")


@pytest.mark.parametrize(("heads", "head_dim", "height"), [(4, 48, 64), (12, 128, 480), (40, 128, 480)])
def test_size_of_a_folder_follows_from_the_transformer_width(tmp_path, heads, head_dim, height):
    folder = make(tmp_path / "my-base")
    (folder / "transformer").mkdir()
    config = {"num_attention_heads": heads, "attention_head_dim": head_dim}
    (folder / "transformer" / "config.json").write_text(json.dumps(config))
    preset = get_preset(folder)
    assert (preset.name, preset.location, preset.height) == ("my-base", str(folder), height)


def test_unknown_names_raise_listing_the_presets(tmp_path):
    names = r"\['tiny', 'wan2.1-fun-1.3b-inp', 'wan2.1-i2v-14b-480p'\]"
    with pytest.raises(ValueError, match=rf"expected one of {names} or a folder.*got 'huge'"):
        get_preset("huge")
    with pytest.raises(ValueError, match=r"folder with model_index\.json"):
        get_preset(tmp_path)


def test_digest_depends_on_names_and_contents_of_the_base(base, tmp_path):
    digest = base_digest(str(base))
    assert len(digest) == 64
    assert base_digest(str(make(tmp_path / "copy"))) == digest

    documented = make(tmp_path / "documented")
    (documented / "README.md").write_text("more about it")
    (documented / "training" / "transformer.json").write_text('{"loss": 1}')
    assert base_digest(str(documented)) == digest

    changed = make(tmp_path / "changed")
    (changed / "vae" / "weights.safetensors").write_bytes(b"weightz")
    renamed = make(tmp_path / "renamed")
    (renamed / "vae" / "weights.safetensors").rename(renamed / "vae" / "other.safetensors")
    configured = make(tmp_path / "configured")
    (configured / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"}))
    others = [base_digest(str(folder)) for folder in (changed, renamed, configured)]
    assert len({digest, *others}) == 4


def test_digest_of_a_base_below_a_folder_named_training(base, tmp_path):
    below = make(tmp_path / "training" / "fourdnex-tiny")
    assert base_digest(str(below)) == base_digest(str(base))
    (tmp_path / "training" / "empty").mkdir()
    assert base_digest(str(below)) != base_digest(str(tmp_path / "training" / "empty"))


def test_digests_of_large_files_are_cached_until_they_change(base, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    weights = base / "vae" / "large.safetensors"
    with open(weights, "wb") as file:
        file.truncate(2**26)

    def digest() -> str:
        base_digest.cache_clear()  # as in another process
        return base_digest(str(base))

    first = digest()
    (cached,) = (tmp_path / "cache" / "fourdnex" / "sha256").iterdir()  # of the large file only
    assert cached.read_text() == sha256_file(weights)
    cached.write_text("0" * 64)
    assert digest() != first  # the cached value is used
    cached.write_bytes(bytes(64))
    assert digest() == first and cached.read_text() == sha256_file(weights)
    times = weights.stat()
    with open(weights, "r+b") as file:
        file.write(b"other")
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digest() != first


def test_digest_of_a_hub_id_is_the_id():
    assert base_digest("Wan-AI/Wan2.1") == "hub:Wan-AI/Wan2.1"
