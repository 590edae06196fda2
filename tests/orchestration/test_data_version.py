"""New videos as new shards and as a new version, with a real Git and DVC repository."""

import subprocess
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from fourdnex.datasets.check import check_data
from fourdnex.datasets.manifest import list_shards, write_manifest
from fourdnex.datasets.shards import write_shard
from fourdnex.datasets.worlds import render_world
from fourdnex.identity import data_md5, git_commit
from fourdnex.io.video import write_video
from orchestration.data_state import DataStateError, run_dvc
from orchestration.data_version import commit_data, find_batches
from orchestration.project import Project


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=Test", "-c", "user.email=test@example.com", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def moving(seed: int, count: int = 17) -> np.ndarray:
    """A texture that moves, as a video without cuts [T, 64, 96, 3]."""
    texture = np.random.default_rng(seed).integers(0, 255, (8, 16, 3), np.uint8).repeat(12, 0).repeat(12, 1)
    return np.stack([texture[t : t + 64, 2 * t : 2 * t + 96] for t in range(count)])


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A repository with a data set of one shard, and a DVC remote inside the repository."""
    root = tmp_path_factory.mktemp("version") / "repository"
    clip = render_world(100_000, num_frames=17, height=32, width=48)
    write_manifest(root / "data", write_shard(root / "data", "worlds-0000", [clip]))
    (root / "data-remote").mkdir()
    git(root, "init", "--quiet")
    git(root, "config", "user.name", "Test")
    git(root, "config", "user.email", "test@example.com")
    run_dvc(root, "init", "--quiet", "--no-scm")
    (root / ".dvc" / "config").write_text(
        "[core]\n    remote = files\n['remote \"files\"']\n    url = ../data-remote\n"
    )
    run_dvc(root, "add", "data")
    run_dvc(root, "push")
    (root / ".gitignore").write_text("/data\n/.dvc/tmp\n/.dvc/cache\n/workspace\n")
    git(root, "add", "-A")
    git(root, "commit", "--quiet", "-m", "Start")
    return root


@pytest.fixture
def project(template, tmp_path) -> Project:
    root = tmp_path / "repository"
    subprocess.run(["cp", "-r", str(template), str(root)], check=True)
    return Project(root=str(root), workspace_dir=str(root / "workspace"))


def add_video(project: Project, batch: str, seed: int = 1) -> Path:
    folder = project.workspace.videos / batch
    folder.mkdir(parents=True)
    write_video(folder / "walk.mkv", moving(seed), fps=24)
    return folder


def run(project: Project, load_defs, instance, **options):
    return load_defs(project).resolve_job_def("add_videos").execute_in_process(instance=instance, **options)


def test_new_videos_become_new_shards_and_a_commit(project, load_defs, instance, monkeypatch):
    monkeypatch.setattr("orchestration.defs.dataset.versions.find_batches",
                        lambda *args: find_batches(*args, settle_seconds=0))  # fmt: skip
    root = Path(project.root)
    shard = (project.data_dir / "shards" / "worlds-0000.tar").read_bytes()
    add_video(project, "day 1")
    broken = project.workspace.videos / "broken"
    broken.mkdir()
    (broken / "no.mp4").write_text("no video")
    (root / "mine.txt").write_text("mine")
    git(root, "add", "mine.txt")
    before = git_commit(root), data_md5(root)
    result = run(project, load_defs, instance)
    assert (
        list_shards(project.data_dir) == ["worlds-0000", "day-1-0000"] and check_data(project.data_dir).problems == ()
    )
    assert (project.data_dir / "shards" / "worlds-0000.tar").read_bytes() == shard
    (event,) = result.asset_materializations_for_node("dataset_version")
    assert event.metadata["data_md5"].value == data_md5(root) != before[1]
    assert event.metadata["commit"].value == git_commit(root) != before[0]
    changed = git(root, "show", "--stat=200", "--format=%s").splitlines()
    assert changed[0] == "Data set of 2 clips in 2 shards" and any("data.dvc" in line for line in changed)
    assert not any("mine.txt" in line for line in changed) and "A  mine.txt" in git(root, "status", "--porcelain")
    (event,) = result.asset_materializations_for_node("new_clips")
    assert "broken" in str(event.metadata["failures"].value)
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed and "broken: " in check.description
    again = run(project, load_defs, instance)
    (event,) = again.asset_materializations_for_node("dataset_version")
    assert event.metadata["commit"].value == "nothing to commit"


def test_a_failed_push_leaves_the_former_version(project):
    root = Path(project.root)
    before = (root / "data.dvc").read_bytes(), git_commit(root)
    (project.data_dir / "LICENSES.md").write_text("new")
    (root / ".dvc" / "config").write_text("")
    with pytest.raises(DataStateError, match="dvc push"):
        commit_data(root, "New")
    assert ((root / "data.dvc").read_bytes(), git_commit(root)) == before


def test_batches_wait_with_the_reason(project):
    add_video(project, "new")
    add_video(project, "worlds")
    (project.workspace.videos / "empty").mkdir()
    batches = find_batches(project.workspace.videos, project.data_dir)
    assert batches.ready == () and dict(batches.waiting) == {
        "empty": "no files in this folder",
        "new": "changed less than 60 seconds ago",
        "worlds": "other shards of the data set have this name: rename the folder",
    }
    batches = find_batches(project.workspace.videos, project.data_dir, settle_seconds=0)
    assert [batch.name for batch in batches.ready] == ["new"]


def test_the_sensor_names_what_waits(project, load_defs, instance):
    definitions = load_defs(project)
    sensor = definitions.get_sensor_def("new_videos")
    context = dg.build_sensor_context(instance=instance, resources={"project": project})
    assert "no new folder" in sensor(context).skip_message
    add_video(project, "new")
    assert sensor(context).skip_message == "new: changed less than 60 seconds ago"
