"""Fixtures of the graph: definitions, instances, projects and adapters."""

import shutil
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import psutil
import pytest

from fourdnex import tracking
from fourdnex.identity import data_md5
from fourdnex.workspace import Workspace
from orchestration.project import Project

MD5 = "0123456789abcdef0123456789abcdef.dir"


@pytest.fixture(scope="session")
def orchestration_defs() -> dg.Definitions:
    from orchestration.definitions import defs

    return defs()


@pytest.fixture
def load_defs(monkeypatch):
    """Loads the definitions with the environment variables of a project."""

    def load(project: Project) -> dg.Definitions:
        from orchestration.definitions import defs

        monkeypatch.setenv("FOURDNEX_ROOT", project.root)
        monkeypatch.setenv("FOURDNEX_WORKSPACE", project.workspace_dir)
        monkeypatch.setenv("FOURDNEX_MODEL", project.model)
        monkeypatch.setenv("FOURDNEX_DEPTH_NETWORK", project.depth_network or "")
        monkeypatch.setenv("FOURDNEX_EVALUATION_WORLDS", str(project.evaluation_worlds))
        return defs()

    return load


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture(scope="session")
def is_alive() -> Callable[[int], bool]:
    """Whether a process is running; a zombie is not."""

    def check(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:  # it may end during the check
            return False

    return check


@pytest.fixture(scope="session")
def write_adapter():
    """Writes an adapter of random weights for a base in the Diffusers layout; returns its folder."""

    def write(folder: Path, base: Path, **recipe: str) -> Path:
        import torch
        from diffusers import WanTransformer3DModel

        from fourdnex.model.adapter import AdapterInfo, adapter_state, add_lora, save_adapter
        from fourdnex.model.presets import base_digest, get_preset
        from fourdnex.model.transformer import SixDTransformer

        torch.manual_seed(0)
        transformer = SixDTransformer.from_base(WanTransformer3DModel.from_pretrained(base, subfolder="transformer"))
        add_lora(transformer, rank=2, alpha=2.0)
        state = {key: value + 0.01 * torch.randn_like(value) for key, value in adapter_state(transformer).items()}
        preset = get_preset(str(base))
        info = AdapterInfo(
            rank=2,
            alpha=2.0,
            base_name=preset.name,
            base_digest=base_digest(preset.location),
            center=(0.0, 0.0, 5.0),
            num_frames=preset.num_frames,
            height=preset.height,
            width=preset.width,
            **recipe,
        )
        save_adapter(folder, state, info)
        return folder

    return write


@pytest.fixture(scope="session")
def write_manifest():
    return _write_manifest


@pytest.fixture(scope="session")
def dvc_template(tmp_path_factory) -> Path:
    """A small data set under DVC, without Git; copied for each test, because DVC is slow."""
    from dvc.repo import Repo

    root = tmp_path_factory.mktemp("dvc")
    _write_manifest(root / "data", {"worlds-0000": 2, "worlds-0001": 1})
    (root / "data" / "LICENSES.md").write_text("ours")
    with Repo.init(str(root), no_scm=True) as repo:
        repo.add(str(root / "data"))
    return root


@pytest.fixture
def dvc_project(dvc_template, tmp_path) -> tuple[Project, str]:
    root = tmp_path / "repository"
    shutil.copytree(dvc_template, root)
    return Project(root=str(root), workspace_dir=str(tmp_path / "workspace")), data_md5(root)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    """A repository with a data.dvc and a manifest of two shards."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "data.dvc").write_text(f"outs:\n- md5: {MD5}\n  path: data\n")
    _write_manifest(tmp_path / "data", {"worlds-0000": 2, "worlds-0001": 1})
    return Project(root=str(tmp_path), workspace_dir=str(tmp_path / "workspace"))


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory) -> Path:
    """MLflow's database with all its tables: creating one takes seconds, copying it does not."""
    workspace = Workspace(tmp_path_factory.mktemp("migrated"))
    with tracking.TrackingRun.start("first", workspace=workspace):
        return workspace.mlflow_database


@pytest.fixture
def tracked_project(project, migrated_database) -> Project:
    target = project.workspace.mlflow_database
    target.parent.mkdir(parents=True)
    shutil.copyfile(migrated_database, target)
    return project


def _write_manifest(data: Path, shards: dict[str, int]) -> None:
    from fourdnex.datasets import manifest

    rows = [
        {
            "name": f"{shard}-{number}",
            "shard": shard,
            "subset": "worlds",
            "num_frames": 17,
            "height": 64,
            "width": 96,
            "fps": 24.0,
            "caption": "",
            "tags": [],
            "source": "",
            "license": "",
            "sha256": "0" * 64,
        }
        for shard, count in shards.items()
        for number in range(count)
    ]
    data.mkdir(parents=True, exist_ok=True)
    manifest.write_manifest(data, rows)
