"""Lineage of a scene in a repository, an MLflow store and a Dagster instance."""

import json
import shutil
import subprocess
from pathlib import Path

import dagster as dg
import pytest
import torch
from safetensors.torch import save_file

from fourdnex import tracking
from fourdnex.cli import main
from fourdnex.datasets.worlds import render_world
from fourdnex.io.files import sha256_file, write_json
from fourdnex.lineage import Link, trace
from fourdnex.model.adapter import adapter_digest
from fourdnex.model.presets import base_digest, get_preset
from fourdnex.scene import Scene4D
from fourdnex.workspace import Workspace
from orchestration.home import open_instance

OLD, NEW = "0" * 32 + ".dir", "1" * 32 + ".dir"
MODEL_CODE = """
import mlflow

class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input

mlflow.models.set_model(Echo())
"""


def commit_data(root: Path, md5: str) -> str:
    (root / "data.dvc").write_text(f"outs:\n- md5: {md5}\n  path: data\n")
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "data.dvc"], [*who, "commit", "-q", "-m", f"Data {md5[0]}"]):
        subprocess.run(["git", "-C", str(root), *command], check=True)
    head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return head.stdout.strip()


@dg.job
def nothing():
    pass


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A repository with a newer data version, and a workspace with a run, a registered adapter and a scene."""
    root = tmp_path_factory.mktemp("repository")
    workspace = Workspace(root / "workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("DAGSTER_HOME", str(workspace.dagster_home))
        commit = commit_data(root, OLD)
        commit_data(root, NEW)
        adapter = root / "adapter"
        adapter.mkdir()
        layer = "transformer.blocks.0.attn1.to_q"
        matrices = {f"{layer}.lora_A.weight": torch.ones(2, 8), f"{layer}.lora_B.weight": torch.ones(8, 2)}
        save_file(matrices, adapter / "pytorch_lora_weights.safetensors")
        torch.save(torch.zeros(2, 8), adapter / "learnable_domain_embeddings.pt")
        digest = adapter_digest(adapter)
        write_json(root / "report.json", {"num_worlds": 1, "settings": {"adapter_digest": digest}})
        (root / "model.py").write_text(MODEL_CODE)
        with tracking.TrackingRun.start(name="lora", workspace=workspace) as run:
            pass
        tracking.register_challenger(
            adapter,
            report=root / "report.json",
            model_code=root / "model.py",
            config={},
            adapter_identity={"adapter_digest": digest},
            run_id=run.run_id,
            workspace=workspace,
        )
        with open_instance(workspace) as instance:
            dagster_run = nothing.execute_in_process(instance=instance).run_id
    inbox, scenes = workspace.inbox / "kitchen", workspace.scenes / "kitchen"
    inbox.mkdir(parents=True)
    (inbox / "pan.png").write_bytes(b"image")
    clip = render_world(3, num_frames=2, height=16, width=16)
    provenance = {
        "model": "tiny",
        "base_digest": base_digest(get_preset("tiny").location),
        "adapter_digest": digest,
        "git_commit": commit,
        "data_md5": OLD,
        "mlflow_run": run.run_id,
        "dagster_run": dagster_run,
        "image": "pan.png",
        "image_sha256": sha256_file(inbox / "pan.png"),
    }
    Scene4D(
        rgb=clip.rgb,
        depth=clip.depth,
        intrinsics=clip.intrinsics,
        camera_to_world=clip.camera_to_world,
        provenance=provenance,
    ).save(scenes / "pan")
    write_json(scenes / "collection.json", {"name": "kitchen", "source": str(inbox), "images": []})
    return root, workspace, provenance


@pytest.fixture
def traced(project, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return project


def by_name(links: list[Link]) -> dict[str, Link]:
    return {link.kind: link for link in links}


def test_every_named_item_is_found(traced):
    root, workspace, known = traced
    links = by_name(trace(workspace.scenes / "kitchen" / "pan", root=root, workspace=workspace))
    assert [name for name, link in links.items() if not link.found] == ["adapter's code", "adapter's run"]
    assert links["image"].location == str(workspace.inbox / "kitchen" / "pan.png")
    assert adapter_digest(Path(links["adapter"].location)) == known["adapter_digest"]
    assert links["model"].name == "fourdnex-adapter version 1"
    assert links["mlflow run"].location.startswith("FINISHED, lora, ")
    assert links["data"].location == f"git checkout {known['git_commit'][:7]} -- data.dvc && dvc pull"
    assert links["code"].location.endswith("Data 0")
    assert links["run"].location.startswith("SUCCESS, ")


def test_unreachable_server_loses_only_mlflow_items(traced, monkeypatch):
    root, workspace, _ = traced
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    links = by_name(trace(workspace.scenes / "kitchen" / "pan", root=root, workspace=workspace))
    for lost in ("model", "mlflow run"):
        assert not links[lost].found and "http://127.0.0.1:9: no response" in links[lost].location
    assert links["image"].found and links["base"].found and links["data"].found and links["run"].found


def test_copied_workspace_finds_its_own_files(traced, tmp_path):
    root, workspace, _ = traced
    copy = Workspace(shutil.copytree(workspace.root, tmp_path / "copy"))
    links = by_name(trace(copy.scenes / "kitchen" / "pan", root=root, workspace=copy))
    assert links["image"].location == str(copy.inbox / "kitchen" / "pan.png")
    assert Path(links["model"].location).is_relative_to(copy.root)
    shutil.rmtree(copy.mlflow_artifacts)
    links = by_name(trace(copy.scenes / "kitchen" / "pan", root=root, workspace=copy))
    assert not links["model"].found and "are missing" in links["model"].location
    assert links["mlflow run"].found


def test_missing_items_are_named_and_the_rest_is_found(traced, tmp_path, monkeypatch, capsys):
    root, workspace, known = traced
    scene = tmp_path / "scenes" / "pan"
    shutil.copytree(workspace.scenes / "kitchen", scene.parent)
    (tmp_path / "pan.png").write_bytes(b"another image")
    write_json(scene.parent / "collection.json", {"name": "kitchen", "source": str(tmp_path), "images": []})
    stored = json.loads((scene / "scene.json").read_text())
    stored["provenance"] |= {"mlflow_run": "f" * 32, "dagster_run": "none-such", "data_md5": "2" * 32 + ".dir"}
    write_json(scene / "scene.json", stored)
    links = by_name(trace(scene, root=root, workspace=workspace))
    lost = {name for name, link in links.items() if link.name and not link.found}
    assert lost == {"image", "mlflow run", "data", "run"}
    assert known["image_sha256"][:16] in links["image"].location
    monkeypatch.setenv("FOURDNEX_ROOT", str(root))
    monkeypatch.setenv("FOURDNEX_WORKSPACE", str(workspace.root))
    assert main(["lineage", str(scene)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("LOST") for line in lines) == 4
    assert sum(line.startswith("ok") for line in lines) == 4


def test_broken_adapters_do_not_hide_other_items(traced):
    """First another adapter's folder without weights, then registered files that were changed."""
    root, workspace, _ = traced
    scene = workspace.scenes / "kitchen" / "pan"
    before = by_name(trace(scene, root=root, workspace=workspace))
    write_json(workspace.adapters / "broken" / "adapter.json", {})
    weights = Path(before["adapter"].location) / "pytorch_lora_weights.safetensors"
    content = weights.read_bytes()
    try:
        assert by_name(trace(scene, root=root, workspace=workspace)) == before
        weights.write_bytes(b"damaged")
        links = by_name(trace(scene, root=root, workspace=workspace))
    finally:
        weights.write_bytes(content)
        shutil.rmtree(workspace.adapters)
    lost = {name for name, link in links.items() if link != before[name]}
    assert lost == {"adapter", "model"} and not links["adapter"].found and not links["model"].found
    assert "cannot be read: broken" in links["adapter"].location
    assert "expected the registered files of version 1" in links["model"].location


def test_invalid_commit_is_not_passed_to_git(traced, tmp_path):
    root, workspace, known = traced
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    provenance = known | {"git_commit": f"--output={victim}", "adapter_identity": {"git_commit": "HEAD"}}
    write_json(tmp_path / "scene.json", {"provenance": provenance})
    links = by_name(trace(tmp_path, root=root, workspace=workspace))
    assert victim.read_text() == "untouched"
    for link in (links["code"], links["adapter's code"]):
        assert not link.found and "expected the 7 to 64 hexadecimal digits" in link.location


def test_tracing_creates_no_files(traced, tmp_path):
    root, workspace, _ = traced
    elsewhere = Workspace(tmp_path / "other")
    links = by_name(trace(workspace.scenes / "kitchen" / "pan", root=root, workspace=elsewhere))
    assert not links["adapter"].found and not links["mlflow run"].found and not links["run"].found
    assert not elsewhere.root.exists()


def test_scene_without_provenance_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        trace(tmp_path)
    (tmp_path / "scene.json").write_text('{"provenance": 3}')
    with pytest.raises(ValueError, match="provenance: expected an object, got 3"):
        trace(tmp_path)
