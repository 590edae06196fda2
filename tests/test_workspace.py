"""Paths of the workspace."""

from pathlib import Path

from fourdnex.workspace import Workspace


def test_variable_sets_the_workspace(monkeypatch, tmp_path):
    monkeypatch.setenv("FOURDNEX_WORKSPACE", str(tmp_path / "elsewhere"))
    assert Workspace.default().annotated == tmp_path / "elsewhere" / "annotated"


def test_default_workspace_is_in_the_current_directory(monkeypatch, tmp_path):
    monkeypatch.delenv("FOURDNEX_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert Workspace.default().root == tmp_path / "workspace"


def test_paths_create_no_files(tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    paths = [getattr(workspace, name) for name in dir(Workspace) if isinstance(getattr(Workspace, name), property)]
    assert all(isinstance(path, Path) and workspace.root in path.parents for path in paths)
    assert list(tmp_path.iterdir()) == []
