import subprocess

import pytest

from fourdnex import identity
from fourdnex.pretrained import pretrained

MD5 = "0123456789abcdef0123456789abcdef.dir"


def write_dvc(root, text: str | None = None):
    (root / "data.dvc").write_text(text if text is not None else f"outs:\n- md5: {MD5}\n  path: data\n")


def test_identity_contains_data_commit_and_run(tmp_path, monkeypatch):
    write_dvc(tmp_path)
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    head = subprocess.run(["git", "-C", str(tmp_path), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    monkeypatch.setenv(identity.DAGSTER_RUN_VARIABLE, "run-1")
    found = identity.collect(root=tmp_path, adapter_digest="abc", model_version="3")
    assert found["git_commit"] == head.stdout.strip()
    assert (found["data_md5"], found["dagster_run"], found["adapter_digest"]) == (MD5, "run-1", "abc")
    assert found["base_digest"] is None
    assert found["model_version"] == "3"


def test_passed_values_override_lookups_even_none(tmp_path):
    write_dvc(tmp_path)
    assert identity.collect(root=tmp_path, data_md5="other")["data_md5"] == "other"
    assert identity.collect(root=tmp_path, data_md5=None)["data_md5"] is None


def test_only_the_tracked_folder_has_the_data_version(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    assert identity.data_md5_of(tmp_path / "data", root=tmp_path) is None
    write_dvc(tmp_path)
    (tmp_path / "link").symlink_to("data")
    monkeypatch.chdir(tmp_path / "data")
    for same in (tmp_path / "data", tmp_path / "link", "../data", "."):
        assert identity.data_md5_of(same, root=tmp_path) == MD5
    assert identity.data_md5_of(tmp_path / "worlds", root=tmp_path) is None


def test_values_are_none_outside_a_repository(tmp_path, monkeypatch):
    monkeypatch.delenv(identity.DAGSTER_RUN_VARIABLE, raising=False)
    assert set(identity.collect(root=tmp_path).values()) == {None}


@pytest.mark.parametrize("text", ["", "outs: []", "outs:\n- path: data\n", "outs: [", "- 1", "outs:\n- md5: 5\n"])
def test_invalid_data_dvc_raises(tmp_path, text):
    write_dvc(tmp_path, text)
    with pytest.raises(ValueError, match=r"data\.dvc.*md5"):
        identity.data_md5(tmp_path)


def test_missing_data_dvc_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data\.dvc"):
        identity.data_md5(tmp_path)


def test_home_folder_is_expanded_in_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FOURDNEX_ROOT", "~/checkout")
    monkeypatch.setenv("FOURDNEX_MODELS", "~/models")
    (tmp_path / "models" / "fourdnex-tiny").mkdir(parents=True)
    assert identity.repository_root() == (tmp_path / "checkout").resolve()
    assert pretrained("fourdnex-tiny") == tmp_path / "models" / "fourdnex-tiny"
