"""The doctor finds what is missing, and says what to do."""

import shutil

import pytest

from fourdnex import doctor
from fourdnex.identity import data_md5, repository_root
from fourdnex.workspace import Workspace


def finding(findings, what):
    return next(found for found in findings if found.what == what)


def test_a_sound_base_and_a_cut_one(random_base, tmp_path):
    def base(folder):
        return finding(doctor.examine(root=tmp_path, workspace=Workspace(tmp_path), model=str(folder)), "base model")

    assert base(random_base).ok
    copy = tmp_path / random_base.name
    shutil.copytree(random_base, copy)
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert not base(copy).ok and "vae" in base(copy).found
    shutil.rmtree(copy / "transformer")
    assert "missing transformer" in base(copy).found


def test_missing_data_is_named(tmp_path, random_base):
    found = finding(doctor.examine(root=tmp_path, workspace=Workspace(tmp_path), model=str(random_base)), "data")
    assert not found.ok and "data.dvc" in found.found


def test_the_folder_md5_is_that_of_dvc():
    """`dvc add` wrote data.dvc; the data set it names has that md5 by our count too."""
    root = repository_root()
    if not (root / "data" / "manifest.parquet").is_file():
        pytest.skip("data/ is not here: run `dvc pull`")
    assert doctor.folder_md5(root / "data") == data_md5(root)
