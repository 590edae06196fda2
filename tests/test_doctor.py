"""The doctor reports missing or damaged parts, and what to do."""

import shutil

import pytest

from fourdnex import doctor
from fourdnex.identity import data_md5, repository_root
from fourdnex.workspace import Workspace


def finding(findings, check):
    return next(found for found in findings if found.check == check)


def test_intact_and_truncated_base(random_base, tmp_path):
    def base(folder):
        return finding(doctor.examine(root=tmp_path, workspace=Workspace(tmp_path), model=str(folder)), "base model")

    assert base(random_base).ok
    copy = tmp_path / random_base.name
    shutil.copytree(random_base, copy)
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert not base(copy).ok and "vae" in base(copy).detail
    shutil.rmtree(copy / "transformer")
    assert "missing transformer" in base(copy).detail


def test_missing_data_is_reported(tmp_path, random_base):
    found = finding(doctor.examine(root=tmp_path, workspace=Workspace(tmp_path), model=str(random_base)), "data")
    assert not found.ok and "data.dvc" in found.detail


def test_folder_md5_equals_that_of_dvc():
    """`folder_md5` of the data set equals the md5 that `dvc add` wrote to data.dvc."""
    root = repository_root()
    if not (root / "data" / "manifest.parquet").is_file():
        pytest.skip("data/ is missing: run `dvc pull`")
    assert doctor.folder_md5(root / "data") == data_md5(root)
